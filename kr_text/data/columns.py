"""The columns text (string) and label (ClassLabel) from the columns of any data set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from kr_text import __version__
from kr_text.data.files import listed
from kr_text.data.headers import is_string, require_texts
from kr_text.data.left_out import Fault, leave_out, where_true


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
        unlabelled: Test rows, if they have no labels; `splits` then has no test.
    """

    splits: DatasetDict
    text_columns: list[str]
    label_column: str
    where: dict[str, str]
    header: frozenset[str] = frozenset()
    class_names: list[str] | None = None
    unescape: bool = False
    unlabelled: Dataset | None = None


class Converted(NamedTuple):
    """Splits with the columns text and label, and the number of rows that were left out of each."""

    splits: DatasetDict
    left_out: dict[str, int]


def require_equal_class_names(labels: dict[str, Any], label_column: str, where: dict[str, str]) -> None:
    """Raises a ValueError unless the types of the label columns give a class number the same class in every split."""
    class_names = {split: getattr(label, "names", None) for split, label in labels.items()}
    for split, names in class_names.items():
        if "train" in class_names and names != class_names["train"]:
            train, own = (listed(of_split or ["no names"]) for of_split in (class_names["train"], names))
            raise ValueError(
                f"{where[split]}: {label_column} must have the classes of train in the same order, {train}, got {own}: "
                "encode all splits together, or store names instead of numbers"
            )


def text_and_label(source: Source, class_names: list[str] | None = None, *, strict: bool = False) -> Converted:
    """Converts every split to the columns text and label.

    One process converts a million rows in two seconds because they are Arrow batches; a second process does not help.

    Args:
        source: Splits to convert, train first.
        class_names: Classes of a trained model. Default: the classes of train.
        strict: Whether a row without a text or a known label is refused. Default: such rows are left out and logged.

    Raises:
        ValueError: If more than 5% of the rows of a split would be left out, or one if `strict`; if a class number is
            out of range.
    """
    where = source.where
    require_texts(source.text_columns, source.splits["train"].features, where["train"])
    names, keys, rule = _classes(source, class_names)
    if len(names) < 2:
        raise ValueError(f"{where['train']}: must have rows of at least 2 classes, got {listed(names)}")
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    converted = Converted(DatasetDict(), {})
    for split, dataset in source.splits.items():
        rows = _map(dataset, _to_text_and_label, features, source, label_column=source.label_column, keys=keys)
        faults = _faults(rows, source, split, rule)
        if split != "train":
            faults.append(_unseen(rows, converted.splits["train"], where["train"]))
        first_row = 2 if split in source.header else 1
        converted.splits[split] = leave_out(rows, faults, where[split], first_row, strict=strict)
        converted.left_out[split] = rows.num_rows - converted.splits[split].num_rows
    return converted


def texts_only(source: Source) -> Dataset | None:
    """The unlabelled test rows with the column text; None if there are none. An empty text stays."""
    if source.unlabelled is None:
        return None
    require_texts(source.text_columns, source.unlabelled.features, source.where["test"])
    return _map(source.unlabelled, _to_text, Features({"text": Value("string")}), source)


def lacks_labels(rows: Dataset, label_column: str, class_names: Sequence[str]) -> bool:
    """Whether every label is missing: null, empty, or -1 where -1 is no class."""
    values = {_label_name(value) for value in rows.unique(label_column)}
    numbered = isinstance(rows.features[label_column], ClassLabel)  # numbered classes start at 0
    return values <= {"", "-1"} and (numbered or "-1" not in values or "-1" not in class_names)


def _map(dataset: Dataset, function: Any, features: Features, source: Source, **settings: Any) -> Dataset:
    """Applies a function to batches of Arrow rows. The version of this package is part of the cache key."""
    converted = dataset.with_format("arrow").map(
        function,
        batched=True,
        batch_size=10_000,
        remove_columns=dataset.column_names,
        features=features,
        fn_kwargs={
            "text_columns": source.text_columns,
            "unescape": source.unescape,
            "version": __version__,
            **settings,
        },
        desc="Preparing",
    )
    return converted.with_format(None)


