from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from data_cases import header_rows, write_rows, write_zhang, zhang_rows
from kr_text.data import load
from kr_text.data.columns import sorted_class_names

# Texts


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ('"a","b"', "a b"),
        ('"","b"', "b"),
        ('"a",""', "a"),
        ('"  ","b"', "b"),
        ('" a ","b "', "a b"),
        (r'"a\nb","c\n\nd"', "a b c  d"),
        ('"NA","null"', "NA null"),
        ('"None",""', "None"),
        ('"nan","-1.50"', "nan -1.50"),
        ('"say ""hi""","b"', 'say "hi" b'),
        ('"a, b","c"', "a, b c"),
        ('"two\nlines","c"', "two\nlines c"),
        ("unquoted,b", "unquoted b"),
        ('5" pipe,b', '5" pipe b'),
        ('"Zürich","日本"', "Zürich 日本"),
        (r'"C:\temp","b"', r"C:\temp b"),
    ],
)
def test_fields_are_joined_into_one_text(tmp_path: Path, cache_dir: str, fields: str, text: str) -> None:
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(60), "test": [f'"1",{fields}']})
    assert load(folder, cache_dir=cache_dir)["test"]["text"][:] == [text]


def test_columns_can_be_named_and_texts_of_several_joined(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"head": f"h{i}", "body": f"b{i}" if i % 2 else "", "kind": "ab"[i % 2]} for i in range(40)]
    file = write_rows(tmp_path / "data.csv", rows)
    dataset = load(file, text_column="head, body", label_column="kind", cache_dir=cache_dir)
    texts = [text for split in dataset.values() for text in split["text"]]
    assert {"h0", "h1 b1"} < set(texts)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_one_of_several_text_columns_may_be_null_in_the_first_row(tmp_path: Path, cache_dir: str, suffix: str) -> None:
    rows = [{"title": f"title {i}", "body": "body" if i else None, "label": i % 2} for i in range(20)]
    dataset = load(write_rows(tmp_path / f"data{suffix}", rows), text_column="title,body", cache_dir=cache_dir)
    texts = [text for split in dataset.values() for text in split["text"]]
    assert sorted(texts) == sorted(f"title {i} body" if i else "title 0" for i in range(20))


# Classes


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_numeric_labels_are_sorted_by_value(tmp_path: Path, cache_dir: str, suffix: str) -> None:
    rows = [{"text": f"text {i}", "label": [10, 9, -1][i % 3]} for i in range(30)]
    dataset = load(write_rows(tmp_path / f"data{suffix}", rows), cache_dir=cache_dir)
    assert dataset["train"].features["label"].names == ["-1", "9", "10"]


def test_labels_of_equal_value_have_a_fixed_order() -> None:
    assert [sorted_class_names(labels) for labels in (["2", "1.0", "1"], ["1", "2", "1.0"])] == [["1", "1.0", "2"]] * 2


def test_labels_that_look_like_null_are_names(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": "NA", "label": ["null", "None", "nan"][i % 3]} for i in range(30)]
    dataset = load(write_rows(tmp_path / "data.csv", rows), cache_dir=cache_dir)
    assert dataset["train"].features["label"].names == ["None", "nan", "null"]
    assert set(dataset["train"]["text"]) == {"NA"}


def test_a_parquet_file_keeps_its_class_names(tmp_path: Path, cache_dir: str) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    Dataset.from_dict({"text": ["t"] * 20, "label": [0, 1] * 10}, features=features).to_parquet(tmp_path / "d.parquet")
    assert load(tmp_path / "d.parquet", cache_dir=cache_dir)["train"].features["label"].names == ["z", "a"]


@pytest.mark.parametrize("parquet", [False, True])
def test_splits_with_different_class_names_are_an_error(tmp_path: Path, cache_dir: str, parquet: bool) -> None:
    splits = DatasetDict()
    for split, names in (("train", ["a", "b", "c"]), ("test", ["b", "c"])):
        rows = {"text": [f"text {i}" for i in range(12)], "label": [i % len(names) for i in range(12)]}
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        splits[split] = Dataset.from_dict(rows, features=features)
        if parquet:
            splits[split].to_parquet(tmp_path / f"{split}.parquet")
    if not parquet:
        splits.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match=r"test.*: label must have the classes of train in the same order, a, b, c"):
        load(tmp_path if parquet else tmp_path / "saved", cache_dir=cache_dir)


