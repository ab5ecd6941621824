"""A folder of made-up results for tests/test_page.py, each number chosen so that the page's can be worked by hand."""

from pathlib import Path
from typing import Any, cast

import numpy as np

from kr_text.evaluation.label_matrices import LabelMatrices
from kr_text.evaluation.metrics import confusion_matrix
from kr_text.experiments.predictions import compact
from kr_text.experiments.results import add_result
from kr_text.experiments.run import Line, Run
from kr_text.training.report import Report

CLASSES = ["World", "Sports", "<i>Business</i>", "Sci|Tech"]
NUM_ROWS = 200
LABELS = np.arange(NUM_ROWS) % 4
ENVIRONMENT = {
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "platform": "Linux x86_64",
    "num_cores": 2,
    "num_threads": 1,
    "accelerator": None,
}
LEARNED = [[0.0, 0.5, 0.3, 0.2], [0.5, 0.0, 0.3, 0.2], [0.2, 0.3, 0.0, 0.5], [0.2, 0.3, 0.5, 0.0]]


def add(folder: Path, run: Run, num_wrong: int, **changes: Any) -> None:
    """Adds the result of a run that has its first `num_wrong` of 200 rows wrong; `changes` are fields of its line."""
    predicted = (LABELS + (np.arange(NUM_ROWS) < num_wrong)) % 4
    probabilities = np.full((NUM_ROWS, 4), 0.1)
    probabilities[np.arange(NUM_ROWS), predicted] = 0.7
    report = {**made_up_report(run, num_wrong), **changes.pop("report", {})}
    report["confusion_matrix"] = confusion_matrix(probabilities, LABELS, 4).tolist()
    line: dict[str, Any] = {"key": run.key, "run": run.given(), "commit": "abc123", "report": report}
    line |= {"wrong_labels": None, "teacher": None, "predictions": compact(probabilities, LABELS), **changes}
    add_result(folder, cast(Line, line))


def made_up_report(run: Run, num_wrong: int) -> Report:
    """A report with this many wrong test rows; one second of training and 500 MB."""
    error = 100 * num_wrong / NUM_ROWS
    metrics = {"error_rate": error, "macro_f1": 0.5, "nll": 0.6, "brier_score": 0.4, "ece": 0.2, "aurc": 0.1}
    report: dict[str, Any] = {
        "command": "kr-text train",
        "model": {"name": run.model, "num_parameters": 1000},
        "dataset": {
            "name": run.dataset,
            "class_names": CLASSES,
            "num_train_rows": run.max_train_rows or 5000,
            "num_validation_rows": 100,
            "num_test_rows": NUM_ROWS,
        },
        "loss": {"name": run.loss, "settings": {}},
        "seed": run.seed,
        "device": "cpu",
        "hyper_parameters": {},
        "best_epoch": 2.0,
        "epochs": [_epoch(1.0, 40.0), _epoch(2.0, error)],
        "validation_metrics": metrics,
        "test_metrics": metrics,
        "temperature_scaling": {"temperature": 1.25, "test_metrics": metrics | {"nll": 0.5, "ece": 0.05}},
        "residual_labels": LEARNED if run.loss.startswith("kr") else None,
        "label_matrices": made_up_matrices(run.loss) if run.label_matrices else None,
        "wall_time_seconds": {"total": 3.0, "training": 1.0, "evaluation": 0.5},
        "peak_memory_mb": {"process": 500.0, "largest_child": 0.0},
        "environment": ENVIRONMENT,
    }
    return cast(Report, report)


def _epoch(epoch: float, error: float) -> dict[str, Any]:
    losses = {"training_loss": 0.5, "loss_terms": {}, "validation_loss": 0.8}
    return {"epoch": epoch, **losses, "validation_error_rate": error}


def made_up_matrices(loss: str) -> list[LabelMatrices]:
    """After two epochs; the first row turns round in between, the others stay."""
    turned = [[0.0, 0.2, 0.3, 0.5], *LEARNED[1:]]
    soft = (np.eye(4) * 0.6 + 0.1).round(1).tolist()
    learned = (turned, LEARNED) if loss.startswith("kr") else (None, None)
    divergence = 0.01 if loss.startswith("kr") else 0.03
    return [
        {"epoch": 1.0, "soft": soft, "residual": turned, "learned": learned[0], "js_divergence": 0.05},
        {"epoch": 2.0, "soft": soft, "residual": LEARNED, "learned": learned[1], "js_divergence": divergence},
    ]