def _faults(rows: Dataset, source: Source, split: str, rule: str) -> list[Fault]:
    """What is wrong with which rows of a converted split.

    Raises:
        ValueError: If a class number is out of range: all numbers may mean other classes then.
    """
    table = rows.with_format("arrow")[:]
    no_class = where_true(pc.is_null(table["label"]))
    label = source.splits[split].features[source.label_column]
    given = source.splits[split].select_columns([source.label_column]).select(no_class).with_format("arrow")[:]
    values = _label_strings(given[source.label_column]).to_pylist()
    absent = ("", None, "-1") if isinstance(label, ClassLabel) else ("", None)
    missing = [place for place, value in enumerate(values) if value in absent]
    unknown = [place for place, value in enumerate(values) if value not in absent]
    if unknown and (source.class_names or isinstance(label, ClassLabel)):
        row = no_class[unknown[0]] + (2 if split in source.header else 1)
        raise ValueError(f"{source.where[split]}: row {row}: {rule}, got {values[unknown[0]]!r}")
    no_label, unknown_label = (repr(values[places[0]]) if places else "" for places in (missing, unknown))
    empty = where_true(pc.equal(pc.binary_length(table["text"]), 0))
    return [
        Fault(no_class[missing], "no label", f"{rule}, got {no_label}"),
        Fault(no_class[unknown], f"an unknown label, such as {unknown_label}", f"{rule}, got {unknown_label}"),
        Fault(empty, "an empty text", "text must not be empty, got '': remove the row"),
    ]


def _unseen(rows: Dataset, train: Dataset, where_train: str) -> Fault:
    """Rows of classes without a row in train."""
    labels, names = rows.with_format("arrow")[:]["label"], rows.features["label"].names
    unseen = sorted(set(labels.unique().drop_null().to_pylist()) - set(train.unique("label")))
    classes = listed([names[index] for index in unseen])
    return Fault(
        where_true(pc.is_in(labels, pa.array(unseen, labels.type))),
        f"a class without rows in {where_train} ({classes})",
        f"every class must have rows in {where_train} too, {classes} has none",
    )


def _classes(source: Source, class_names: list[str] | None) -> tuple[list[str], list[str], str]:
    """Class names, the value of the label column for each, and the rule that a wrong value breaks."""
    label = source.splits["train"].features[source.label_column]
    if names := source.class_names:
        return names, [str(number) for number, _ in enumerate(names, 1)], f"class must be in 1..{len(names)}"
    if isinstance(label, ClassLabel):
        names = class_names or label.names
        return names, _numbers(label.names, names, source), f"label must be in 0..{label.num_classes - 1}"
    if is_string(label) or re.fullmatch(r"u?int\d+", getattr(label, "dtype", "")) or _whole_numbers(source):
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


def _whole_numbers(source: Source) -> bool:
    """Whether the labels of train are floats without fractions: pandas stores integers so where one is missing."""
    train, column = source.splits["train"], source.label_column
    if not re.fullmatch(r"float\d+", getattr(train.features[column], "dtype", "")):
        return False
    return all(value is None or value != value or value.is_integer() for value in train.unique(column))


def _to_text_and_label(
    table: pa.Table, *, text_columns: list[str], label_column: str, keys: list[str], unescape: bool, version: str
) -> pa.Table:
    """Converts one batch; a label becomes its index in `keys`, or null."""
    label = pc.index_in(_label_strings(table[label_column]), pa.array(keys))
    return pa.table({"text": join_texts(table, text_columns, unescape), "label": label.cast(pa.int64())})


def _to_text(table: pa.Table, *, text_columns: list[str], unescape: bool, version: str) -> pa.Table:
    return pa.table({"text": join_texts(table, text_columns, unescape)})


def _label_strings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels as trimmed strings; 1.0 is 1, and a number that is not whole is null."""
    if pa.types.is_floating(column.type):
        whole = pc.fill_null(pc.equal(column, pc.floor(column)), False)
        column = pc.if_else(whole, column, pa.scalar(None, column.type)).cast(pa.int64())
    return pc.utf8_trim_whitespace(column.cast(pa.string()))


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
    names = {name for label in labels if (name := _label_name(label))}
    numbers = all(re.fullmatch(r"[+-]?\d+(\.\d+)?", name) for name in names)
    return sorted(names, key=lambda name: (float(name), name)) if numbers else sorted(names)


def _label_name(label: Any) -> str:
    """A label as a trimmed string; "" if it is missing."""
    if isinstance(label, float):
        return str(int(label)) if label.is_integer() else ""
    return "" if label is None else str(label).strip()
