"""Text classification data from the Hub, a folder, a file or the built-in corpus, as the columns text and label."""

import hashlib
import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from kr_text import __version__
from kr_text.data.files import SUFFIXES, column_names, column_types, first_record, is_csv, listed, read_files
from kr_text.data.split import cut
from kr_text.data.synthetic_news import synthetic_news

logger = logging.getLogger(__name__)

# name -> Hub id, text columns, label column. All three are Zhang, Zhao & LeCun's (2015) sets.
_HUB = {
    "ag_news": ("fancyzhx/ag_news", "text", "label"),
    "yahoo_answers": (
        "community-datasets/yahoo_answers_topics",
        "question_title,question_content,best_answer",
        "topic",
    ),
    "yelp_review_full": ("Yelp/yelp_review_full", "text", "label"),
}
_SPLITS = ("train", "validation", "test")


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

    A path that exists is read as such, whatever its name:

    * A folder with `classes.txt` is in the form of Zhang et al.: `train`, `test` and perhaps `validation` as `.csv` or
      `.csv.gz` without a header, the class number from 1 first, then text fields. Their `\n` becomes a space.
    * Any other folder holds `train`, perhaps `validation` and `test`, each as `.csv`, `.tsv`, `.jsonl`, `.json` (JSON
      lines too), the same with `.gz`, or `.parquet`, with a header; or it was written by `DatasetDict.save_to_disk`.
    * A single such file is the whole data set.

    Otherwise the name is `ag_news`, `yahoo_answers`, `yelp_review_full`, `synthetic_news`, or any id on the Hub.

    Labels are class names or whole numbers; the classes are those of train, sorted, numbers by value. Several text
    fields are joined with one space, the empty ones left out. A missing test split, then a missing validation split,
    is cut from train, stratified by class. The data stay in Arrow files under `cache_dir`; a second call reuses them.

    Args:
        name_or_path: what to load.
        text_column: the column with the text, or several, comma-separated. Default: text.
        label_column: the column with the class. Default: label.
        validation_size: rows to cut for a missing split: a share in (0, 1) or a count. Default: 10%, at most 5,000.
        max_train_rows: keep so many rows of train, the first after a shuffle; validation and test do not depend on it.
        seed: of the cuts and the shuffle.
        cache_dir: where the Arrow files go. Default: that of `datasets`.

    Raises:
        FileNotFoundError: if a path, a train file or a Hub id does not exist.
        ConnectionError: if the Hub cannot be reached.
        ValueError: if a file is wrong, with its name and row. Rows count from 1, a header too, blank lines not.
    """
    if validation_size is not None and not 0 < validation_size < (math.inf if isinstance(validation_size, int) else 1):
        raise ValueError(f"validation_size must be a share in (0, 1) or a count of at least 1, got {validation_size}")
    if max_train_rows is not None and max_train_rows < 1:
        raise ValueError(f"max_train_rows must be at least 1, got {max_train_rows}")
    path = Path(name_or_path)
    if path.exists():
        dataset = _prepare(_from_path(path, text_column, label_column, cache_dir))
    elif str(name_or_path) == "synthetic_news":
        dataset = synthetic_news().dataset
    else:
        dataset = _prepare(_from_hub(str(name_or_path), text_column, label_column, cache_dir))
    for split in ("test", "validation"):
        if split not in dataset:
            dataset["train"], dataset[split] = cut(dataset["train"], validation_size, seed, f"{path}: train")
            log = logger.warning if split == "test" else logger.info
            log("%s has no %s split: %d rows of train are set aside for it", path, split, dataset[split].num_rows)
    if max_train_rows is not None and max_train_rows < dataset["train"].num_rows:
        dataset["train"] = dataset["train"].shuffle(seed=seed).select(range(max_train_rows))
    return DatasetDict({split: dataset[split] for split in _SPLITS})


def load_rows(
    file: str | os.PathLike[str],
    class_names: Sequence[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Loads all rows of one file, with labels among the classes that are given, which need not all be there.

    Raises:
        ValueError: if the file is wrong, with its row, or has another class.
    """
    source = _from_path(Path(file), text_column, label_column, cache_dir)
    return _prepare(source, list(class_names))["train"]


def fingerprint(data: DatasetDict) -> str:
    """A hash of all texts, labels and class names: what a run was trained and measured on."""
    found = hashlib.blake2b(digest_size=16)
    for split, rows in data.items():
        found.update(repr((split, rows.num_rows, rows.features["label"].names)).encode())
        for batch in rows.with_format("arrow").iter(batch_size=10_000):
            found.update("\0".join(batch["text"].to_pylist()).encode())
            found.update(batch["label"].to_numpy().tobytes())
    return found.hexdigest()


