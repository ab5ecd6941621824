from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kr_text.classifier import Classifier
from kr_text.data.duplicates import COUNTS
from kr_text.data.sources import load
from kr_text.evaluation.calibration import at_temperature, fit_temperature
from kr_text.evaluation.classes import class_metrics, most_confident_mistakes
from kr_text.evaluation.metrics import classification_metrics, confusion_matrix
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.models import FastTextForSequenceClassification
from kr_text.trainer.residual_checkpoint import RESIDUAL_FILE
from kr_text.training.report import Report
from kr_text.training.report_markdown import report_markdown
from training_cases import Train, predictions, report_of

UNEVEN = ["--num_train_epochs", "6", "--lr_scheduler_type", "constant", "--seed", "1"]


@pytest.fixture(scope="module")
def uneven_run(tmp_path_factory: pytest.TempPathFactory, train_small: Train) -> Path:
    folder = tmp_path_factory.mktemp("uneven")
    train_small(folder, *UNEVEN)
    return folder


def best_epochs(report: Report, name: Literal["validation_error_rate", "validation_loss"]) -> list[float]:
    values = {epoch["epoch"]: cast(float, epoch[name]) for epoch in report["epochs"]}
    assert list(values) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    return [epoch for epoch, value in values.items() if value == min(values.values())]


def test_the_model_of_the_epoch_with_the_lowest_validation_error_is_kept(uneven_run: Path, news: Path) -> None:
    report = report_of(uneven_run)
    assert best_epochs(report, "validation_error_rate")[0] == report["best_epoch"]
    assert report["best_epoch"] < 6  # else a run that keeps its last epoch would pass
    best = report["epochs"][int(report["best_epoch"]) - 1]
    rows = load(news)["validation"]
    probabilities = Classifier(str(uneven_run)).probabilities(list(rows["text"]))
    metrics = classification_metrics(probabilities, np.asarray(rows["label"]))
    assert metrics["error_rate"] == best["validation_error_rate"]
    assert metrics["nll"] == pytest.approx(best["validation_loss"], rel=1e-5)


def test_the_residual_matrix_of_the_same_epoch_is_kept(uneven_run: Path) -> None:
    report = report_of(uneven_run)
    saved = load_file(uneven_run / RESIDUAL_FILE)["residual_matrix"]
    checkpoint = uneven_run / f"checkpoint-{14 * int(report['best_epoch'])}"  # 216 rows, 16 a batch
    assert torch.equal(saved, load_file(checkpoint / RESIDUAL_FILE)["residual_matrix"])
    assert saved.abs().max() > 0.1
    criterion = KRLoss(6)
    with torch.no_grad():
        criterion.residual_matrix.copy_(saved)
    assert report["residual_labels"] == criterion.residual_labels().tolist()


def test_the_best_epoch_may_be_selected_by_another_metric(tmp_path: Path, train_small: Train) -> None:
    report = train_small(tmp_path, *UNEVEN, "--metric_for_best_model", "loss")
    assert best_epochs(report, "validation_loss") == [report["best_epoch"]]
    assert best_epochs(report, "validation_error_rate") != [report["best_epoch"]]


@pytest.mark.parametrize("metric", ["macro_f1", "eval_macro_f1", "nll", "brier_score", "ece", "aurc", "error_rate"])
def test_the_best_epoch_is_the_best_by_the_metric(tmp_path: Path, train_small: Train, metric: str) -> None:
    report = train_small(tmp_path, *UNEVEN, "--metric_for_best_model", metric)
    values = [cast(float, epoch["metric_for_best_model"]) for epoch in report["epochs"]]
    best, worst = (max(values), min(values)) if "macro_f1" in metric else (min(values), max(values))
    kept = values[int(report["best_epoch"]) - 1]
    assert kept == best != worst
    assert kept == pytest.approx(report["validation_metrics"][metric.removeprefix("eval_")])


