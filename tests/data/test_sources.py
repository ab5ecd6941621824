import copy
import gzip
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

import kr_text.data.sources
from kr_text.data.files import SUFFIXES, _quotes_enclose_fields
from kr_text.data.sources import _class_names, fingerprint, load, load_rows

CLASSES = ["World", "Sports", "Business"]


def write_zhang(
    folder: Path, rows: dict[str, list[str]], classes: list[str] | None = None, suffix: str = ".csv"
) -> Path:
    """Writes lines as they are, one file for each split, and classes.txt."""
    folder.mkdir(exist_ok=True)
    for split, lines in rows.items():
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"{split}{suffix}").write_bytes(
            gzip.compress(text.encode()) if suffix == ".csv.gz" else text.encode()
        )
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes or CLASSES))
    return folder


def zhang_rows(num_rows: int, num_classes: int = 3) -> list[str]:
    return [f'"{index % num_classes + 1}","title {index}","text {index}"' for index in range(num_rows)]


@pytest.fixture
def zhang(tmp_path: Path) -> Path:
    return write_zhang(tmp_path / "zhang", {"train": zhang_rows(60), "test": zhang_rows(9)})


@pytest.fixture
def cache_dir(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def train_with(zhang: Path, row: int, line: str) -> None:
    """Replaces one line of the 60 in train.csv."""
    lines = zhang_rows(60)
    lines[row - 1] = line
    (zhang / "train.csv").write_text("\n".join(lines) + "\n")


# Zhang's form


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_folder_in_zhangs_form_has_text_and_label_in_three_splits(
    tmp_path: Path, cache_dir: str, suffix: str
) -> None:
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(60), "test": zhang_rows(9)}, suffix=suffix)
    dataset = load(folder, cache_dir=cache_dir)
    assert list(dataset) == ["train", "validation", "test"]
    assert dataset.num_rows == {"train": 54, "validation": 6, "test": 9}
    for split in dataset.values():
        assert split.features == Features({"text": Value("string"), "label": ClassLabel(names=CLASSES)})
    assert dataset["test"][4] == {"text": "title 4 text 4", "label": 1}


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
def test_fields_become_one_text(tmp_path: Path, cache_dir: str, fields: str, text: str) -> None:
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(60), "test": [f'"1",{fields}']})
    assert load(folder, cache_dir=cache_dir)["test"]["text"][:] == [text]


def test_a_given_validation_file_is_used_and_train_is_left_whole(zhang: Path, cache_dir: str) -> None:
    (zhang / "validation.csv").write_text('"3","only",""\n')
    dataset = load(zhang, cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 60, "validation": 1, "test": 9}
    assert dataset["validation"][0] == {"text": "only", "label": 2}


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_do_not_count(zhang: Path, cache_dir: str) -> None:
    (zhang / "test.csv").write_bytes(b'\xef\xbb\xbf"1","a","b"\r\n\r\n"2","c","d"\r\n\r\n')
    assert load(zhang, cache_dir=cache_dir)["test"]["text"][:] == ["a b", "c d"]


def test_a_local_folder_comes_before_a_known_name(zhang: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zhang.rename(zhang.with_name("ag_news"))
    monkeypatch.chdir(zhang.parent)
    assert load("ag_news", cache_dir=cache_dir)["train"].features["label"].names == CLASSES


# Files with a header


def header_rows(num_rows: int) -> list[dict[str, Any]]:
    return [{"id": i, "text": f"text {i}", "label": ["pos", "neg", "mixed"][i % 3]} for i in range(num_rows)]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
        return file
    if ".json" in file.name:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        separator = "\t" if ".tsv" in file.name else ","
        text = "\n".join(
            separator.join(map(str, row)) for row in [list(rows[0])] + [list(row.values()) for row in rows]
        )
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_reads_alike(tmp_path: Path, cache_dir: str, suffix: str) -> None:
    for split, num_rows in (("train", 60), ("validation", 5), ("test", 7)):
        write_rows(tmp_path / f"{split}{suffix}", header_rows(num_rows))
    dataset = load(tmp_path, cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 60, "validation": 5, "test": 7}
    assert dataset["train"].features == Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=["mixed", "neg", "pos"]),
        }
    )
    assert dataset["train"][4] == {"text": "text 4", "label": 1}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_single_file_is_cut_into_three(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    file = write_rows(tmp_path / f"data{suffix}", header_rows(60))
    with caplog.at_level(logging.WARNING, "kr_text.data.sources"):
        dataset = load(file, cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 48, "validation": 6, "test": 6}
    texts = [text for split in dataset.values() for text in split["text"]]
    assert sorted(texts) == sorted(row["text"] for row in header_rows(60))
    assert caplog.messages == [f"{file} has no test split: 6 rows of train are set aside for it"]


def test_a_folder_without_a_test_file_has_test_cut_from_train(zhang: Path, cache_dir: str) -> None:
    (zhang / "test.csv").unlink()
    assert load(zhang, cache_dir=cache_dir).num_rows == {"train": 48, "validation": 6, "test": 6}


def test_columns_can_be_named_and_several_texts_joined(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"head": f"h{i}", "body": f"b{i}" if i % 2 else "", "kind": "ab"[i % 2]} for i in range(40)]
    file = write_rows(tmp_path / "data.csv", rows)
    dataset = load(file, text_column="head, body", label_column="kind", cache_dir=cache_dir)
    texts = [text for split in dataset.values() for text in split["text"]]
    assert {"h0", "h1 b1"} < set(texts)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_numbers_as_labels_are_sorted_by_value(tmp_path: Path, cache_dir: str, suffix: str) -> None:
    rows = [{"text": f"text {i}", "label": [10, 9, -1][i % 3]} for i in range(30)]
    dataset = load(write_rows(tmp_path / f"data{suffix}", rows), cache_dir=cache_dir)
    assert dataset["train"].features["label"].names == ["-1", "9", "10"]