@dataclass
class _Source:
    """Splits as they came, and how to read them."""

    splits: DatasetDict
    text_columns: list[str]
    label_column: str
    where: dict[str, str]  # split -> its name in errors
    header: frozenset[str] = frozenset()  # the splits whose first row is one
    class_names: list[str] | None = None  # of class 1, 2, ...; None: the label column knows
    unescape: bool = False  # the two characters \n stand for a newline


def _from_path(path: Path, text_column: str | None, label_column: str | None, cache_dir: Any) -> _Source:
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
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
    for split in _SPLITS:
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


def _from_zhang(files: dict[str, Path], classes: Path, cache_dir: Any) -> _Source:
    names = [name for line in classes.read_text("utf-8-sig").splitlines() if (name := line.strip())]
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"{classes} must name at least 2 classes, one a line and each once, got {names}")
    record = first_record(files["train"])
    if len(record) < 2:
        raise ValueError(f"{files['train']}: row 1: must have the class number and a text field, got {record}")
    schema = pa.schema([(f"field_{index}", pa.string()) for index, _ in enumerate(record)])
    where = {split: str(file) for split, file in files.items()}
    splits = read_files(files, schema, False, cache_dir)
    return _Source(splits, schema.names[1:], schema.names[0], where, class_names=names, unescape=True)


def _from_files(files: dict[str, Path], text_column: str | None, label_column: str | None, cache_dir: Any) -> _Source:
    for file in files.values():
        columns = _columns(column_names(file), text_column, label_column, str(file))
    where = {split: str(file) for split, file in files.items()}
    types = {split: column_types(file, columns) for split, file in files.items() if file.suffix == ".parquet"}
    _check_class_names({split: Features.from_arrow_schema(types[split]) for split in types}, columns[-1], where)
    splits = read_files(files, column_types(files["train"], columns), True, cache_dir)
    header = frozenset(split for split, file in files.items() if is_csv(file))
    return _Source(splits, columns[:-1], columns[-1], where, header)


def _from_hub(name: str, text_column: str | None, label_column: str | None, cache_dir: Any) -> _Source:
    hub_id, texts, label = _HUB.get(name, (name, text_column, label_column))
    known = f"known names are {', '.join(_HUB)}, synthetic_news"
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
            f"{name} is no file or folder, and the Hub must be reachable to load {hub_id}, got {type(error).__name__}: "
            f"{error}. Without a network, pass the path of a folder with train.csv, test.csv and classes.txt"
        ) from None
    source = _from_splits(splits, hub_id, text_column or texts, label_column or label)
    source.unescape = name in _HUB
    return source


def _from_splits(splits: DatasetDict, where: str, text_column: str | None, label_column: str | None) -> _Source:
    if "train" not in splits:
        raise ValueError(f"{where} must have a train split, got {listed(list(splits))}")
    splits = DatasetDict({split: splits[split] for split in _SPLITS if split in splits})
    columns = _columns(splits["train"].column_names, text_column, label_column, where)
    names = {split: f"{where}: {split}" for split in splits}
    _check_class_names({split: splits[split].features for split in splits}, columns[-1], names)
    return _Source(splits, columns[:-1], columns[-1], names)


def _check_class_names(features: dict[str, Features], label_column: str, where: dict[str, str]) -> None:
    """Numbers of classes mean the same in every split."""
    labels = {split: getattr(of_split.get(label_column), "names", None) for split, of_split in features.items()}
    for split, names in labels.items():
        if "train" in labels and names != labels["train"]:
            train, own = (listed(of_split or ["no names"]) for of_split in (labels["train"], names))
            raise ValueError(
                f"{where[split]}: {label_column} must have the classes of train in their order, {train}, got {own}: "
                "encode all splits together, or save names in place of numbers"
            )


def _columns(got: list[str], text_column: str | None, label_column: str | None, where: str) -> list[str]:
    """The text columns and the label column, which must be among those there are."""
    columns = [column.strip() for column in (text_column or "text").split(",")] + [label_column or "label"]
    for column in columns:
        if column not in got:
            raise ValueError(
                f"{where}: columns must include {column!r}, got {listed(got)}: name others with text_column and "
                "label_column; if the file has no header, its folder needs a classes.txt, one class name a line"
            )
        if got.count(column) > 1:
            raise ValueError(f"{where}: columns must include {column!r} once, got {listed(got)}")
    return columns


