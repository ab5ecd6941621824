"""Loads data sets from the Hugging Face Hub, folders, single files and the built-in corpus."""

import hashlib
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features

from kr_text.data.arrow_cache import read_files
from kr_text.data.columns import Source, require_columns, require_equal_class_names, split_names, text_and_label
from kr_text.data.files import (
    SUFFIXES,
    column_names,
    column_types,
    first_record,
    is_csv,
    is_parquet,
    is_table,
    listed,
)
from kr_text.data.split import cut
from kr_text.data.synthetic_news import synthetic_news
from kr_text.ranges import require_at_least

logger = logging.getLogger(__name__)

# Data sets of Zhang, Zhao & LeCun (2015): name -> Hub id, text columns, label column.
HUB_DATASETS = {
    "ag_news": ("fancyzhx/ag_news", "text", "label"),
    "yahoo_answers": (
        "community-datasets/yahoo_answers_topics",
        "question_title,question_content,best_answer",
        "topic",
    ),
    "yelp_review_full": ("Yelp/yelp_review_full", "text", "label"),
}
SPLITS = ("train", "validation", "test")


def load(
    name_or_path: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    validation_size: float | int | None = None,
    max_train_rows: int | None = None,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
) -> DatasetDict:
    r"""Loads a data set as train, validation and test with the columns text (string) and label (ClassLabel).

    An existing path is read as a path, even if a known data set has the same name:

    * A folder with `classes.txt` has the format of Zhang et al. (2015): `train`, `test` and optionally `validation` as
      `.csv` or `.csv.gz` without a header. The first field is the class number, from 1; the text fields follow. The
      two characters `\n` become a space.
    * Any other folder holds `train` and optionally `validation` and `test`, each as `.csv`, `.tsv`, `.jsonl` or `.json`
      (also JSON lines), optionally with `.gz`, or as `.parquet`; CSV and TSV files have a header. A folder written by
      `DatasetDict.save_to_disk` is read too.
    * A single file of these types is the whole data set.

    Other names are `ag_news`, `yahoo_answers`, `yelp_review_full`, `synthetic_news`, or any id on the Hub.

    Labels are class names or whole numbers. The classes are the sorted labels of train, numbers by value. Several text
    fields are joined with one space, without the empty fields. If there is no test split, it is cut from train, and
    then validation likewise, stratified by class. Arrow files under `cache_dir` hold the rows; later calls reuse them.

    Args:
        name_or_path: Name or path of the data set.
        text_column: Column with the text, or several, comma-separated. Default: text.
        label_column: Column with the class. Default: label.
        validation_size: Share in (0, 1) or number of the rows to cut for a missing split. Default: 10%, at most 5,000.
        max_train_rows: Maximum number of training rows, drawn at random; validation and test do not depend on it.
        seed: Seed of the cuts and of `max_train_rows`.
        cache_dir: Folder for the Arrow files. Default: the cache of `datasets`.

    Raises:
        FileNotFoundError: If a path, a train file or a Hub id does not exist.
        ConnectionError: If the Hub cannot be reached.
        ValueError: If a file is malformed, with its name and row. Row numbers start at 1; a header counts as a row,
            blank lines do not.
    """
    if validation_size is not None and not 0 < validation_size < (math.inf if isinstance(validation_size, int) else 1):
        raise ValueError(f"validation_size must be a share in (0, 1) or a count of at least 1, got {validation_size}")
    if max_train_rows is not None:
        require_at_least(1, max_train_rows=max_train_rows)
    path = Path(name_or_path)
    if path.exists():
        dataset = text_and_label(_from_path(path, text_column, label_column, cache_dir))
    elif str(name_or_path) == "synthetic_news":
        dataset = synthetic_news().dataset
    else:
        dataset = text_and_label(_from_hub(str(name_or_path), text_column, label_column, cache_dir))
    for split in ("test", "validation"):
        if split not in dataset:
            dataset["train"], dataset[split] = cut(dataset["train"], validation_size, seed, f"{path}: train")
            log = logger.warning if split == "test" else logger.info
            log("%s has no %s split: %d rows of train are set aside for it", path, split, dataset[split].num_rows)
    if max_train_rows is not None and max_train_rows < dataset["train"].num_rows:
        dataset["train"] = dataset["train"].shuffle(seed=seed).select(range(max_train_rows))
    return DatasetDict({split: dataset[split] for split in SPLITS})