def test_names_that_only_look_empty_stay_names(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": "NA", "label": ["null", "None", "nan"][i % 3]} for i in range(30)]
    dataset = load(write_rows(tmp_path / "data.csv", rows), cache_dir=cache_dir)
    assert dataset["train"].features["label"].names == ["None", "nan", "null"]
    assert set(dataset["train"]["text"]) == {"NA"}


def test_a_parquet_file_keeps_its_class_names(tmp_path: Path, cache_dir: str) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    Dataset.from_dict({"text": ["t"] * 20, "label": [0, 1] * 10}, features=features).to_parquet(tmp_path / "d.parquet")
    assert load(tmp_path / "d.parquet", cache_dir=cache_dir)["train"].features["label"].names == ["z", "a"]


def test_a_folder_of_save_to_disk_is_read(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    train = Dataset.from_dict({"text": ["t"] * 20, "label": [0, 1] * 10}, features=features)
    DatasetDict(train=train, test=train).save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved").num_rows == {"train": 18, "validation": 2, "test": 20}


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load(file, cache_dir=cache_dir)["train"].features["label"].names == ["a", "b"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_of_any_length_cross_the_blocks_of_a_big_file(
    tmp_path: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("kr_text.data.files._BLOCK_BYTES", 1000)
    texts = [f"{i}\n" + "line\n" * (i % 50) + "end" for i in range(200)]
    rows = [{"text": text if suffix == ".jsonl" else f'"{text}"', "label": i % 2} for i, text in enumerate(texts)]
    dataset = load(write_rows(tmp_path / f"data{suffix}", rows), cache_dir=cache_dir)
    assert sorted(text for split in dataset.values() for text in split["text"]) == sorted(texts)


def test_other_json_fields_may_hold_anything(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": f"text {i}", "label": i % 2, "other": [1, "a", {"b": []}][i % 3]} for i in range(20)]
    assert load(write_rows(tmp_path / "data.jsonl", rows), cache_dir=cache_dir)["train"].num_rows == 16


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_one_of_several_text_columns_may_be_missing_in_the_first_row(
    tmp_path: Path, cache_dir: str, suffix: str
) -> None:
    rows = [{"title": f"title {i}", "body": "body" if i else None, "label": i % 2} for i in range(20)]
    dataset = load(write_rows(tmp_path / f"data{suffix}", rows), text_column="title,body", cache_dir=cache_dir)
    texts = [text for split in dataset.values() for text in split["text"]]
    assert sorted(texts) == sorted(f"title {i} body" if i else "title 0" for i in range(20))


# Cuts


def test_cuts_are_stratified(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": f"text {i}", "label": "rare" if i % 10 == 0 else "common"} for i in range(400)]
    dataset = load(write_rows(tmp_path / "data.csv", rows), validation_size=50, cache_dir=cache_dir)
    for split, counts in (("validation", [45, 5]), ("test", [45, 5]), ("train", [270, 30])):
        assert np.bincount(dataset[split]["label"]).tolist() == counts


def test_validation_size_is_a_share_or_a_count(zhang: Path, cache_dir: str) -> None:
    assert load(zhang, validation_size=0.25, cache_dir=cache_dir)["validation"].num_rows == 15
    assert load(zhang, validation_size=7, cache_dir=cache_dir)["validation"].num_rows == 7


def test_the_default_cut_is_a_tenth_but_at_most_five_thousand_rows(tmp_path: Path, cache_dir: str) -> None:
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(51_000), "test": zhang_rows(9)})
    assert load(folder, cache_dir=cache_dir)["validation"].num_rows == 5_000


def test_the_seed_decides_the_cut(zhang: Path, cache_dir: str) -> None:
    first, again, other = (load(zhang, seed=seed, cache_dir=cache_dir)["validation"]["text"][:] for seed in (0, 0, 1))
    assert first == again != other


def test_train_and_validation_have_no_row_in_common(zhang: Path, cache_dir: str) -> None:
    dataset = load(zhang, cache_dir=cache_dir)
    assert len(set(dataset["train"]["text"]) | set(dataset["validation"]["text"])) == 60


def test_what_is_set_aside_is_small_files_so_that_the_whole_need_not_stay_mapped(
    tmp_path: Path, cache_dir: str
) -> None:
    rows = [{"text": "word " * 100, "label": str(i % 2)} for i in range(2_000)]
    dataset = load(write_rows(tmp_path / "data.csv", rows), validation_size=100, cache_dir=cache_dir)
    sizes = {
        split: sum(Path(file["filename"]).stat().st_size for file in dataset[split].cache_files) for split in dataset
    }
    assert sizes["train"] > 10 * sizes["validation"] == 10 * sizes["test"] > 0


def test_max_train_rows_keeps_a_shuffled_part_of_train_and_nothing_else_changes(zhang: Path, cache_dir: str) -> None:
    whole, part, less = (load(zhang, max_train_rows=rows, cache_dir=cache_dir) for rows in (None, 20, 10))
    assert part["train"].num_rows == 20
    assert part["train"]["text"][:10] == less["train"]["text"][:]
    assert part["train"]["text"][:] != whole["train"]["text"][:20]
    assert set(part["train"]["text"]) < set(whole["train"]["text"])
    assert part["validation"][:] == whole["validation"][:]
    assert part["test"][:] == whole["test"][:]


# Cache


def test_another_process_reads_the_cache(zhang: Path, cache_dir: str) -> None:
    first = load(zhang, cache_dir=cache_dir)
    files = {file: file.stat().st_mtime_ns for file in Path(cache_dir).rglob("*.arrow")}
    program = (
        f"from kr_text.data.sources import load; splits = load({str(zhang)!r}, cache_dir={cache_dir!r}).values();"
        "print(*(split._fingerprint for split in splits))"
    )
    second = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert second.split() == [split._fingerprint for split in first.values()]
    assert {file: file.stat().st_mtime_ns for file in Path(cache_dir).rglob("*.arrow")} == files


def test_rows_stay_on_disk(zhang: Path, cache_dir: str) -> None:
    for split in load(zhang, cache_dir=cache_dir).values():
        assert all(file["filename"].startswith(cache_dir) for file in split.cache_files)
        assert split.cache_files


def test_a_changed_file_of_the_same_size_is_read_anew(zhang: Path, cache_dir: str) -> None:
    for text in ("old", "new"):
        (zhang / "test.csv").write_text(f'"1","{text}",""\n')
        assert load(zhang, cache_dir=cache_dir)["test"]["text"][:] == [text]


def test_the_same_relative_path_elsewhere_is_another_file(
    tmp_path: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("one", "two"):
        (tmp_path / text).mkdir()
        folder = write_zhang(tmp_path / text / "z", {"train": zhang_rows(60), "test": [f'"1","{text}",""']})
        for file in folder.iterdir():
            os.utime(file, (0, 0))
        monkeypatch.chdir(tmp_path / text)
        assert load("z", cache_dir=cache_dir)["test"]["text"][:] == [text]


# Hub


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """A dataset repository as the Hub has it."""
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    for split, num_rows in (("train", 40), ("test", 8)):
        numbers = range(num_rows)
        table = pa.table(
            {
                "id": list(numbers),
                "topic": [i % 2 for i in numbers],
                "question_title": [f"title {i}" for i in numbers],
                "question_content": ["" for _ in numbers],
                "best_answer": [f"best\\nanswer {i}" for i in numbers],
            }
        )
        pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        """---
dataset_info:
  features:
  - name: id
    dtype: int64
  - name: topic
    dtype:
      class_label:
        names:
          '0': Society & Culture
          '1': Health
  - name: question_title
    dtype: string
  - name: question_content
    dtype: string
  - name: best_answer
    dtype: string
  splits:
  - name: train
    num_examples: 40
  - name: test
    num_examples: 8
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
"""
    )
    return folder


def test_a_known_name_is_loaded_from_its_hub_repository(
    hub_folder: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, texts, label = kr_text.data.sources._HUB["yahoo_answers"]
    monkeypatch.setitem(kr_text.data.sources._HUB, "yahoo_answers", (str(hub_folder), texts, label))
    dataset = load("yahoo_answers", cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 36, "validation": 4, "test": 8}
    assert dataset["train"].features["label"].names == ["Society & Culture", "Health"]
    assert dataset["test"][3] == {"text": "title 3 best answer 3", "label": 1}


def test_known_names_have_the_hub_ids_and_columns_of_zhangs_sets() -> None:
    assert {name: hub_id for name, (hub_id, _, _) in kr_text.data.sources._HUB.items()} == {
        "ag_news": "fancyzhx/ag_news",
        "yahoo_answers": "community-datasets/yahoo_answers_topics",
        "yelp_review_full": "Yelp/yelp_review_full",
    }


def test_any_other_hub_set_needs_its_columns_named(
    hub_folder: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda hub_id, **options: real(str(hub_folder), **options))
    with pytest.raises(
        ValueError,
        match=r"someone/questions: columns must include 'text', got id, topic, question_title, .*text_column",
    ):
        load("someone/questions", cache_dir=cache_dir)
    dataset = load("someone/questions", text_column="question_title", label_column="topic", cache_dir=cache_dir)
    assert dataset["test"][3] == {"text": "title 3", "label": 1}


@pytest.mark.parametrize("name", ["ag_news", "someone/else"])
def test_without_the_hub_the_error_names_the_way_out(
    name: str, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConnectionError, match=rf"{name} is no file or folder.*pass the path of a folder with train\.csv"
    ):
        load(name, cache_dir=cache_dir)


def test_a_name_that_the_hub_does_not_know_is_an_error(cache_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(hub_id: str, **options: Any) -> None:
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{hub_id}' doesn't exist on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        FileNotFoundError, match=r"agnews must be a file or a folder that exists.*ag_news, yahoo_answers"
    ):
        load("agnews", cache_dir=cache_dir)


def test_the_built_in_corpus_has_three_splits() -> None:
    dataset = load("synthetic_news")
    assert dataset.num_rows == {"train": 3600, "validation": 400, "test": 2000}
    assert dataset["train"].column_names == ["text", "label"]


# Errors


@pytest.mark.parametrize("path", ["no/such/folder", "missing.csv", "./gone", "/gone"])
def test_a_path_that_does_not_exist_is_an_error(path: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{path} must be a file or a folder that exists"):
        load(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"4","a","b"', r"class must be in 1\.\.3, got '4'"),
        ('"0","a","b"', r"class must be in 1\.\.3, got '0'"),
        ('"","a","b"', r"class must be in 1\.\.3, got ''"),
        ('"Sports","a","b"', r"class must be in 1\.\.3, got 'Sports'"),
        ('"1",""," "', "text must not be empty"),
        (r'"1","\n",""', "text must not be empty"),
        ('"1","a"', "must have 3 fields, got 2: 1, a"),
        ('"1","a","b","c"', "must have 3 fields, got 4: 1, a, b, c"),
        ('"1","a","b', "a quote that opens a field must close it"),
        ('"1","a "b" c","d', "a quote that opens a field must close it"),
    ],
)
def test_a_wrong_row_is_named(zhang: Path, cache_dir: str, line: str, message: str) -> None:
    train_with(zhang, 17, line)
    with pytest.raises(ValueError, match=rf"^{zhang}/train\.csv: row 17: {message}"):
        load(zhang, cache_dir=cache_dir)


def test_a_quote_that_is_open_at_the_end_of_the_file_is_an_error(zhang: Path, cache_dir: str) -> None:
    train_with(zhang, 60, '"1","a","b')
    with pytest.raises(ValueError, match=rf"^{zhang}/train\.csv: row 60: a quote that opens a field must close it"):
        load(zhang, cache_dir=cache_dir)


def test_errors_name_the_path_as_given(zhang: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zhang.parent)
    train_with(zhang, 17, '"1","a"')
    with pytest.raises(ValueError, match=r"^zhang/train\.csv: row 17: must have 3 fields"):
        load("zhang", cache_dir=cache_dir)


def test_bytes_that_are_not_utf8_are_named(zhang: Path, cache_dir: str) -> None:
    lines = [line.encode() for line in zhang_rows(60)]
    lines[16] = '"1","Zürich","b"'.encode("latin-1")
    (zhang / "train.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=r"train\.csv: row 17: must be UTF-8, got byte 0xfc at place 7 of the line"):
        load(zhang, cache_dir=cache_dir)


def test_rows_are_records_so_a_text_of_two_lines_counts_once(zhang: Path, cache_dir: str) -> None:
    lines = zhang_rows(60)
    lines[2] = '"1","two\nlines","b"'
    lines[4] = '"9","a","b"'
    (zhang / "train.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"row 5: class must be in 1\.\.3, got '9'"):
        load(zhang, cache_dir=cache_dir)


def test_an_error_deep_in_a_file_has_the_right_row(tmp_path: Path, cache_dir: str) -> None:
    lines = zhang_rows(25_000)
    lines[23_456] = '"7","a","b"'
    folder = write_zhang(tmp_path / "z", {"train": lines, "test": zhang_rows(9)})
    with pytest.raises(ValueError, match="row 23457: class"):
        load(folder, cache_dir=cache_dir)


def test_a_test_file_with_other_fields_than_train_is_an_error(zhang: Path, cache_dir: str) -> None:
    (zhang / "test.csv").write_text('"1","a"\n')
    with pytest.raises(ValueError, match=r"test\.csv: row 1: must have 3 fields, got 2"):
        load(zhang, cache_dir=cache_dir)


def test_a_class_of_test_that_train_lacks_is_an_error(zhang: Path, cache_dir: str) -> None:
    (zhang / "train.csv").write_text("\n".join(zhang_rows(60, num_classes=2)))
    with pytest.raises(
        ValueError, match=r"test\.csv: every class must have rows in .*train\.csv too, Business has none"
    ):
        load(zhang, cache_dir=cache_dir)


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"")], ids=["no bytes", "empty lines", "gzip"])
def test_an_empty_file_is_an_error(zhang: Path, cache_dir: str, content: bytes) -> None:
    (zhang / "train.csv").unlink()
    (zhang / ("train.csv.gz" if content[:1] == b"\x1f" else "train.csv")).write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.csv.*: must have at least one row, got an empty file"):
        load(zhang, cache_dir=cache_dir)


def test_an_empty_test_file_is_an_error(zhang: Path, cache_dir: str) -> None:
    (zhang / "test.csv").write_text("")
    with pytest.raises(ValueError, match=r"test\.csv: must have at least one row, got an empty file"):
        load(zhang, cache_dir=cache_dir)


@pytest.mark.parametrize("keep", [10, 200])
def test_a_damaged_gzip_file_is_an_error(zhang: Path, cache_dir: str, keep: int) -> None:
    (zhang / "train.csv").unlink()
    (zhang / "train.csv.gz").write_bytes(gzip.compress("\n".join(zhang_rows(600)).encode())[:keep])
    with pytest.raises(ValueError, match=r"train\.csv\.gz: row \d+: must be a whole gzip file"):
        load(zhang, cache_dir=cache_dir)


def test_a_file_that_is_only_named_gzip_is_an_error(zhang: Path, cache_dir: str) -> None:
    (zhang / "train.csv").rename(zhang / "train.csv.gz")
    with pytest.raises(ValueError, match=r"train\.csv\.gz: row 1: must be a whole gzip file, got: Not a gzipped file"):
        load(zhang, cache_dir=cache_dir)


def test_a_missing_train_file_is_an_error(zhang: Path) -> None:
    (zhang / "train.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"zhang must hold train\.csv.* got classes\.txt, test\.csv"):
        load(zhang)


def test_two_train_files_are_an_error(zhang: Path) -> None:
    (zhang / "train.csv.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"zhang must hold one train file, got train\.csv, train\.csv\.gz"):
        load(zhang)


def test_a_folder_without_header_and_classes_is_an_error(zhang: Path) -> None:
    (zhang / "classes.txt").unlink()
    with pytest.raises(
        ValueError, match=r"train\.csv: columns must include 'text', got 1, title 0.* needs a classes\.txt"
    ):
        load(zhang)


@pytest.mark.parametrize("classes", [["World"], ["World", "World"]])
def test_classes_must_be_two_and_differ(zhang: Path, classes: list[str]) -> None:
    (zhang / "classes.txt").write_text("\n".join(classes))
    with pytest.raises(ValueError, match=r"classes\.txt must name at least 2 classes, one a line and each once, got"):
        load(zhang)


def test_a_file_without_text_fields_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 1: must have the class number and a text field, got \['1'\]"):
        load(write_zhang(tmp_path / "z", {"train": ["1", "2"]}))


def test_columns_cannot_be_named_where_there_is_no_header(zhang: Path) -> None:
    with pytest.raises(ValueError, match=r"text_column and label_column must not be given: .*zhang has classes\.txt"):
        load(zhang, text_column="title")


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"data\.xlsx must end in one of \.csv, \.csv\.gz"):
        load(tmp_path / "data.xlsx")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_column_lists_those_there_are(tmp_path: Path, suffix: str) -> None:
    file = write_rows(tmp_path / f"data{suffix}", header_rows(9))
    with pytest.raises(
        ValueError, match=rf"data\{suffix}: columns must include 'body', got id, text, label: name others"
    ):
        load(file, text_column="text,body")


@pytest.mark.parametrize(("suffix", "row"), [(".csv", 6), (".jsonl", 5), (".parquet", 5)])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"text": " "}, "text must not be empty"), ({"label": ""}, r"label must be a class of train \(mixed, neg, pos\)")],
)
def test_a_wrong_row_under_a_header_is_named(
    tmp_path: Path, cache_dir: str, suffix: str, row: int, wrong: dict[str, str], message: str
) -> None:
    rows = header_rows(60)
    rows[4] |= wrong
    file = write_rows(tmp_path / f"data{suffix}", rows)
    with pytest.raises(ValueError, match=rf"^{file}: row {row}: {message}, got "):
        load(file, cache_dir=cache_dir)


@pytest.mark.parametrize(
    ("missing", "message"), [("text", "text must not be empty, got ''"), ("label", "label must be a class of train")]
)
def test_a_value_that_the_first_json_line_lacks_is_named(
    tmp_path: Path, cache_dir: str, missing: str, message: str
) -> None:
    rows = header_rows(60)
    rows[0][missing] = None
    with pytest.raises(ValueError, match=rf"data\.jsonl: row 1: {message}"):
        load(write_rows(tmp_path / "data.jsonl", rows), cache_dir=cache_dir)


def test_a_json_column_without_any_value_is_named(tmp_path: Path, cache_dir: str) -> None:
    rows = [{**row, "text": None} for row in header_rows(60)]
    with pytest.raises(ValueError, match=r"data\.jsonl: column 'text' must hold texts, got Value\('null'\)"):
        load(write_rows(tmp_path / "data.jsonl", rows), cache_dir=cache_dir)


def test_a_label_of_test_that_train_lacks_is_named(tmp_path: Path, cache_dir: str) -> None:
    write_rows(tmp_path / "train.csv", header_rows(60))
    write_rows(tmp_path / "test.csv", [*header_rows(5), {"id": 1, "text": "a", "label": "odd"}])
    with pytest.raises(ValueError, match=r"test\.csv: row 7: label must be a class of train \(mixed, .*\), got 'odd'"):
        load(tmp_path, cache_dir=cache_dir)


def test_a_header_without_rows_is_an_error(tmp_path: Path, cache_dir: str) -> None:
    (tmp_path / "data.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match=r"data\.csv: must have at least one row after the header, got none"):
        load(tmp_path / "data.csv", cache_dir=cache_dir)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "label": "pos"', "must be one JSON object on one line"),
        ('["a", "pos"]', "must be one JSON object on one line"),
        ('{"text": 7, "label": "pos"}', "text must be string as in the rows before, got 7"),
        ('{"text": "a", "label": 1}', "label must be string as in the rows before, got 1"),
        ('{"text": "a"}', "label must be a class of train .*, got None"),
        ('{"text": null, "label": "pos"}', "text must not be empty"),
        ('{"text": "a \\ud83d", "label": "pos"}', "text must be Unicode, got half of a surrogate pair"),
    ],
)
def test_a_wrong_json_line_is_named(tmp_path: Path, cache_dir: str, line: str, message: str) -> None:
    lines = [json.dumps(row) for row in header_rows(60)]
    lines[6] = line
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"data\.jsonl: row 7: {message}"):
        load(tmp_path / "data.jsonl", cache_dir=cache_dir)


