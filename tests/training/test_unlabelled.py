"""Training on a data set whose test split has no labels."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from kr_text.classifier import Classifier
from kr_text.data import read_texts
from kr_text.training.unlabelled import UNLABELLED_FILE
from training_cases import Train, report_of


@pytest.fixture
def unlabelled_news(tmp_path: Path, news: Path) -> Path:
    """The news folder; its test file has texts only, one of them empty."""
    folder = shutil.copytree(news, tmp_path / "unlabelled_news")
    with (folder / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate([*read_texts(str(news / "test.csv")), ""])])
    return folder


def test_test_rows_without_labels_are_predicted_into_a_file(
    tmp_path: Path, train_small: Train, unlabelled_news: Path
) -> None:
    folder = tmp_path / "run"
    report = train_small(folder, "--dataset", str(unlabelled_news), "--num_train_epochs", "1")
    lines = [json.loads(line) for line in (folder / UNLABELLED_FILE).read_text(encoding="utf-8").splitlines()]
    expected = Classifier(str(folder))(read_texts(str(unlabelled_news / "test.csv")))
    assert lines == [{"label": label, "probabilities": probabilities} for label, probabilities in expected]
    assert len(lines) == 61
    assert report["dataset"]["num_unlabelled_test_rows"] == 61
    assert (report["dataset"]["num_train_rows"], report["dataset"]["num_test_rows"]) == (194, 24)  # 22 validation rows
    assert "| 61 " in (folder / "report.md").read_text()


def test_overwriting_a_run_deletes_its_predictions(
    tmp_path: Path, news: Path, train_small: Train, unlabelled_news: Path
) -> None:
    folder, flags = tmp_path / "run", ["--num_train_epochs", "1"]
    train_small(folder, "--dataset", str(unlabelled_news), *flags)
    train_small(folder, "--dataset", str(news), *flags, "--overwrite", "true")
    assert not (folder / UNLABELLED_FILE).exists()
    assert report_of(folder)["dataset"]["num_unlabelled_test_rows"] == 0


def test_strict_is_a_flag_of_a_run_and_no_setting_of_it(tmp_path: Path, news: Path, train_small: Train) -> None:
    folder = shutil.copytree(news, tmp_path / "news")
    with (folder / "train.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["", "Sports"])
    flags = ["--dataset", str(folder), "--num_train_epochs", "1"]
    with pytest.raises(ValueError, match=r"train\.csv: row 242: "):
        train_small(tmp_path / "strict", *flags, "--strict")
    report = train_small(tmp_path / "run", *flags)
    assert report["dataset"]["left_out_rows"] == {"train": 1, "test": 0}
    assert "strict" not in json.loads((tmp_path / "run" / "settings.json").read_text())