def test_a_single_class_is_an_error(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", [{"text": "a", "label": "pos"}] * 9)
    with pytest.raises(ValueError, match=r"data\.csv: must have rows of at least 2 classes, got pos"):
        load(file, cache_dir=cache_dir)


def test_a_class_without_train_rows_is_an_error(zhang: Path, cache_dir: str) -> None:
    (zhang / "train.csv").write_text("\n".join(zhang_rows(60, num_classes=2)))
    with pytest.raises(
        ValueError, match=r"test\.csv: row 3: every class must have rows in .*train\.csv too, Business has none"
    ):
        load(zhang, cache_dir=cache_dir, strict=True)


# Errors


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_error_for_a_missing_column_lists_the_existing_columns(tmp_path: Path, suffix: str) -> None:
    file = write_rows(tmp_path / f"data{suffix}", header_rows(9))
    with pytest.raises(
        ValueError, match=rf"data\{suffix}: columns must include 'body', got id, text, label: name others"
    ):
        load(file, text_column="text,body")


def test_a_duplicate_column_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,text,label\na,b,x\n")
    with pytest.raises(ValueError, match=r"data\.csv: columns must include 'text' once, got text, text, label"):
        load(tmp_path / "data.csv")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", 0.5, "'label' must hold names or whole numbers, got .*float64"),
        ("text", 1, "'text' must hold texts, got"),
    ],
)
def test_a_column_of_another_type_is_an_error(
    tmp_path: Path, cache_dir: str, column: str, value: float, message: str
) -> None:
    file = write_rows(tmp_path / "data.parquet", [row | {column: value} for row in header_rows(9)])
    with pytest.raises(ValueError, match=rf"data\.parquet: column {message}"):
        load(file, cache_dir=cache_dir)


@pytest.mark.parametrize(("suffix", "row"), [(".csv", 6), (".jsonl", 5), (".parquet", 5)])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"text": " "}, "text must not be empty"), ({"label": ""}, r"label must be a class of train \(mixed, neg, pos\)")],
)
def test_the_error_for_an_empty_text_or_unknown_label_names_the_row(
    tmp_path: Path, cache_dir: str, suffix: str, row: int, wrong: dict[str, str], message: str
) -> None:
    rows = header_rows(60)
    rows[4] |= wrong
    file = write_rows(tmp_path / f"data{suffix}", rows)
    with pytest.raises(ValueError, match=rf"^{file}: row {row}: {message}, got "):
        load(file, cache_dir=cache_dir, strict=True)


@pytest.mark.parametrize(
    ("missing", "message"), [("text", "text must not be empty, got ''"), ("label", "label must be a class of train")]
)
def test_the_error_for_a_null_in_the_first_json_line_names_the_row(
    tmp_path: Path, cache_dir: str, missing: str, message: str
) -> None:
    rows = header_rows(60)
    rows[0][missing] = None
    with pytest.raises(ValueError, match=rf"data\.jsonl: row 1: {message}"):
        load(write_rows(tmp_path / "data.jsonl", rows), cache_dir=cache_dir, strict=True)


def test_a_json_column_of_nulls_is_an_error(tmp_path: Path, cache_dir: str) -> None:
    rows = [{**row, "text": None} for row in header_rows(60)]
    with pytest.raises(ValueError, match=r"data\.jsonl: column 'text' must hold texts, got Value\('null'\)"):
        load(write_rows(tmp_path / "data.jsonl", rows), cache_dir=cache_dir)


def test_the_error_for_a_label_unknown_to_train_names_the_row(tmp_path: Path, cache_dir: str) -> None:
    write_rows(tmp_path / "train.csv", header_rows(60))
    write_rows(tmp_path / "test.csv", [*header_rows(5), {"id": 1, "text": "a", "label": "odd"}])
    with pytest.raises(ValueError, match=r"test\.csv: row 7: label must be a class of train \(mixed, .*\), got 'odd'"):
        load(tmp_path, cache_dir=cache_dir, strict=True)


def test_a_class_number_out_of_range_is_an_error(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    train = Dataset.from_dict({"text": ["t"] * 20, "label": [0, 1] * 10}, features=features)
    test = Dataset.from_dict({"text": ["t", "t"], "label": [0, -1]}, features=features)  # -1: no label
    DatasetDict(train=train, test=test).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"saved: test: row 2: label must be in 0\.\.1, got '-1'"):
        load(tmp_path / "saved", strict=True)


def test_row_numbers_include_a_header_only_if_the_file_has_one(tmp_path: Path, cache_dir: str) -> None:
    """The error for a wrong type also names the file that determined the type."""
    (tmp_path / "train.csv").write_text("text,label\n" + "a,x\nb,y\n" * 20)
    test = tmp_path / "test.jsonl"
    test.write_text('{"text": " ", "label": "x"}\n')
    with pytest.raises(ValueError, match=r"test\.jsonl: row 1: text must not be empty"):
        load(tmp_path, cache_dir=cache_dir, strict=True)
    test.write_text('{"text": "a", "label": "x"}\n{"text": "a", "label": 1}\n')
    with pytest.raises(ValueError, match=r"test\.jsonl: row 2: label must be string as in .*train\.csv, got 1"):
        load(tmp_path, cache_dir=cache_dir)