def test_rows_count_by_the_form_of_their_own_file(tmp_path: Path, cache_dir: str) -> None:
    """A header counts where there is one; and what a row must be is said with the file that says it."""
    (tmp_path / "train.csv").write_text("text,label\n" + "a,x\nb,y\n" * 20)
    test = tmp_path / "test.jsonl"
    test.write_text('{"text": " ", "label": "x"}\n')
    with pytest.raises(ValueError, match=r"test\.jsonl: row 1: text must not be empty"):
        load(tmp_path, cache_dir=cache_dir)
    test.write_text('{"text": "a", "label": "x"}\n{"text": "a", "label": 1}\n')
    with pytest.raises(ValueError, match=r"test\.jsonl: row 2: label must be string as in .*train\.csv, got 1"):
        load(tmp_path, cache_dir=cache_dir)


def test_a_column_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,text,label\na,b,x\n")
    with pytest.raises(ValueError, match=r"data\.csv: columns must include 'text' once, got text, text, label"):
        load(tmp_path / "data.csv")


def test_a_json_array_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps(header_rows(9), indent=1))
    with pytest.raises(ValueError, match=r"data\.json: row 1: must be one JSON object on one line"):
        load(tmp_path / "data.json")


def test_a_file_that_is_only_named_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_text("text,label\na,b\n")
    with pytest.raises(ValueError, match=r"data\.parquet: must be a Parquet file, got"):
        load(tmp_path / "data.parquet")


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


