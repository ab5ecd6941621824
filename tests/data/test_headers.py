"""Names of columns, separators of CSV files, and names of split files."""

import logging
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from data_cases import header_rows, write_rows, write_zhang, zhang_rows
from kr_text.data import load, read_texts
from kr_text.data.files import separator

ROWS = "".join(f"text {i}{{0}}{'xy'[i % 2]}\n" for i in range(20))


def write_csv(file: Path, header: str, between: str = ",") -> Path:
    file.write_text(header + "\n" + ROWS.format(between))
    return file


# Names of columns


@pytest.mark.parametrize("header", ["Text,Label", "TEXT,label", " text , Label "])
def test_names_of_columns_match_without_case_and_outer_blanks(tmp_path: Path, cache_dir: str, header: str) -> None:
    file = write_csv(tmp_path / "data.csv", header)
    assert load(file, cache_dir=cache_dir)["train"].features["label"].names == ["x", "y"]
    assert list(read_texts(str(file))) == [f"text {i}" for i in range(20)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_names_in_other_formats_match_without_case(tmp_path: Path, cache_dir: str, suffix: str) -> None:
    rows = [{"Text": row["text"], "LABEL": row["label"]} for row in header_rows(60)]
    file = write_rows(tmp_path / f"data{suffix}", rows)
    assert load(file, cache_dir=cache_dir)["train"].num_rows == 48
    assert next(read_texts(str(file))) == "text 0"


def test_the_exact_name_is_preferred(tmp_path: Path, cache_dir: str) -> None:
    (tmp_path / "data.csv").write_text("Text,text,label\n" + "a,b,x\nc,d,y\n" * 10)
    assert set(load(tmp_path / "data.csv", cache_dir=cache_dir)["train"]["text"]) == {"b", "d"}
    assert set(load(tmp_path / "data.csv", text_column="Text", cache_dir=cache_dir)["train"]["text"]) == {"a", "c"}


def test_two_names_that_match_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("Text,TEXT,label\n" + "a,b,x\nc,d,y\n" * 10)
    with pytest.raises(ValueError, match=r"data\.csv: columns must include 'text' once, got Text, TEXT, label"):
        load(tmp_path / "data.csv")


def test_files_of_one_data_set_may_spell_and_order_their_columns_differently(tmp_path: Path, cache_dir: str) -> None:
    write_csv(tmp_path / "train.csv", "Text,Label")
    (tmp_path / "test.csv").write_text("label;id;text\nx;1;one\n")
    dataset = load(tmp_path, cache_dir=cache_dir)
    assert dataset["test"][:] == {"text": ["one"], "label": [0]}


def test_the_only_column_with_another_usual_name_is_used_and_named(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_csv(tmp_path / "data.csv", "Sentence,Category")
    assert load(file, cache_dir=cache_dir)["train"].features["label"].names == ["x", "y"]
    assert caplog.messages[:2] == [
        f"{file}: no column 'text', so 'Sentence' is the text; name another with text_column",
        f"{file}: no column 'label', so 'Category' is the label; name another with label_column",
    ]
    assert next(read_texts(str(file))) == "text 0"
    with pytest.raises(ValueError, match="columns must include 'text', got Sentence, Category"):
        load(file, strict=True)


@pytest.mark.parametrize("header", ["sentence,review,label", "body,label", "text,category,class"])
def test_a_column_is_not_guessed_if_several_or_none_have_a_usual_name(tmp_path: Path, header: str) -> None:
    (tmp_path / "data.csv").write_text(f"{header}\n" + ("a,b,c\n" if header.count(",") == 2 else "a,b\n"))
    with pytest.raises(ValueError, match=r"data\.csv: columns must include '(text|label)', got "):
        load(tmp_path / "data.csv")


def test_a_column_that_was_named_is_not_replaced_by_another(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "data.csv", "sentence,label")
    with pytest.raises(ValueError, match="columns must include 'body', got sentence, label"):
        load(file, text_column="body")


@pytest.mark.parametrize("name", ["weight", "Sample_Weight"])
def test_a_column_of_weights_is_said_to_be_unused(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    file = write_rows(tmp_path / "data.csv", [{**row, name: 0.5} for row in header_rows(60)])
    load(file, cache_dir=cache_dir)
    assert caplog.messages[0] == (
        f"{file}: the column {name!r} is not used: rows have no weights, classes have (--class_weights)"
    )


# Separators


@pytest.mark.parametrize("between", [";", "\t"])
def test_a_csv_file_may_have_semicolons_or_tabs(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture, between: str
) -> None:
    file = tmp_path / "data.csv"
    rows = "".join(f'"a, b; {i}"{between}{"xy"[i % 2]}\n' for i in range(20))
    file.write_text(f"text{between}label\n{rows}")
    with caplog.at_level(logging.INFO, "kr_text"):
        texts = [text for split in load(file, cache_dir=cache_dir).values() for text in split["text"]]
        assert list(read_texts(str(file))) == [f"a, b; {i}" for i in range(20)]
    assert sorted(texts) == sorted(f"a, b; {i}" for i in range(20))
    name = {";": "semicolon", "\t": "tab"}[between]
    assert caplog.messages.count(f"{file}: the separator is a {name}, as in the header") == 2


def test_an_error_in_a_file_with_semicolons_names_the_row(tmp_path: Path, cache_dir: str) -> None:
    (tmp_path / "data.csv").write_text("text;label\n" + "a;x\nb;y\n" * 10 + "a;b;c\n")
    with pytest.raises(ValueError, match=r"data\.csv: row 22: must have 2 fields, got 3: a, b, c"):
        load(tmp_path / "data.csv", cache_dir=cache_dir)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("text,label", ","),
        ("text;label", ";"),
        ('"text";"label"', ";"),
        ('"a;b","label"', ","),
        ('"a,b";label', ";"),
        ("text\tlabel", "\t"),
        ("a;b,label", ","),
        ("a;b\tc", ","),
        ("text", ","),
        ("", ","),
    ],
)
def test_the_separator_follows_from_the_header(tmp_path: Path, header: str, expected: str) -> None:
    (tmp_path / "data.csv").write_text(f"\n{header}\n")
    assert separator(tmp_path / "data.csv") == expected


# Names of split files


@pytest.mark.parametrize("name", ["valid", "val", "dev"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".jsonl", ".parquet"])
def test_a_validation_file_may_have_another_name(tmp_path: Path, cache_dir: str, name: str, suffix: str) -> None:
    for split, num_rows in (("train", 60), (name, 9), ("test", 12)):
        write_rows(tmp_path / f"{split}{suffix}", header_rows(num_rows))
    assert load(tmp_path, cache_dir=cache_dir).num_rows == {"train": 60, "validation": 9, "test": 12}


def test_a_zhang_folder_may_have_a_dev_file(tmp_path: Path, cache_dir: str) -> None:
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(60), "dev": zhang_rows(9), "test": zhang_rows(6)})
    assert load(folder, cache_dir=cache_dir).num_rows == {"train": 60, "validation": 9, "test": 6}


def test_a_split_of_a_saved_data_set_may_have_another_name(tmp_path: Path) -> None:
    rows = {"text": ["a", "b"] * 10, "label": ["x", "y"] * 10}
    splits = DatasetDict({name: Dataset.from_dict(rows) for name in ("train", "dev")})
    splits.save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved").num_rows == {"train": 18, "validation": 20, "test": 2}
    DatasetDict({**splits, "val": splits["dev"]}).save_to_disk(tmp_path / "two")
    with pytest.raises(ValueError, match="two must have one validation split, got val, dev"):
        load(tmp_path / "two")


def test_two_validation_files_are_an_error(tmp_path: Path) -> None:
    for name in ("train", "val", "dev"):
        write_rows(tmp_path / f"{name}.csv", header_rows(20))
    with pytest.raises(ValueError, match=r"must hold one validation file, got val\.csv, dev\.csv"):
        load(tmp_path)