@pytest.mark.parametrize("evaluation", ["epoch", "no"])
def test_the_last_model_is_kept_without_load_best_model_at_end(
    tmp_path: Path, train_small: Train, evaluation: str
) -> None:
    flags = ["--load_best_model_at_end", "false", "--eval_strategy", evaluation, "--save_total_limit", "3"]
    report = train_small(tmp_path, *flags)
    assert report["best_epoch"] == 3.0
    assert len(report["epochs"]) == (3 if evaluation == "epoch" else 0)
    last = load_file(tmp_path / "checkpoint-42" / "model.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(saved[name], last[name]) for name in saved)


def test_the_report_agrees_with_the_saved_predictions(run_folder: Path, news: Path) -> None:
    report = report_of(run_folder)
    probabilities, labels = predictions(run_folder)
    assert report["test_metrics"] == classification_metrics(probabilities, labels)
    assert report["confusion_matrix"] == confusion_matrix(probabilities, labels, 6).tolist()
    names = report["dataset"]["class_names"]
    assert report["class_metrics"] == class_metrics(report["confusion_matrix"], names)
    texts, wrong = load(news)["test"]["text"], most_confident_mistakes(probabilities, labels, 10)
    assert report["mistakes"] == [
        {
            "text": texts[row] if len(texts[row]) <= 200 else f"{texts[row][:199]}…",
            "label": names[labels[row]],
            "prediction": names[probabilities[row].argmax()],
            "probability": probabilities[row].max(),
        }
        for row in wrong
    ]
    assert len(wrong) == 10
    assert report["dataset"] == {
        "name": "tiny_news",
        "class_names": load(news)["test"].features["label"].names,
        "num_train_rows": 216,
        "num_validation_rows": 24,
        "num_test_rows": 60,
        "num_unlabelled_test_rows": 0,
        "left_out_rows": {"train": 0, "test": 0},
        "duplicates": dict.fromkeys(COUNTS, 0),
    }
    model = FastTextForSequenceClassification.from_pretrained(run_folder)
    assert report["model"] == {"name": "fasttext", "num_parameters": sum(p.numel() for p in model.parameters())}
    assert report["loss"]["name"] == "kr-ls"
    assert report["loss"]["settings"]["label_smoothing"] == 0.1
    assert report["loss"]["settings"]["residual_learning_rate"] == 0.01
    assert report["hyper_parameters"]["learning_rate"] == 0.05
    assert "output_dir" not in report["hyper_parameters"]
    assert 0 < report["wall_time_seconds"]["training"] < report["wall_time_seconds"]["total"]
    assert (run_folder / "report.md").read_text() == report_markdown(report)


def test_the_validation_metrics_belong_to_the_kept_epoch(uneven_run: Path) -> None:
    report = report_of(uneven_run)
    kept = report["epochs"][int(report["best_epoch"]) - 1]
    metrics = report["validation_metrics"]
    assert metrics.keys() == report["test_metrics"].keys()
    assert metrics["error_rate"] == kept["validation_error_rate"] != report["test_metrics"]["error_rate"]
    assert metrics["nll"] == pytest.approx(kept["validation_loss"], rel=1e-5)


def test_the_temperature_is_fitted_on_validation_rows_and_scales_the_test_rows(run_folder: Path, news: Path) -> None:
    report, rows = report_of(run_folder), load(news)["validation"]
    scaling = report["temperature_scaling"]
    log_p = np.log(Classifier(str(run_folder)).probabilities(list(rows["text"])))
    assert scaling["temperature"] == pytest.approx(fit_temperature(log_p, rows["label"]), rel=1e-3)
    assert scaling["temperature"] is not None
    probabilities, labels = predictions(run_folder)
    expected = classification_metrics(at_temperature(np.log(probabilities), scaling["temperature"]), labels)
    assert scaling["test_metrics"] == pytest.approx(expected, rel=1e-6)
    assert scaling["test_metrics"]["error_rate"] == report["test_metrics"]["error_rate"]
    assert scaling["test_metrics"]["nll"] != pytest.approx(report["test_metrics"]["nll"], rel=1e-3)


def test_saved_predictions_are_in_the_order_of_the_test_rows(run_folder: Path, news: Path) -> None:
    rows = load(news)["test"]
    probabilities, labels = predictions(run_folder)
    assert labels.tolist() == list(rows["label"])
    again = Classifier(str(run_folder)).probabilities(list(rows["text"]))
    np.testing.assert_allclose(probabilities, again, atol=1e-6)
