"""Reads the splits of folders, files and saved data sets, and finds the columns in them."""

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features

from kr_text.data.arrow_cache import read_files
from kr_text.data.columns import Source, lacks_labels, require_equal_class_names, sorted_class_names
from kr_text.data.files import (
    SUFFIXES,
    column_names,
    column_types,
    first_record,
    is_csv,
    is_parquet,
    is_table,
    listed,
    records,
)
from kr_text.data.headers import (
    ColumnNames,
    find_column,
    find_label,
    find_texts,
    match,
    report_separator,
    report_synonyms,
    report_weights,
)

logger = logging.getLogger(__name__)

# Names of each split; train comes first, since it determines the classes of the others.
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def from_path(path: Path, columns: ColumnNames, cache_dir: Any) -> Source:
    """The splits of a folder, or a single file as train; `load` has the formats.

    Raises:
        FileNotFoundError: If a folder has no train file.
        ValueError: If a file is malformed, or lacks a column.
    """
    if path.is_file():
        if not is_table(path):
            raise ValueError(f"{path} must end in one of {', '.join(SUFFIXES)}")
        return _from_files({"train": path}, columns, cache_dir)
    if (path / "dataset_dict.json").exists():
        return from_splits(DatasetDict.load_from_disk(str(path)), str(path), columns)
    files = _split_files(path)
    if not ((path / "classes.txt").exists() and is_csv(files["train"])):
        return _from_files(files, columns, cache_dir)
    if columns.text or columns.label:
        raise ValueError(f"text_column and label_column must not be given: {path} has classes.txt, so it has no header")
    return _from_zhang(files, path / "classes.txt", columns, cache_dir)


def _split_files(folder: Path) -> dict[str, Path]:
    files = {}
    for split, names in SPLIT_NAMES.items():
        candidates = [folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES]
        found = [file for file in candidates if file.exists()]
        if len(found) > 1:
            raise ValueError(f"{folder} must hold one {split} file, got {', '.join(file.name for file in found)}")
        if found:
            files[split] = found[0]
    if "train" not in files:
        names_found = listed(sorted(file.name for file in folder.iterdir()))
        raise FileNotFoundError(
            f"{folder} must hold train.csv, or train with one of {', '.join(SUFFIXES)}, got {names_found}"
        )
    return files


def _from_zhang(files: dict[str, Path], classes: Path, columns: ColumnNames, cache_dir: Any) -> Source:
    names = [name for line in classes.read_text("utf-8-sig").splitlines() if (name := line.strip())]
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"{classes} must name at least 2 different classes, one class a line, got {names}")
    record = first_record(files["train"])
    if len(record) < 2:
        raise ValueError(f"{files['train']}: row 1: must have the class number and a text field, got {record}")
    schema = pa.schema([(f"field_{index}", pa.string()) for index, _ in enumerate(record)])
    where = {split: str(file) for split, file in files.items()}
    splits = read_files(files, schema, cache_dir, has_header=False)
    source = Source(splits, schema.names[1:], schema.names[0], where, class_names=names, unescape=True)
    return source if columns.strict else _without_unlabelled(source)


def _from_files(files: dict[str, Path], columns: ColumnNames, cache_dir: Any) -> Source:
    where = {split: str(file) for split, file in files.items()}
    texts, labels = _find_columns({split: column_names(file) for split, file in files.items()}, columns, where)
    for file in files.values():
        report_separator(file)
    if "test" in labels and not columns.strict and _has_other_empty_labels(files, labels):
        del labels["test"]
        logger.warning("%s: every label is missing", files["test"])
    names = {split: [*texts[split], label] for split, label in labels.items()}
    labelled = {split: files[split] for split in names}
    in_parquet = {split: _label_type(file, labels[split]) for split, file in labelled.items() if is_parquet(file)}
    require_equal_class_names(in_parquet, labels["train"], where)
    splits = read_files(labelled, column_types(files["train"], names["train"]), cache_dir, columns=names)
    header = frozenset(split for split, file in files.items() if is_csv(file))
    source = Source(splits, texts["train"], labels["train"], where, header)
    if files.keys() > labelled.keys():
        source.unlabelled = _read_texts(files["test"], texts, cache_dir)
    return source if columns.strict else _without_unlabelled(source)