def test_a_hub_label_out_of_range_is_an_error(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    train = Dataset.from_dict({"text": ["t"] * 20, "label": [0, 1] * 10}, features=features)
    test = Dataset.from_dict({"text": ["t", "t"], "label": [0, -1]}, features=features)
    DatasetDict(train=train, test=test).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"saved: test: row 2: label must be in 0\.\.1, got '-1'"):
        load(tmp_path / "saved")


def test_splits_without_train_are_an_error(tmp_path: Path) -> None:
    DatasetDict(test=Dataset.from_dict({"text": ["t"], "label": ["a"]})).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="saved must have a train split, got test"):
        load(tmp_path / "saved")


def test_a_single_class_is_an_error(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", [{"text": "a", "label": "pos"}] * 9)
    with pytest.raises(ValueError, match=r"data\.csv: must have rows of at least 2 classes, got pos"):
        load(file, cache_dir=cache_dir)


def test_a_class_with_one_row_cannot_be_cut(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", [*header_rows(60), {"id": 1, "text": "a", "label": "odd"}])
    with pytest.raises(
        ValueError, match=r"data\.csv: train: every class must have at least 2 rows .*odd has 1: add rows"
    ):
        load(file, cache_dir=cache_dir)


@pytest.mark.parametrize("size", [2, 31, 0.9])
def test_a_cut_that_leaves_too_little_is_an_error(zhang: Path, cache_dir: str, size: float) -> None:
    with pytest.raises(
        ValueError, match=r"validation_size must set aside a row for each class, 3, and at most half of"
    ):
        load(zhang, validation_size=size, cache_dir=cache_dir)


@pytest.mark.parametrize("size", [0, -1, 0.0, 1.0, 2.5])
def test_a_validation_size_out_of_range_is_an_error(zhang: Path, size: float) -> None:
    with pytest.raises(ValueError, match=rf"validation_size must be a share in \(0, 1\) or a count .*, got {size}"):
        load(zhang, validation_size=size)


def test_a_max_train_rows_out_of_range_is_an_error(zhang: Path) -> None:
    with pytest.raises(ValueError, match="max_train_rows must be at least 1, got 0"):
        load(zhang, max_train_rows=0)


# The real data: only where KR_TEXT_DATA names their folder

REAL_ROWS = {
    "ag_news": (64_078, 7_600, 4),
    "yahoo_answers": (47_650, 8_000, 10),
    "yahoo_answers_fulltext": (10_000, 10_000, 10),
    "yelp_review_full": (27_530, 4_382, 5),
}

if "KR_TEXT_DATA" in os.environ:

    @pytest.mark.parametrize("name", REAL_ROWS)
    def test_real_data_have_the_rows_of_their_readme(name: str, cache_dir: str) -> None:
        dataset = load(Path(os.environ["KR_TEXT_DATA"]) / name, cache_dir=cache_dir)
        num_train, num_test, num_labels = REAL_ROWS[name]
        assert dataset["train"].num_rows + dataset["validation"].num_rows == num_train
        assert dataset["test"].num_rows == num_test
        assert set(dataset["train"].unique("label")) == set(range(num_labels))
        assert not any(r"\n" in text for text in dataset["test"]["text"])


# Quotes, class names and what data are the same


@pytest.mark.parametrize(
    "wrong", ['"Great" movie,pos', '"Great movie and more,pos\n' + "a,neg\n" * 9 + '"Great movie and more,pos']
)
def test_a_stray_quote_swallows_no_rows(tmp_path: Path, cache_dir: str, wrong: str) -> None:
    (tmp_path / "data.csv").write_text("text,label\n" + "a,pos\nb,neg\n" * 10 + wrong + "\n" + "a,pos\n" * 9)
    with pytest.raises(ValueError, match=r"data\.csv: row \d+: a quote that opens a field must close it"):
        load(tmp_path / "data.csv", cache_dir=cache_dir)


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 23])
def test_quotes_that_enclose_fields_are_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr("kr_text.data.files._BLOCK_BYTES", block_bytes)
    file = tmp_path / "data.csv"
    for text, enclose in [
        ('text,label\n"a, b",x\n"say ""hi""","y"\n"",z', True),
        ('"text","label"\r\n"two\nlines","x"\r\n', True),
        ("a,b\n", True),
        ('a 5" disk,x\n', False),
        ('"a" b,x\n', False),
        ('"a,x\nb,y\n', False),
    ]:
        file.write_text(text, newline="")
        assert _quotes_enclose_fields(file) == enclose, text


