import copy
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

import kr_text.data.sources
from data_cases import CLASSES, header_rows, write_rows, write_zhang, zhang_rows
from kr_text.data import fingerprint, load, load_rows

# Folders and files


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_folder_with_classes_txt_has_text_and_label_in_three_splits(
    tmp_path: Path, cache_dir: str, suffix: str
) -> None:
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(60), "test": zhang_rows(9)}, suffix=suffix)
    dataset = load(folder, cache_dir=cache_dir)
    assert list(dataset) == ["train", "validation", "test"]
    assert dataset.num_rows == {"train": 54, "validation": 6, "test": 9}
    for split in dataset.values():
        assert split.features == Features({"text": Value("string"), "label": ClassLabel(names=CLASSES)})
    assert dataset["test"][4] == {"text": "title 4 text 4", "label": 1}


def test_an_existing_validation_file_leaves_train_whole(zhang: Path, cache_dir: str) -> None:
    (zhang / "validation.csv").write_text('"3","only",""\n')
    dataset = load(zhang, cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 60, "validation": 1, "test": 9}
    assert dataset["validation"][0] == {"text": "only", "label": 2}


def test_a_missing_test_file_is_cut_from_train(zhang: Path, cache_dir: str) -> None:
    (zhang / "test.csv").unlink()
    assert load(zhang, cache_dir=cache_dir).num_rows == {"train": 48, "validation": 6, "test": 6}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_single_file_is_cut_into_three_splits(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    file = write_rows(tmp_path / f"data{suffix}", header_rows(60))
    with caplog.at_level(logging.WARNING, "kr_text.data.sources"):
        dataset = load(file, cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 48, "validation": 6, "test": 6}
    texts = [text for split in dataset.values() for text in split["text"]]
    assert sorted(texts) == sorted(row["text"] for row in header_rows(60))
    assert caplog.messages == [f"{file} has no test split: 6 rows of train are set aside for it"]


def test_a_folder_of_save_to_disk_is_read(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    train = Dataset.from_dict({"text": ["t"] * 20, "label": [0, 1] * 10}, features=features)
    DatasetDict(train=train, test=train).save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved").num_rows == {"train": 18, "validation": 2, "test": 20}


def test_a_local_folder_takes_precedence_over_a_known_name(
    zhang: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zhang.rename(zhang.with_name("ag_news"))
    monkeypatch.chdir(zhang.parent)
    assert load("ag_news", cache_dir=cache_dir)["train"].features["label"].names == CLASSES


def test_load_rows_reads_all_rows_with_the_given_classes(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "new.csv", [{"text": "a", "label": "pos"}, {"text": "b", "label": "neg"}])
    rows = load_rows(file, ["mixed", "neg", "pos"], cache_dir=cache_dir)
    assert rows[:] == {"text": ["a", "b"], "label": [2, 1]}
    with pytest.raises(ValueError, match=r"new\.csv: row 2: label must be a class of the model \(mixed, neg\)"):
        load_rows(file, ["mixed", "neg"], cache_dir=cache_dir, strict=True)


@pytest.mark.parametrize("class_names", [["neg", "pos"], ["pos", "neg"], ["pos", "mixed", "neg"]])
def test_load_rows_matches_the_classes_of_a_parquet_file_by_name(
    tmp_path: Path, cache_dir: str, class_names: list[str]
) -> None:
    file = write_numbered(tmp_path / "new.parquet", ["pos", "neg"])
    rows = load_rows(file, class_names, cache_dir=cache_dir)
    assert rows.features["label"].names == class_names
    assert [class_names[number] for number in rows["label"]] == ["pos", "neg", "neg"]


def test_load_rows_refuses_a_parquet_file_with_other_classes(tmp_path: Path, cache_dir: str) -> None:
    file = write_numbered(tmp_path / "new.parquet", ["pos", "odd"])
    with pytest.raises(
        ValueError, match=r"new\.parquet: label must have classes of the model only \(neg, pos\), got odd$"
    ):
        load_rows(file, ["neg", "pos"], cache_dir=cache_dir)


def write_numbered(file: Path, names: list[str]) -> Path:
    """Writes 3 rows with the labels 0, 1, 1, and the names of the two classes."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 1]}, features=features).to_parquet(file)
    return file


def test_load_rows_refuses_a_folder(zhang: Path, cache_dir: str) -> None:
    with pytest.raises(ValueError, match=r"must be a file, got a folder: pass one of its files"):
        load_rows(zhang, CLASSES, cache_dir=cache_dir)


@pytest.mark.parametrize("path", ["no/such/folder", "missing.csv", "./gone", "/gone"])
def test_a_path_that_does_not_exist_is_an_error(path: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{path} must be a file or a folder that exists"):
        load(path)


def test_a_missing_train_file_is_an_error(zhang: Path) -> None:
    (zhang / "train.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"zhang must hold train\.csv.* got classes\.txt, test\.csv"):
        load(zhang)


def test_two_train_files_are_an_error(zhang: Path) -> None:
    (zhang / "train.csv.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"zhang must hold one train file, got train\.csv, train\.csv\.gz"):
        load(zhang)


def test_a_folder_without_header_and_classes_txt_is_an_error(zhang: Path) -> None:
    (zhang / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"train\.csv: columns must include 'text', got 1, title 0.* add classes\.txt"):
        load(zhang)


@pytest.mark.parametrize("classes", [["World"], ["World", "World"]])
def test_classes_txt_must_name_two_different_classes(zhang: Path, classes: list[str]) -> None:
    (zhang / "classes.txt").write_text("\n".join(classes))
    with pytest.raises(ValueError, match=r"classes\.txt must name at least 2 different classes, one class a line, got"):
        load(zhang)


def test_a_file_without_text_fields_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 1: must have the class number and a text field, got \['1'\]"):
        load(write_zhang(tmp_path / "z", {"train": ["1", "2"]}))


def test_columns_cannot_be_named_without_a_header(zhang: Path) -> None:
    with pytest.raises(ValueError, match=r"text_column and label_column must not be given: .*zhang has classes\.txt"):
        load(zhang, text_column="title")


def test_a_file_with_another_suffix_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"data\.xlsx must end in one of \.csv, \.csv\.gz"):
        load(tmp_path / "data.xlsx")


def test_a_data_set_without_train_is_an_error(tmp_path: Path) -> None:
    DatasetDict(test=Dataset.from_dict({"text": ["t"], "label": ["a"]})).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="saved must have a train split, got test"):
        load(tmp_path / "saved")


# Options


def test_max_train_rows_draws_from_train_and_changes_no_other_split(zhang: Path, cache_dir: str) -> None:
    whole, part, less = (load(zhang, max_train_rows=rows, cache_dir=cache_dir) for rows in (None, 20, 10))
    assert part["train"].num_rows == 20
    assert part["train"]["text"][:10] == less["train"]["text"][:]
    assert part["train"]["text"][:] != whole["train"]["text"][:20]
    assert set(part["train"]["text"]) < set(whole["train"]["text"])
    assert part["validation"][:] == whole["validation"][:]
    assert part["test"][:] == whole["test"][:]


def test_max_train_rows_out_of_range_is_an_error(zhang: Path) -> None:
    with pytest.raises(ValueError, match="max_train_rows must be at least 1, got 0"):
        load(zhang, max_train_rows=0)


@pytest.mark.parametrize("size", [0, -1, 0.0, 1.0, 2.5])
def test_validation_size_out_of_range_is_an_error(zhang: Path, size: float) -> None:
    with pytest.raises(ValueError, match=rf"validation_size must be a share in \(0, 1\) or a count .*, got {size}"):
        load(zhang, validation_size=size)


def test_the_fingerprint_changes_with_a_text_or_a_label_but_not_with_the_format(tmp_path: Path, cache_dir: str) -> None:
    def of(rows: list[dict[str, Any]], name: str) -> str:
        return fingerprint(load(write_rows(tmp_path / name, rows), cache_dir=cache_dir))

    rows = header_rows(60)
    assert of(rows, "a.csv") == of(rows, "b.jsonl")
    other_text, other_label = copy.deepcopy(rows), copy.deepcopy(rows)
    other_text[3]["text"] += "s"
    other_label[3]["label"] = "pos" if rows[3]["label"] != "pos" else "neg"
    assert len({of(rows, "a.csv"), of(other_text, "c.csv"), of(other_label, "d.csv")}) == 3


# Cache


def test_another_process_reads_the_cache(zhang: Path, cache_dir: str) -> None:
    first = load(zhang, cache_dir=cache_dir)
    files = {file: file.stat().st_mtime_ns for file in Path(cache_dir).rglob("*.arrow")}
    program = (
        f"from kr_text.data import load; splits = load({str(zhang)!r}, cache_dir={cache_dir!r}).values();"
        "print(*(split._fingerprint for split in splits))"
    )
    second = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert second.split() == [split._fingerprint for split in first.values()]
    assert {file: file.stat().st_mtime_ns for file in Path(cache_dir).rglob("*.arrow")} == files


def test_rows_stay_on_disk(zhang: Path, cache_dir: str) -> None:
    for split in load(zhang, cache_dir=cache_dir).values():
        assert all(file["filename"].startswith(cache_dir) for file in split.cache_files)
        assert split.cache_files


def test_a_changed_file_of_the_same_size_is_read_again(zhang: Path, cache_dir: str) -> None:
    for text in ("old", "new"):
        (zhang / "test.csv").write_text(f'"1","{text}",""\n')
        assert load(zhang, cache_dir=cache_dir)["test"]["text"][:] == [text]


def test_the_same_relative_path_in_another_folder_is_another_file(
    tmp_path: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("one", "two"):
        (tmp_path / text).mkdir()
        folder = write_zhang(tmp_path / text / "z", {"train": zhang_rows(60), "test": [f'"1","{text}",""']})
        for file in folder.iterdir():
            os.utime(file, (0, 0))
        monkeypatch.chdir(tmp_path / text)
        assert load("z", cache_dir=cache_dir)["test"]["text"][:] == [text]


# Hub and built-in corpus


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """Dataset repository in the format of the Hub."""
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
    _, texts, label = kr_text.data.sources.HUB_DATASETS["yahoo_answers"]
    monkeypatch.setitem(kr_text.data.sources.HUB_DATASETS, "yahoo_answers", (str(hub_folder), texts, label))
    dataset = load("yahoo_answers", cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 36, "validation": 4, "test": 8}
    assert dataset["train"].features["label"].names == ["Society & Culture", "Health"]
    assert dataset["test"][3] == {"text": "title 3 best answer 3", "label": 1}


def test_known_names_have_hub_ids() -> None:
    assert {name: hub_id for name, (hub_id, _, _) in kr_text.data.sources.HUB_DATASETS.items()} == {
        "ag_news": "fancyzhx/ag_news",
        "yahoo_answers": "community-datasets/yahoo_answers_topics",
        "yelp_review_full": "Yelp/yelp_review_full",
    }


def test_columns_of_other_hub_data_sets_must_be_named(
    hub_folder: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda hub_id, **options: real(str(hub_folder), **options))
    with pytest.raises(
        ValueError,
        match=r"someone/questions: train: columns must include 'text', got id, topic, question_title, .*text_column",
    ):
        load("someone/questions", cache_dir=cache_dir)
    dataset = load("someone/questions", text_column="question_title", label_column="topic", cache_dir=cache_dir)
    assert dataset["test"][3] == {"text": "title 3", "label": 1}


@pytest.mark.parametrize("name", ["ag_news", "someone/else"])
def test_an_unreachable_hub_is_an_error_that_suggests_a_folder(
    name: str, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConnectionError, match=rf"{name} is not a file or folder.*pass the path of a folder with train\.csv"
    ):
        load(name, cache_dir=cache_dir)


def test_a_name_unknown_to_the_hub_is_an_error(cache_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(hub_id: str, **options: Any) -> None:
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{hub_id}' doesn't exist on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        FileNotFoundError, match=r"questions must be a file or a folder that exists.*ag_news, yahoo_answers"
    ):
        load("questions", cache_dir=cache_dir)


@pytest.mark.parametrize(("name", "near"), [("agnews", "ag_news"), ("Yelp_Reviews_full", "yelp_review_full")])
def test_the_hub_is_not_asked_for_a_name_that_is_nearly_a_known_one(
    name: str, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise AssertionError("the Hub must not be asked")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        FileNotFoundError, match=rf"^{name} must be a file .* exists; did you mean {near}\? Hub ids are"
    ):
        load(name)
    with pytest.raises(AssertionError):
        load(f"someone/{name}")


def test_the_built_in_corpus_has_three_splits() -> None:
    dataset = load("synthetic_news")
    assert dataset.num_rows == {"train": 3600, "validation": 400, "test": 2000}
    assert dataset["train"].column_names == ["text", "label"]


# Real data, if KR_TEXT_DATA names their folder


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