def load_rows(
    file: str | os.PathLike[str],
    class_names: Sequence[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Loads all rows of one file, with labels from the given classes; the file need not contain every class.

    Labels are matched by class name, also where a Parquet file numbers its classes in another order.

    Args:
        file: File to load.
        class_names: Names of the classes, in the order of their numbers.
        text_column: As for `load`.
        label_column: As for `load`.
        cache_dir: As for `load`.

    Raises:
        ValueError: If a row is malformed or its label is not in `class_names`, with its number; if a Parquet file names
            classes that are not in `class_names`, or `file` is a folder.
    """
    if Path(file).is_dir():
        raise ValueError(f"{file} must be a file, got a folder: pass one of its files, or read its splits with `load`")
    source = _from_path(Path(file), text_column, label_column, cache_dir)
    return text_and_label(source, list(class_names))["train"]


def fingerprint(data: DatasetDict) -> str:
    """Hash of all texts, labels and class names, which identifies the data of a run."""
    found = hashlib.blake2b(digest_size=16)
    for split, rows in data.items():
        found.update(repr((split, rows.num_rows, rows.features["label"].names)).encode())
        for batch in rows.with_format("arrow").iter(batch_size=10_000):
            found.update("\0".join(batch["text"].to_pylist()).encode())
            found.update(batch["label"].to_numpy().tobytes())
    return found.hexdigest()


def _from_path(path: Path, text_column: str | None, label_column: str | None, cache_dir: Any) -> Source:
    if path.is_file():
        if not is_table(path):
            raise ValueError(f"{path} must end in one of {', '.join(SUFFIXES)}")
        return _from_files({"train": path}, text_column, label_column, cache_dir)
    if (path / "dataset_dict.json").exists():
        return _from_splits(DatasetDict.load_from_disk(str(path)), str(path), text_column, label_column)
    files = _split_files(path)
    if not ((path / "classes.txt").exists() and is_csv(files["train"])):
        return _from_files(files, text_column, label_column, cache_dir)
    if text_column or label_column:
        raise ValueError(f"text_column and label_column must not be given: {path} has classes.txt, so it has no header")
    return _from_zhang(files, path / "classes.txt", cache_dir)


def _split_files(folder: Path) -> dict[str, Path]:
    files = {}
    for split in SPLITS:
        found = [folder / f"{split}{suffix}" for suffix in SUFFIXES if (folder / f"{split}{suffix}").exists()]
        if len(found) > 1:
            raise ValueError(f"{folder} must hold one {split} file, got {', '.join(file.name for file in found)}")
        if found:
            files[split] = found[0]
    if "train" not in files:
        names = listed(sorted(file.name for file in folder.iterdir()))
        raise FileNotFoundError(
            f"{folder} must hold train.csv, or train with one of {', '.join(SUFFIXES)}, got {names}"
        )
    return files


def _from_zhang(files: dict[str, Path], classes: Path, cache_dir: Any) -> Source:
    names = [name for line in classes.read_text("utf-8-sig").splitlines() if (name := line.strip())]
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"{classes} must name at least 2 different classes, one class a line, got {names}")
    record = first_record(files["train"])
    if len(record) < 2:
        raise ValueError(f"{files['train']}: row 1: must have the class number and a text field, got {record}")
    schema = pa.schema([(f"field_{index}", pa.string()) for index, _ in enumerate(record)])
    where = {split: str(file) for split, file in files.items()}
    splits = read_files(files, schema, False, cache_dir)
    return Source(splits, schema.names[1:], schema.names[0], where, class_names=names, unescape=True)


def _from_files(files: dict[str, Path], text_column: str | None, label_column: str | None, cache_dir: Any) -> Source:
    texts, label = split_names(text_column), label_column or "label"
    for file in files.values():
        require_columns([*texts, label], column_names(file), str(file))
    where = {split: str(file) for split, file in files.items()}
    types = {split: column_types(file, [*texts, label]) for split, file in files.items() if is_parquet(file)}
    require_equal_class_names({split: Features.from_arrow_schema(types[split]) for split in types}, label, where)
    splits = read_files(files, column_types(files["train"], [*texts, label]), True, cache_dir)
    header = frozenset(split for split, file in files.items() if is_csv(file))
    return Source(splits, texts, label, where, header)


def _from_hub(name: str, text_column: str | None, label_column: str | None, cache_dir: Any) -> Source:
    hub_id, texts, label = HUB_DATASETS.get(name, (name, text_column, label_column))
    known = f"known names are {', '.join(HUB_DATASETS)}, synthetic_news"
    if name.count("/") > 1 or name.startswith((".", "/")) or name.endswith(SUFFIXES):
        raise FileNotFoundError(f"{name} must be a file or a folder that exists; {known}, or an id on the Hub")
    try:
        splits = datasets.load_dataset(hub_id, cache_dir=cache_dir)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name} must be a file or a folder that exists, or a data set on the Hub; {known}. The Hub says: {error}"
        ) from None
    except OSError as error:
        raise ConnectionError(
            f"{name} is not a file or folder, and the Hub must be reachable to load {hub_id}, got "
            f"{type(error).__name__}: {error}. Without a network, pass the path of a folder with train.csv, test.csv "
            "and classes.txt"
        ) from None
    source = _from_splits(splits, hub_id, text_column or texts, label_column or label)
    source.unescape = name in HUB_DATASETS
    return source


def _from_splits(splits: DatasetDict, where: str, text_column: str | None, label_column: str | None) -> Source:
    if "train" not in splits:
        raise ValueError(f"{where} must have a train split, got {listed(list(splits))}")
    splits = DatasetDict({split: splits[split] for split in SPLITS if split in splits})
    texts, label = split_names(text_column), label_column or "label"
    require_columns([*texts, label], splits["train"].column_names, where)
    names = {split: f"{where}: {split}" for split in splits}
    require_equal_class_names({split: splits[split].features for split in splits}, label, names)
    return Source(splits, texts, label, names)
