import json
import re
import shutil
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
    assert tables["test"] != tables["validation"]
    trained = "of the data that the model was trained on"
    assert kr_text("evaluate", str(run_folder), "--dataset", str(news)) == 0
    assert capsys.readouterr().out == f"60 rows of {news}: the test split {trained}\n\n{tables['test']}"
    assert kr_text("evaluate", str(run_folder), "--split", "validation", str(news)) == 0
    assert capsys.readouterr().out == f"24 rows of {news}: the validation split {trained}\n\n{tables['validation']}"


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
    shutil.copyfile(news / "train.csv", tmp_path / "moved.csv")
    capsys.readouterr()
    for data in (news / "train.csv", tmp_path / "moved.csv"):
        assert kr_text("evaluate", str(tmp_path / "run"), str(data)) == 0
        out = re.sub(" +", " ", capsys.readouterr().out)
        assert out.startswith(f"40 rows of {data}: the test split of the data that the model was trained on\n")
        assert f"| error_rate | {report['test_metrics']['error_rate']:.4f}" in out


@pytest.fixture(scope="module")
def trained_on_a_file(tmp_path_factory: pytest.TempPathFactory, news: Path, train_small: Callable[..., object]) -> Path:
    """A run on news/train.csv with other names of the columns, and a maximum of training rows."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data.csv").write_text((news / "train.csv").read_text().replace("text,label", "body,topic", 1))
    flags = ["--text_column", "body", "--label_column", "topic", "--max_train_rows", "100", "--validation_size", "30"]
    train_small(folder / "run", "--dataset", str(folder / "data.csv"), *flags)
    return folder


def test_evaluate_loads_the_training_file_as_training_did(
    kr_text: Main, capsys: pytest.CaptureFixture[str], trained_on_a_file: Path
) -> None:
    assert kr_text("evaluate", str(trained_on_a_file / "run"), str(trained_on_a_file / "data.csv")) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"30 rows of {trained_on_a_file / 'data.csv'}: the test split of the data that the")
    report = json.loads((trained_on_a_file / "run" / "report.json").read_text())
    assert f"| error_rate | {report['test_metrics']['error_rate']:.4f}" in re.sub(" +", " ", captured.out)


def test_evaluate_measures_all_rows_of_another_file_of_the_same_name(
    kr_text: Main, capsys: pytest.CaptureFixture[str], trained_on_a_file: Path, tmp_path: Path
) -> None:
    header, *rows = (trained_on_a_file / "data.csv").read_text().splitlines()
    (tmp_path / "data.csv").write_text("\n".join([header, *rows[:-1]]))
    assert kr_text("evaluate", str(trained_on_a_file / "run"), str(tmp_path / "data.csv")) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"239 rows of {tmp_path / 'data.csv'}: all of them\n")
    assert "set aside" not in captured.err


def test_evaluate_says_that_the_training_data_of_a_model_are_unknown(
    kr_text: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_folder, tmp_path / "model", ignore=shutil.ignore_patterns("settings.json"))
    assert kr_text("evaluate", str(tmp_path / "model"), str(news / "test.csv")) == 0
    unknown = "all of them; whether the model was trained on some of them is not known"
    assert capsys.readouterr().out.startswith(f"60 rows of {news / 'test.csv'}: {unknown}\n")


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
    assert captured.out.startswith(f"{len(chosen)} rows of {tmp_path / 'held.csv'}: all of them\n\n| ")
    predicted = list(Classifier(str(run_folder))(row.rpartition(",")[0].strip('"') for row in chosen))
    error = 100 * sum(each.label != label for each in predicted) / len(chosen)
    assert f"| error_rate | {error:.4f}" in re.sub(" +", " ", captured.out)


def test_evaluate_measures_the_test_rows_of_the_fold_that_the_model_was_trained_on(
    kr_text: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_flags: list[str], news: Path
) -> None:
    assert kr_text("train", *small_flags, "--fold", "2/3", "--output_dir", str(tmp_path / "run")) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["dataset"]["num_test_rows"] == 100
    capsys.readouterr()
    assert kr_text("evaluate", str(tmp_path / "run"), "--dataset", str(news)) == 0
    assert f"| error_rate | {report['test_metrics']['error_rate']:.4f}" in re.sub(" +", " ", capsys.readouterr().out)