def test_quotes_within_fields_are_text(tmp_path: Path, cache_dir: str) -> None:
    texts = [f'a {i}" disk' for i in range(20)]
    rows = "".join(f"{text},{'xy'[i % 2]}\n" for i, text in enumerate(texts))
    (tmp_path / "data.csv").write_text("text,label\n" + rows)
    dataset = load(tmp_path / "data.csv", cache_dir=cache_dir)
    assert sorted(text for split in dataset.values() for text in split["text"]) == sorted(texts)


def test_a_long_text_with_a_quote_in_it_is_read(tmp_path: Path, cache_dir: str) -> None:
    long = '5" disks ' * 20_001  # more than csv reads by default, with an odd number of quotes
    (tmp_path / "data.csv").write_text("text,label\n" + f"{long},x\n" + "a,y\nb,x\n" * 10)
    dataset = load(tmp_path / "data.csv", cache_dir=cache_dir)
    assert long.strip() in {text for split in dataset.values() for text in split["text"]}


@pytest.mark.parametrize("parquet", [False, True])
def test_numbers_of_other_classes_in_a_split_are_refused(tmp_path: Path, cache_dir: str, parquet: bool) -> None:
    splits = DatasetDict()
    for split, names in (("train", ["a", "b", "c"]), ("test", ["b", "c"])):
        rows = {"text": [f"text {i}" for i in range(12)], "label": [i % len(names) for i in range(12)]}
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        splits[split] = Dataset.from_dict(rows, features=features)
        if parquet:
            splits[split].to_parquet(tmp_path / f"{split}.parquet")
    if not parquet:
        splits.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match=r"test.*: label must have the classes of train in their order, a, b, c, got"):
        load(tmp_path if parquet else tmp_path / "saved", cache_dir=cache_dir)


