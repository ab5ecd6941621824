"""Loads data sets from the Hugging Face Hub, folders, single files and the built-in corpus."""

import difflib
import hashlib
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from datasets import Dataset, DatasetDict

from kr_text.data.columns import Converted, Source, lacks_labels, text_and_label, texts_only
from kr_text.data.files import SUFFIXES, column_names, is_table, listed
from kr_text.data.folders import SPLIT_NAMES, from_path, from_splits
from kr_text.data.headers import ColumnNames, find_label
from kr_text.data.split import Fold, cut, take_fold
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

WITHOUT_LABELS = "`kr-text predict` classifies texts without labels"


class DataSet(NamedTuple):
    """A data set as `load` returns it, and what was found on the way.

    Attributes:
        splits: Train, validation and test with the columns text and label.
        unlabelled: Rows of a test split without labels, with the column text; None if there is no such split.
        left_out: Number of rows that were left out, by split of the data set.
    """

    splits: DatasetDict
    unlabelled: Dataset | None
    left_out: dict[str, int]


def load(
    name_or_path: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    validation_size: float | int | None = None,
    max_train_rows: int | None = None,
    fold: Fold | None = None,
    seed: int = 0,
    strict: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> DatasetDict:
    r"""Loads a data set as train, validation and test with the columns text (string) and label (ClassLabel).

    An existing path is read as a path, even if a known data set has the same name:

    * A folder with `classes.txt` has the format of Zhang et al. (2015): `train`, `test` and optionally `validation` as
      `.csv` or `.csv.gz` without a header. The first field is the class number, from 1; the text fields follow. The
      two characters `\n` become a space.
    * Any other folder holds `train` and optionally `validation` and `test`, each as `.csv`, `.tsv`, `.jsonl` or `.json`
      (also JSON lines), optionally with `.gz`, or as `.parquet`; CSV and TSV files have a header. A folder written by
      `DatasetDict.save_to_disk` is read too. The validation split may also be called `valid`, `val` or `dev`.
    * A single file of these types is the whole data set.

    Other names are `ag_news`, `yahoo_answers`, `yelp_review_full`, `synthetic_news`, or any id on the Hub.

    The fields of a `.csv` file are separated by commas, or by semicolons or tabs if its header has no comma. Names of
    columns match without regard to case. If no column is named and none is called text or label, the only column with a
    usual other name (kr_text/data/headers.py lists them) is used, and the log says so.

    Labels are class names or whole numbers. The classes are the sorted labels of train, numbers by value. Several text
    fields are joined with one space, without the empty fields. Rows without a text, without a label, or with a label
    that train does not have are left out; the log says how many and which.

    If there is no test split, it is cut from train, and then validation likewise, stratified by class; a class with a
    single row keeps it in train. A test split without any labels counts as none; `load_data_set` returns its texts.
    Arrow files under `cache_dir` hold the rows; later calls reuse them.

    Args:
        name_or_path: Name or path of the data set.
        text_column: Column with the text, or several, comma-separated. Default: text.
        label_column: Column with the class. Default: label.
        validation_size: Share in (0, 1) or number of the rows to cut for a missing split. Default: 10%, at most 5,000.
        max_train_rows: Maximum number of training rows, drawn at random; validation and test do not depend on it.
        fold: Fold of a cross-validation: the rows of all splits are put together and cut into folds; this fold is test,
            and the others are train, of which validation is cut. Default: the splits of the data set.
        seed: Seed of the cuts, of the folds and of `max_train_rows`.
        strict: Whether to refuse rows that would be left out, a test split without labels, and columns that are called
            neither text and label nor as the arguments say.
        cache_dir: Folder for the Arrow files. Default: the cache of `datasets`.

    Raises:
        FileNotFoundError: If a path, a train file or a Hub id does not exist.
        ConnectionError: If the Hub cannot be reached.
        ValueError: If a file is malformed, with its name and row, or more than 5% of its rows would be left out. Row
            numbers start at 1; a header counts as a row, blank lines do not.
    """
    return load_data_set(
        name_or_path,
        text_column=text_column,
        label_column=label_column,
        validation_size=validation_size,
        max_train_rows=max_train_rows,
        fold=fold,
        seed=seed,
        strict=strict,
        cache_dir=cache_dir,
    ).splits


def load_data_set(
    name_or_path: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    validation_size: float | int | None = None,
    max_train_rows: int | None = None,
    fold: Fold | None = None,
    seed: int = 0,
    strict: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> DataSet:
    """Loads a data set as `load` does, and returns the unlabelled test rows and the number of rows left out as well."""
    if validation_size is not None and not 0 < validation_size < (math.inf if isinstance(validation_size, int) else 1):
        raise ValueError(f"validation_size must be a share in (0, 1) or a count of at least 1, got {validation_size}")
    if max_train_rows is not None:
        require_at_least(1, max_train_rows=max_train_rows)
    path, name = Path(name_or_path), str(name_or_path)
    columns, unlabelled = ColumnNames(text_column, label_column, strict), None
    if not path.exists() and name == "synthetic_news":
        dataset, left_out = Converted(synthetic_news().dataset, {})
    else:
        source = from_path(path, columns, cache_dir) if path.exists() else _from_hub(name, columns, cache_dir)
        dataset, left_out = text_and_label(source, strict=strict)
        unlabelled = texts_only(source)
    if fold is not None:
        dataset = take_fold(dataset, fold, seed, name)
    for split in ("test", "validation"):
        if split not in dataset:
            dataset["train"], dataset[split] = cut(dataset["train"], validation_size, seed, f"{path}: train")
            log = logger.warning if split == "test" else logger.info
            what = f"{'labelled ' if split == 'test' and unlabelled is not None else ''}{split}"
            log("%s has no %s split: %d rows of train are set aside for it", path, what, dataset[split].num_rows)
    if max_train_rows is not None and max_train_rows < dataset["train"].num_rows:
        dataset["train"] = dataset["train"].shuffle(seed=seed).select(range(max_train_rows))
    return DataSet(DatasetDict({split: dataset[split] for split in SPLIT_NAMES}), unlabelled, left_out)


def load_rows(
    file: str | os.PathLike[str],
    class_names: Sequence[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    strict: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Loads all rows of one file, with labels from the given classes; the file need not contain every class.

    Labels are matched by class name, also where a Parquet file numbers its classes in another order. Rows without a
    text, or with a label that is not in `class_names`, are left out and logged.

    Args:
        file: File to load.
        class_names: Names of the classes, in the order of their numbers.
        text_column: As for `load`.
        label_column: As for `load`.
        strict: As for `load`.
        cache_dir: As for `load`.

    Raises:
        ValueError: If a row is malformed, with its number; if the file has no labels, or more than 5% of its rows lack
            a text or a label in `class_names`; if a Parquet file names classes that are not in `class_names`, or `file`
            is a folder.
    """
    if Path(file).is_dir():
        raise ValueError(f"{file} must be a file, got a folder: pass one of its files, or read its splits with `load`")
    columns = ColumnNames(text_column, label_column, strict)
    names = column_names(Path(file)) if is_table(Path(file)) else []
    if names and find_label(columns, names, str(file)) is None:
        raise ValueError(
            f"{file}: columns must include {label_column or 'label'!r} to measure a classifier, got {listed(names)}: "
            f"name another with label_column; {WITHOUT_LABELS}"
        )
    source = from_path(Path(file), columns, cache_dir)
    if lacks_labels(source.splits["train"], source.label_column, class_names):
        raise ValueError(f"{file}: rows must have labels to measure a classifier, got none; {WITHOUT_LABELS}")
    return text_and_label(source, list(class_names), strict=strict).splits["train"]


def fingerprint(data: DatasetDict) -> str:
    """Hash of all texts, labels and class names, which identifies the data of a run."""
    found = hashlib.blake2b(digest_size=16)
    for split, rows in data.items():
        found.update(repr((split, rows.num_rows, rows.features["label"].names)).encode())
        for batch in rows.with_format("arrow").iter(batch_size=10_000):
            found.update("\0".join(batch["text"].to_pylist()).encode())
            found.update(batch["label"].to_numpy().tobytes())
    return found.hexdigest()


def _from_hub(name: str, columns: ColumnNames, cache_dir: Any) -> Source:
    hub_id, texts, label = HUB_DATASETS.get(name, (name, None, None))
    known = f"known names are {', '.join(HUB_DATASETS)}, synthetic_news"
    if name.count("/") > 1 or name.startswith((".", "/")) or name.endswith(SUFFIXES):
        raise FileNotFoundError(f"{name} must be a file or a folder that exists; {known}, or an id on the Hub")
    near = difflib.get_close_matches(name.lower(), [*HUB_DATASETS, "synthetic_news"], n=1, cutoff=0.8)
    if near and name not in HUB_DATASETS and "/" not in name:
        raise FileNotFoundError(
            f"{name} must be a file or a folder that exists; did you mean {near[0]}? Hub ids are OWNER/NAME"
        )
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
    named = ColumnNames(columns.text or texts, columns.label or label, columns.strict)
    source = from_splits(splits, hub_id, named)
    source.unescape = name in HUB_DATASETS
    return source
