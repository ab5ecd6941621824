"""The columns text (string) and label (ClassLabel) from the columns of any data set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, DatasetDict, Features, Value

from kr_text import __version__
from kr_text.data.files import listed


@dataclass
class Source:
    r"""Unconverted splits, with the names of their text and label columns.

    Attributes:
        splits: Train, and validation and test if the data set has them.
        text_columns: Columns that are joined into the text.
        label_column: Column with the class.
        where: Name of each split in messages.
        header: Splits whose first row is a header.
        class_names: Names of the classes 1, 2, ...; None if the label column determines the classes.
        unescape: Whether the two characters `\n` stand for a newline.
    """

    splits: DatasetDict
    text_columns: list[str]
    label_column: str
    where: dict[str, str]
    header: frozenset[str] = frozenset()
    class_names: list[str] | None = None
    unescape: bool = False


def split_names(text_column: str | None) -> list[str]:
    """Names of the text columns from a comma-separated list. Default: text."""
    return [column.strip() for column in (text_column or "text").split(",")]


def require_columns(columns: Sequence[str], got: Sequence[str], where: str) -> None:
    """Raises a ValueError unless each of `columns` occurs once in `got`."""
    for column in columns:
        if column not in got:
            raise ValueError(
                f"{where}: columns must include {column!r}, got {listed(got)}: name others with text_column and "
                "label_column; for files without a header, add classes.txt to the folder, one class name a line"
            )
        if got.count(column) > 1:
            raise ValueError(f"{where}: columns must include {column!r} once, got {listed(got)}")


def require_texts(columns: Sequence[str], features: Features, where: str) -> None:
    """Raises a ValueError unless each of `columns` holds strings."""
    for column in columns:
        if not _is_string(features[column]):
            raise ValueError(f"{where}: column {column!r} must hold texts, got {features[column]}")


def require_equal_class_names(features: dict[str, Features], label_column: str, where: dict[str, str]) -> None:
    """Raises a ValueError unless a class number means the same class in every split."""
    labels = {split: getattr(of_split.get(label_column), "names", None) for split, of_split in features.items()}
    for split, names in labels.items():
        if "train" in labels and names != labels["train"]:
            train, own = (listed(of_split or ["no names"]) for of_split in (labels["train"], names))
            raise ValueError(
                f"{where[split]}: {label_column} must have the classes of train in the same order, {train}, got {own}: "
                "encode all splits together, or store names instead of numbers"
            )


def text_and_label(source: Source, class_names: list[str] | None = None) -> DatasetDict:
    """Converts every split to the columns text and label.

    One process converts a million rows in two seconds because they are Arrow batches; a second process does not help.

    Args:
        source: Splits to convert.
        class_names: Classes of a trained model. Default: the classes of train.

    Raises:
        ValueError: If a row has an empty text or an unknown class, with its file and number.
    """
    splits, label_column, where = source.splits, source.label_column, source.where
    require_texts(source.text_columns, splits["train"].features, where["train"])
    names, keys, rule = _classes(source, class_names)
    if len(names) < 2:
        raise ValueError(f"{where['train']}: must have rows of at least 2 classes, got {listed(names)}")
    prepared = DatasetDict()
    for split, dataset in splits.items():
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
                    "label_column": label_column,
                    "keys": keys,
                    "rule": rule,
                    "where": where[split],
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
                f"{where[split]}: every class must have rows in {where['train']} too, "
                f"{listed([names[index] for index in unseen])} has none"
            )
    return prepared


def _classes(source: Source, class_names: list[str] | None) -> tuple[list[str], list[str], str]:
    """Class names, the value of the label column for each, and the rule that a wrong value breaks."""
    label = source.splits["train"].features[source.label_column]
    if names := source.class_names:
        return names, [str(number) for number, _ in enumerate(names, 1)], f"class must be in 1..{len(names)}"
    if isinstance(label, ClassLabel):
        names = class_names or label.names
        return names, _numbers(label.names, names, source), f"label must be in 0..{label.num_classes - 1}"
    if _is_string(label) or re.fullmatch(r"u?int\d+", getattr(label, "dtype", "")):
        names = class_names or sorted_class_names(source.splits["train"].unique(source.label_column))
        return names, names, f"label must be a class of {'the model' if class_names else 'train'} ({listed(names)})"
    raise ValueError(
        f"{source.where['train']}: column {source.label_column!r} must hold names or whole numbers, got {label}"
    )


def _numbers(names: list[str], class_names: list[str], source: Source) -> list[str]:
    """The number of each class in the data, as a string; "" for a class of the model that the data do not name."""
    if unknown := [name for name in names if name not in class_names]:
        raise ValueError(
            f"{source.where['train']}: {source.label_column} must have classes of the model only "
            f"({listed(class_names)}), got {listed(unknown)}"
        )
    return [str(names.index(name)) if name in names else "" for name in class_names]


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
    """Converts one batch; a label becomes its index in `keys`.

    `version` is the version of this package. It is part of the cache key, so that a new version reads the data again.
    """
    text = join_texts(table, text_columns, unescape)
    labels = pc.utf8_trim_whitespace(table[label_column].cast(pa.string()))
    label = pc.index_in(labels, pa.array(keys))
    if (bad := pc.index(pc.is_null(label), True).as_py()) >= 0:
        raise ValueError(f"{where}: row {indices[bad] + first_row}: {rule}, got {labels[bad].as_py()!r}")
    if (bad := pc.index(pc.equal(text, ""), True).as_py()) >= 0:
        raise ValueError(f"{where}: row {indices[bad] + first_row}: text must not be empty, got '': remove the row")
    return pa.table({"text": text, "label": label.cast(pa.int64())})


def join_texts(table: pa.Table, columns: Sequence[str], unescape: bool = False) -> pa.ChunkedArray:
    """Joins the trimmed fields of each row with one space, without the empty fields."""
    text = pa.scalar("")
    for column in columns:
        field = pc.fill_null(table[column].cast(pa.string()), "")
        if unescape:
            field = pc.replace_substring(field, "\\n", " ")
        text = pc.utf8_trim_whitespace(pc.binary_join_element_wise(text, pc.utf8_trim_whitespace(field), " "))
    return text


def sorted_class_names(labels: Sequence[Any]) -> list[str]:
    """Distinct labels as strings, sorted: numbers by value, names alphabetically."""
    names = {name for label in labels if label is not None and (name := str(label).strip())}
    numbers = all(re.fullmatch(r"[+-]?\d+(\.\d+)?", name) for name in names)
    return sorted(names, key=lambda name: (float(name), name)) if numbers else sorted(names)


def _is_string(feature: Any) -> bool:
    return getattr(feature, "dtype", "") in ("string", "large_string")
