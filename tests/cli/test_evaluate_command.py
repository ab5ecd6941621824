import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kr_text.classifier import Classifier, class_probabilities, evaluate
from kr_text.data.sources import load
from kr_text.evaluation.classes import class_metrics
from kr_text.evaluation.metrics import confusion_matrix
from kr_text.training.report_classes import class_table
from kr_text.training.report_markdown import metrics_table

Main = Callable[..., int]


def test_evaluate_prints_the_metrics_of_the_split(
    kr_text: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path
) -> None:
    classifier, data = Classifier(str(run_folder)), load(news)
    tables = {}
    for split in ("test", "validation"):
        rows = data[split]
        counts = confusion_matrix(class_probabilities(classifier, rows), np.asarray(rows["label"]), 6)
        classes = class_table(class_metrics(counts, rows.features["label"].names))
        tables[split] = f"{metrics_table(evaluate(classifier, rows))}\n\n{classes}\n"
    assert kr_text("evaluate", str(run_folder), "--dataset", str(news)) == 0
    assert capsys.readouterr().out == tables["test"]
    assert kr_text("evaluate", str(run_folder), "--dataset", str(news), "--split", "validation") == 0
    assert capsys.readouterr().out == tables["validation"] != tables["test"]


def test_evaluate_agrees_with_the_report_of_the_run(
    kr_text: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path
) -> None:
    assert kr_text("evaluate", str(run_folder), "--dataset", str(news)) == 0
    table = capsys.readouterr().out
    metrics = json.loads((run_folder / "report.json").read_text())["test_metrics"]
    for name, value in metrics.items():
        (printed,) = re.findall(rf"\| {name} +\| ([\d.]+) ", table)
        assert float(printed) == pytest.approx(value, abs=1e-4)


def test_evaluate_splits_off_the_same_test_rows_as_training(
    kr_text: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_flags: list[str], news: Path
) -> None:
    """Other test rows would include rows that the model was trained on."""
    flags = [*small_flags, "--dataset", str(news / "train.csv"), "--output_dir", str(tmp_path / "run")]
    assert kr_text("train", *flags, "--validation_size", "40") == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["dataset"]["num_test_rows"] == 40
    capsys.readouterr()
    assert kr_text("evaluate", str(tmp_path / "run"), "--dataset", str(news / "train.csv")) == 0
    assert f"| error_rate | {report['test_metrics']['error_rate']:.4f}" in re.sub(" +", " ", capsys.readouterr().out)


def test_evaluate_measures_all_rows_of_another_file(
    kr_text: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path, tmp_path: Path
) -> None:
    """The file need not have all classes, nor enough rows to split."""
    header, *rows = (news / "test.csv").read_text().splitlines()
    label = rows[0].rpartition(",")[2]
    chosen = [row for row in rows if row.endswith(f",{label}")]
    (tmp_path / "held.csv").write_text("\n".join([header, *chosen]))
    assert kr_text("evaluate", str(run_folder), "--dataset", str(tmp_path / "held.csv")) == 0
    captured = capsys.readouterr()
    assert f"measured on all {len(chosen)} rows" in captured.err
    predicted = list(Classifier(str(run_folder))(row.rpartition(",")[0].strip('"') for row in chosen))
    error = 100 * sum(each.label != label for each in predicted) / len(chosen)
    assert f"| error_rate | {error:.4f}" in re.sub(" +", " ", captured.out)