def _prepare(source: _Source, class_names: list[str] | None = None) -> DatasetDict:
    """Turns the columns of every split into text and label; a row where that cannot be is an error.

    One process does a million rows in two seconds, for it works on Arrow batches; a second one would not help.
    """
    features = source.splits["train"].features
    for column in source.text_columns:
        if not _is_string(features[column]):
            raise ValueError(f"{source.where['train']}: column {column!r} must hold texts, got {features[column]}")
    label = features[source.label_column]
    if source.class_names:
        names, rule = source.class_names, f"class must be in 1..{len(source.class_names)}"
        keys = [str(number) for number, _ in enumerate(names, 1)]
    elif isinstance(label, ClassLabel):
        names, rule = label.names, f"label must be in 0..{label.num_classes - 1}"
        keys = [str(number) for number, _ in enumerate(names)]
    elif _is_string(label) or re.fullmatch(r"u?int\d+", getattr(label, "dtype", "")):
        names = keys = class_names or _class_names(source.splits["train"].unique(source.label_column))
        rule = f"label must be a class of {'the model' if class_names else 'train'} ({listed(names)})"
    else:
        raise ValueError(
            f"{source.where['train']}: column {source.label_column!r} must hold names or whole numbers, got {label}"
        )
    if len(names) < 2:
        raise ValueError(f"{source.where['train']}: must have rows of at least 2 classes, got {listed(names)}")
    prepared = DatasetDict()
    for split, dataset in source.splits.items():
        prepared[split] = (
            dataset.with_format("arrow")
            .map(
                _to_text_and_label,
                with_indices=True,
                batched=True,
                batch_size=10_000,
                remove_columns=dataset.column_names,
                features=Features({"text": Value("string"), "label": ClassLabel(names=names)}),
                fn_kwargs={
                    "text_columns": source.text_columns,
                    "label_column": source.label_column,
                    "keys": keys,
                    "rule": rule,
                    "where": source.where[split],
                    "first_row": 2 if split in source.header else 1,
                    "unescape": source.unescape,
                    "version": __version__,
                },
                desc=f"Preparing {split}",
            )
            .with_format(None)
        )
        unseen = sorted(set(prepared[split].unique("label")) - set(prepared["train"].unique("label")))
        if unseen:
            raise ValueError(
                f"{source.where[split]}: every class must have rows in {source.where['train']} too, "
                f"{listed([names[index] for index in unseen])} has none"
            )
    return prepared


def _to_text_and_label(
    table: pa.Table,
    indices: list[int],
    *,
    text_columns: list[str],
    label_column: str,
    keys: list[str],
    rule: str,
    where: str,
    first_row: int,
    unescape: bool,
    version: str,
) -> pa.Table:
    """One batch: joins the non-empty text fields with a space, and numbers the labels by their place in keys.

    `version` is that of this package: what another one made is not taken from the cache.
    """
    text = pa.scalar("")
    for column in text_columns:
        field = pc.fill_null(table[column].cast(pa.string()), "")
        if unescape:
            field = pc.replace_substring(field, "\\n", " ")
        text = pc.utf8_trim_whitespace(pc.binary_join_element_wise(text, pc.utf8_trim_whitespace(field), " "))
    labels = pc.utf8_trim_whitespace(table[label_column].cast(pa.string()))
    label = pc.index_in(labels, pa.array(keys))
    if (bad := pc.index(pc.is_null(label), True).as_py()) >= 0:
        raise ValueError(f"{where}: row {indices[bad] + first_row}: {rule}, got {labels[bad].as_py()!r}")
    if (bad := pc.index(pc.equal(text, ""), True).as_py()) >= 0:
        raise ValueError(f"{where}: row {indices[bad] + first_row}: text must not be empty, got '': remove the row")
    return pa.table({"text": text, "label": label.cast(pa.int64())})


def _is_string(feature: Any) -> bool:
    return getattr(feature, "dtype", "") in ("string", "large_string")


def _class_names(labels: Sequence[Any]) -> list[str]:
    names = {name for label in labels if label is not None and (name := str(label).strip())}
    numbers = all(re.fullmatch(r"[+-]?\d+(\.\d+)?", name) for name in names)
    return sorted(names, key=lambda name: (float(name), name)) if numbers else sorted(names)