def test_equal_numbers_as_labels_have_an_order() -> None:
    assert [_class_names(labels) for labels in (["2", "1.0", "1"], ["1", "2", "1.0"])] == [["1", "1.0", "2"]] * 2


def test_one_file_is_read_whole_with_the_classes_that_are_given(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "new.csv", [{"text": "a", "label": "pos"}, {"text": "b", "label": "neg"}])
    rows = load_rows(file, ["mixed", "neg", "pos"], cache_dir=cache_dir)
    assert rows[:] == {"text": ["a", "b"], "label": [2, 1]}
    with pytest.raises(ValueError, match=r"new\.csv: row 2: label must be a class of the model \(mixed, neg\)"):
        load_rows(file, ["mixed", "neg"], cache_dir=cache_dir)


def test_a_fingerprint_is_that_of_texts_labels_and_classes(tmp_path: Path, cache_dir: str) -> None:
    def of(rows: list[dict[str, Any]], name: str) -> str:
        return fingerprint(load(write_rows(tmp_path / name, rows), cache_dir=cache_dir))

    rows = header_rows(60)
    assert of(rows, "a.csv") == of(rows, "b.jsonl")
    other_text, other_label = copy.deepcopy(rows), copy.deepcopy(rows)
    other_text[3]["text"] += "s"
    other_label[3]["label"] = "pos" if rows[3]["label"] != "pos" else "neg"
    assert len({of(rows, "a.csv"), of(other_text, "c.csv"), of(other_label, "d.csv")}) == 3