def _find_columns(
    got: dict[str, list[str]], columns: ColumnNames, where: dict[str, str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Names of the text columns and of the label column in each split; a test split without labels has no label column.

    Args:
        got: Names of all columns in each split.
        columns: Names that the caller gave.
        where: Name of each split in messages.
    """
    own_texts = find_texts(columns, got["train"], where["train"])
    own_label = find_label(columns, got["train"], where["train"])
    own_label = own_label or find_column(columns.label or "label", got["train"], where["train"])
    report_synonyms(columns, own_texts, own_label, where["train"])
    report_weights(got["train"], [*own_texts, own_label], where["train"])
    texts, labels = {"train": own_texts}, {"train": own_label}
    for split in [split for split in got if split != "train"]:
        texts[split] = [find_column(name, got[split], where[split]) for name in own_texts]
        if split == "test" and not columns.strict and match(own_label, got[split], where[split]) is None:
            message = "%s: no column %r, got %s: its rows have no labels"
            logger.warning(message, where[split], own_label, listed(got[split]))
        else:
            labels[split] = find_column(own_label, got[split], where[split])
    return texts, labels


def _has_other_empty_labels(files: dict[str, Path], labels: dict[str, str]) -> bool:
    """Whether the labels of a JSON test file have another type than those of train, and all are null, "" or -1."""
    if is_csv(files["test"]) or is_parquet(files["test"]):
        return False
    types = {split: column_types(files[split], [labels[split]]).types for split in ("train", "test")}
    if types["train"] == types["test"]:
        return False
    return all(record.get(labels["test"]) in (None, "", -1) for record in records(files["test"]))


def _label_type(file: Path, label_column: str) -> Any:
    return Features.from_arrow_schema(column_types(file, [label_column]))[label_column]


def _read_texts(file: Path, texts: dict[str, list[str]], cache_dir: Any) -> Dataset:
    """The text columns of the test file, with the names that they have in train."""
    types = zip(column_types(file, texts["test"]), texts["train"], strict=True)
    schema = pa.schema([field.with_name(name) for field, name in types])
    return read_files({"test": file}, schema, cache_dir, columns=texts)["test"]


def from_splits(splits: DatasetDict, where: str, columns: ColumnNames) -> Source:
    """The splits of a data set from the Hub or from `DatasetDict.save_to_disk`.

    Raises:
        ValueError: If there is no train split, there are several validation splits, or a column is missing.
    """
    found = _named_splits(splits, where)
    names = {split: f"{where}: {split}" for split in found}
    texts, labels = _find_columns({split: rows.column_names for split, rows in found.items()}, columns, names)
    for split, rows in found.items():
        in_train = dict(zip(texts[split], texts["train"], strict=True))
        if split in labels:
            in_train[labels[split]] = labels["train"]
        found[split] = rows.select_columns(list(in_train)).rename_columns(in_train)
    unlabelled = None if found.keys() == labels.keys() else found.pop("test")
    label = labels["train"]
    require_equal_class_names({split: rows.features[label] for split, rows in found.items()}, label, names)
    source = Source(found, texts["train"], label, names, unlabelled=unlabelled)
    return source if columns.strict else _without_unlabelled(source)


def _named_splits(splits: DatasetDict, where: str) -> DatasetDict:
    """The splits train, validation and test, which may have other names of `SPLIT_NAMES`."""
    found = DatasetDict()
    for split, names in SPLIT_NAMES.items():
        given = [name for name in names if name in splits]
        if len(given) > 1:
            raise ValueError(f"{where} must have one {split} split, got {', '.join(given)}")
        if given:
            found[split] = splits[given[0]]
    if "train" not in found:
        raise ValueError(f"{where} must have a train split, got {listed(list(splits))}")
    return found


def _without_unlabelled(source: Source) -> Source:
    """Moves a test split without any labels to `Source.unlabelled`."""
    splits, label = source.splits, source.label_column
    names = sorted_class_names(splits["train"].unique(label))
    if "test" in splits and lacks_labels(splits["test"], label, names):
        logger.warning("%s: every label is missing", source.where["test"])
        source.unlabelled = splits.pop("test")
    return source
