"""A test split without labels: it is returned apart, and test rows are cut from train."""

from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from data_cases import header_rows, write_rows, write_zhang, zhang_rows
from kr_text.data import load, load_rows
from kr_text.data.sources import load_data_set


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("label", [None, "", "-1"])
def test_test_rows_without_labels_are_returned_apart(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture, suffix: str, label: str | None
) -> None:
    write_rows(tmp_path / f"train{suffix}", header_rows(60))
    rows: list[dict[str, Any]] = [{"id": i, "text": f"new {i}" if i else " "} for i in range(5)]
    test = write_rows(tmp_path / f"test{suffix}", [row if label is None else {**row, "label": label} for row in rows])
    data = load_data_set(tmp_path, cache_dir=cache_dir)
    assert data.splits.num_rows == {"train": 48, "validation": 6, "test": 6}
    assert data.unlabelled is not None
    assert data.unlabelled[:] == {"text": ["", "new 1", "new 2", "new 3", "new 4"]}
    why = "no column 'label', got id, text: its rows have no labels" if label is None else "every label is missing"
    assert caplog.messages == [
        f"{test}: {why}",
        f"{tmp_path} has no labelled test split: 6 rows of train are set aside for it",
    ]


def test_the_splits_are_those_without_a_test_file(tmp_path: Path, cache_dir: str) -> None:
    write_rows(tmp_path / "train.csv", header_rows(60))
    without = load(tmp_path, cache_dir=cache_dir)
    write_rows(tmp_path / "test.csv", [{"text": "new"}])
    for split, rows in load(tmp_path, cache_dir=cache_dir).items():
        assert rows[:] == without[split][:]


def test_minus_one_is_a_label_if_train_has_it(tmp_path: Path, cache_dir: str) -> None:
    for split, labels in (("train", [-1, 0, 1]), ("test", [-1, -1, -1])):
        write_rows(tmp_path / f"{split}.csv", [{"text": f"text {i}", "label": labels[i % 3]} for i in range(60)])
    data = load_data_set(tmp_path, cache_dir=cache_dir)
    assert data.unlabelled is None
    assert data.splits["test"].num_rows == 60


def test_text_columns_of_an_unlabelled_test_file_are_joined(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"title": f"title {i}", "body": f"body {i}", "label": "ab"[i % 2]} for i in range(60)]
    write_rows(tmp_path / "train.csv", rows)
    write_rows(tmp_path / "test.csv", [{"Body": "b", "Title": "t"}])
    data = load_data_set(tmp_path, text_column="title,body", cache_dir=cache_dir)
    assert data.unlabelled is not None
    assert data.unlabelled["text"][:] == ["t b"]


def test_a_column_that_is_a_label_only_by_another_name_is_none_of_test(tmp_path: Path, cache_dir: str) -> None:
    rows = [{**row, "category": f"shop {row['id'] % 2}"} for row in header_rows(60)]
    write_rows(tmp_path / "train.csv", rows)
    write_rows(tmp_path / "test.csv", [{"text": "new", "category": "shop 1"}])
    data = load_data_set(tmp_path, cache_dir=cache_dir)
    assert data.unlabelled is not None
    assert data.unlabelled[:] == {"text": ["new"]}


def test_a_zhang_test_file_may_have_empty_class_numbers(tmp_path: Path, cache_dir: str) -> None:
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(60), "test": [r'"","a\nb","c"', '"","d",""']})
    data = load_data_set(folder, cache_dir=cache_dir)
    assert data.unlabelled is not None
    assert data.unlabelled["text"][:] == ["a b c", "d"]


@pytest.mark.parametrize("column", [True, False])
def test_a_saved_data_set_may_have_an_unlabelled_test_split(tmp_path: Path, column: bool) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    train = Dataset.from_dict({"text": ["t"] * 40, "label": [0, 1] * 20}, features=features)
    test = Dataset.from_dict({"text": ["one", "two"], "label": [-1, -1]}, features=features)
    DatasetDict(train=train, test=test if column else test.remove_columns("label")).save_to_disk(tmp_path / "saved")
    data = load_data_set(tmp_path / "saved")
    assert data.unlabelled is not None
    assert data.unlabelled["text"][:] == ["one", "two"]
    assert data.splits.num_rows == {"train": 32, "validation": 4, "test": 4}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "new"}], r"test\.csv: columns must include 'label', got text"),
        ([{"text": "new", "label": ""}], r"test\.csv: row 2: label must be a class of train \(.*\), got ''"),
    ],
)
def test_strict_refuses_a_test_split_without_labels(
    tmp_path: Path, cache_dir: str, rows: list[dict[str, Any]], message: str
) -> None:
    write_rows(tmp_path / "train.csv", header_rows(60))
    write_rows(tmp_path / "test.csv", rows)
    with pytest.raises(ValueError, match=message):
        load(tmp_path, cache_dir=cache_dir, strict=True)


def test_validation_rows_must_have_labels(tmp_path: Path, cache_dir: str) -> None:
    write_rows(tmp_path / "train.csv", header_rows(60))
    write_rows(tmp_path / "val.csv", [{"text": "new"}])
    with pytest.raises(ValueError, match=r"val\.csv: columns must include 'label', got text"):
        load(tmp_path, cache_dir=cache_dir)


def test_a_classifier_is_not_measured_on_a_file_without_labels(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "new.csv", [{"id": 1, "text": "new"}])
    with pytest.raises(
        ValueError, match=r"new\.csv: columns must include 'label' to measure .* `kr-text predict` classifies texts"
    ):
        load_rows(file, ["a", "b"], cache_dir=cache_dir)


@pytest.mark.parametrize("label", ["", "-1"])
def test_a_classifier_is_not_measured_on_rows_whose_labels_are_all_missing(
    tmp_path: Path, cache_dir: str, label: str
) -> None:
    file = write_rows(tmp_path / "new.csv", [{"text": "new", "label": label}] * 3)
    with pytest.raises(ValueError, match=r"new\.csv: rows must have labels to measure .* `kr-text predict` classifies"):
        load_rows(file, ["a", "b"], cache_dir=cache_dir)
    if label:
        assert load_rows(file, ["-1", "1"], cache_dir=cache_dir)["label"][:] == [0, 0, 0]


@pytest.mark.parametrize("label", [-1, None])
def test_missing_labels_in_json_may_have_another_type_than_in_train(
    tmp_path: Path, cache_dir: str, label: int | None
) -> None:
    write_rows(tmp_path / "train.jsonl", header_rows(60))
    write_rows(tmp_path / "test.jsonl", [{"text": "one", "label": label}, {"text": "two", "label": label}])
    data = load_data_set(tmp_path, cache_dir=cache_dir)
    assert data.unlabelled is not None
    assert data.unlabelled["text"][:] == ["one", "two"]
    write_rows(tmp_path / "test.jsonl", [{"text": "one", "label": -1}, {"text": "two", "label": 1}])
    with pytest.raises(ValueError, match=r"test\.jsonl: row 1: label must be string as in .*train\.jsonl, got -1"):
        load(tmp_path, cache_dir=cache_dir)
