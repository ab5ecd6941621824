"""Rows without a text or a known label: left out and reported by default, refused by `strict`."""

import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from data_cases import header_rows, write_rows, write_zhang, zhang_rows
from kr_text.data import load, load_rows
from kr_text.data.sources import load_data_set


def with_wrong_rows(num_rows: int, wrong: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | wrong.get(place, {}) for place, row in enumerate(header_rows(num_rows))]


def lines_about(file: Path | str, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith(f"{file}: ") and "left out" in message]


@pytest.mark.parametrize(("suffix", "first_row"), [(".csv", 2), (".tsv.gz", 2), (".jsonl", 1), (".parquet", 1)])
def test_rows_without_text_or_label_are_left_out_and_counted(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture, suffix: str, first_row: int
) -> None:
    wrong = {3: {"text": "  "}, 5: {"label": ""}, 7: {"text": ""}}
    file = write_rows(tmp_path / f"data{suffix}", with_wrong_rows(100, wrong))
    dataset, _, left_out = load_data_set(file, cache_dir=cache_dir)
    texts = {text for split in dataset.values() for text in split["text"]}
    assert texts == {f"text {i}" for i in range(100)} - {"text 3", "text 5", "text 7"}
    assert dataset["train"].features["label"].names == ["mixed", "neg", "pos"]
    assert left_out == {"train": 3}
    rows = [row + first_row for row in (5, 3, 7)]
    assert lines_about(file, caplog) == [
        f"{file}: 3 of 100 rows are left out: 1 has no label (row {rows[0]}); "
        f"2 have an empty text (rows {rows[1]}, {rows[2]})"
    ]


def test_the_rows_are_reported_again_when_the_cache_is_read(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_rows(tmp_path / "data.csv", with_wrong_rows(60, {3: {"text": ""}}))
    first, again = (load(file, cache_dir=cache_dir) for _ in range(2))
    assert first["train"][:] == again["train"][:]
    assert len(lines_about(file, caplog)) == 2


def test_five_row_numbers_are_named(tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture) -> None:
    wrong = {place: {"text": ""} for place in range(10, 17)}
    file = write_rows(tmp_path / "data.csv", with_wrong_rows(200, wrong))
    load(file, cache_dir=cache_dir)
    assert lines_about(file, caplog) == [
        f"{file}: 7 of 200 rows are left out: 7 have an empty text (rows 12, 13, 14, 15, 16, ...)"
    ]


def test_a_null_or_absent_label_in_json_is_left_out(tmp_path: Path, cache_dir: str) -> None:
    rows: list[dict[str, Any]] = with_wrong_rows(60, {0: {"label": None}, 1: {"text": None}})
    del rows[2]["label"]
    dataset = load(write_rows(tmp_path / "data.jsonl", rows), cache_dir=cache_dir)
    texts = {text for split in dataset.values() for text in split["text"]}
    assert texts == {f"text {i}" for i in range(3, 60)}


def test_numbers_that_pandas_stored_as_floats_because_one_is_missing_are_classes(
    tmp_path: Path, cache_dir: str
) -> None:
    rows = [{"text": f"text {i}", "label": None if i == 7 else float(i % 3)} for i in range(60)]
    dataset = load(write_rows(tmp_path / "data.parquet", rows), cache_dir=cache_dir)
    assert dataset["train"].features["label"].names == ["0", "1", "2"]
    assert sum(dataset.num_rows.values()) == 59
    assert dict(zip(dataset["test"]["text"], dataset["test"]["label"], strict=True)).items() <= {
        (f"text {i}", i % 3) for i in range(60)
    }


def test_more_than_five_percent_are_refused(tmp_path: Path, cache_dir: str) -> None:
    allowed = write_rows(tmp_path / "three.csv", with_wrong_rows(60, {i: {"text": ""} for i in range(3)}))
    assert sum(load(allowed, cache_dir=cache_dir).num_rows.values()) == 57
    wrong = {0: {"label": ""}, 1: {"text": ""}, 2: {"text": ""}, 3: {"text": ""}}
    file = write_rows(tmp_path / "four.csv", with_wrong_rows(60, wrong))
    with pytest.raises(
        ValueError,
        match=r"^.*four\.csv: at least 95% of the rows must have a text and a known label, got 56 of 60: "
        r"1 has no label \(row 2\); 3 have an empty text \(rows 3, 4, 5\): correct these rows, or remove them$",
    ):
        load(file, cache_dir=cache_dir)


def test_a_row_with_two_faults_counts_once(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", with_wrong_rows(60, {9: {"text": "", "label": ""}}))
    assert load_data_set(file, cache_dir=cache_dir).left_out == {"train": 1}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_train_lacks_is_left_out_of_validation_and_test(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture, split: str
) -> None:
    write_rows(tmp_path / "train.csv", header_rows(60))
    file = write_rows(tmp_path / f"{split}.csv", with_wrong_rows(40, {8: {"label": "odd"}}))
    dataset = load(tmp_path, cache_dir=cache_dir)
    assert dataset[split].num_rows == 39
    assert dataset["train"].features["label"].names == ["mixed", "neg", "pos"]
    line = f"{file}: 1 of 40 rows is left out: 1 has an unknown label, such as 'odd' (row 10)"
    assert lines_about(file, caplog) == [line]


def test_a_class_without_train_rows_is_left_out_of_test(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    test = [*zhang_rows(40, num_classes=2), '"3","title","text"']
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(60, num_classes=2), "test": test})
    assert load(folder, cache_dir=cache_dir)["test"].num_rows == 40
    (line,) = lines_about(folder / "test.csv", caplog)
    assert line.endswith(f"1 has a class without rows in {folder / 'train.csv'} (Business) (row 41)")


def test_class_numbers_out_of_range_are_refused_however_few(tmp_path: Path, cache_dir: str) -> None:
    """Classes that are numbered from 0 would all be read as another class."""
    lines = zhang_rows(60)
    lines[20] = '"0","title","text"'
    folder = write_zhang(tmp_path / "z", {"train": lines, "test": zhang_rows(9)})
    with pytest.raises(ValueError, match=r"train\.csv: row 21: class must be in 1\.\.3, got '0'"):
        load(folder, cache_dir=cache_dir)


def test_the_number_minus_one_of_named_classes_is_a_missing_label(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    train = Dataset.from_dict({"text": ["t"] * 40, "label": [-1, *[0, 1] * 19, 0]}, features=features)
    DatasetDict(train=train).save_to_disk(tmp_path / "saved")
    assert sum(load(tmp_path / "saved").num_rows.values()) == 39


def test_strict_refuses_the_first_row_with_a_fault(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", with_wrong_rows(100, {50: {"label": ""}, 30: {"text": ""}}))
    with pytest.raises(ValueError, match=rf"^{file}: row 32: text must not be empty, got '': remove the row$"):
        load(file, cache_dir=cache_dir, strict=True)


def test_load_rows_leaves_out_labels_that_the_model_lacks(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_rows(tmp_path / "new.csv", with_wrong_rows(40, {4: {"label": "odd"}}))
    with caplog.at_level(logging.WARNING):
        assert load_rows(file, ["mixed", "neg", "pos"], cache_dir=cache_dir).num_rows == 39
    assert len(lines_about(file, caplog)) == 1


def test_clean_data_say_nothing(tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture) -> None:
    for split, num_rows in (("train", 60), ("validation", 9), ("test", 9)):
        write_rows(tmp_path / f"{split}.csv", header_rows(num_rows))
    with caplog.at_level(logging.INFO, "kr_text"):
        load(tmp_path, cache_dir=cache_dir)
    assert caplog.messages == []
