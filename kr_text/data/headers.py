"""Finds the columns with the text and the label by their names."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datasets import Features

from kr_text.data.files import is_csv, is_tsv, listed, separator

logger = logging.getLogger(__name__)

# Names that are tried when no column is named and there is no column text, or no column label.
TEXT_SYNONYMS = ("texts", "sentence", "content", "review", "message", "comment")
LABEL_SYNONYMS = ("labels", "class", "category", "target", "intent", "sentiment")
WEIGHTS = ("weight", "weights", "sample_weight")


class ColumnNames(NamedTuple):
    """The columns that the caller of `load` named.

    Attributes:
        text: Columns with the text, comma-separated, or None.
        label: Column with the class, or None.
        strict: Whether synonyms, and a test split without labels, are refused.
    """

    text: str | None
    label: str | None
    strict: bool = False


def split_names(text_column: str | None) -> list[str]:
    """Names of the text columns from a comma-separated list. Default: text."""
    return [column.strip() for column in (text_column or "text").split(",")]


def find_texts(names: ColumnNames, got: Sequence[str], where: str) -> list[str]:
    """The columns with the text, as the file spells them.

    A name that the file lacks matches a column that differs only in case and outer blanks. If no name is given and no
    column is called text, one column with a name of `TEXT_SYNONYMS` is taken, unless `names.strict`.

    Args:
        names: Names that the caller gave.
        got: Names of all columns of the file.
        where: Name of the file in messages.

    Raises:
        ValueError: If a column is missing, or several columns match.
    """
    by_default = names.text is None and not names.strict and match("text", got, where) is None
    if by_default and (found := _synonym(TEXT_SYNONYMS, got)):
        return [found]
    return [find_column(name, got, where) for name in split_names(names.text)]


def find_label(names: ColumnNames, got: Sequence[str], where: str) -> str | None:
    """The column with the class, as the file spells it, found as `find_texts` finds a text; None if there is none.

    Raises:
        ValueError: If several columns match.
    """
    found = match(names.label or "label", got, where)
    if found is None and names.label is None and not names.strict:
        found = _synonym(LABEL_SYNONYMS, got)
    return found


def find_column(name: str, got: Sequence[str], where: str) -> str:
    """The column of this name, as the file spells it.

    Raises:
        ValueError: If there is none, or several columns match.
    """
    found = match(name, got, where)
    if found is None:
        raise ValueError(
            f"{where}: columns must include {name!r}, got {listed(got)}: name others with text_column and "
            "label_column; for files without a header, add classes.txt to the folder, one class name a line"
        )
    return found


def match(name: str, got: Sequence[str], where: str) -> str | None:
    """The column of this name, or else the one that differs only in case and outer blanks; None if there is none.

    Raises:
        ValueError: If there are several.
    """
    found = [column for column in got if column == name] or [column for column in got if _plain(column) == _plain(name)]
    if len(found) > 1:
        raise ValueError(f"{where}: columns must include {name!r} once, got {listed(got)}")
    return found[0] if found else None


def _synonym(synonyms: Sequence[str], got: Sequence[str]) -> str | None:
    found = [column for column in got if _plain(column) in synonyms]
    return found[0] if len(found) == 1 else None


def report_synonyms(names: ColumnNames, texts: Sequence[str], label: str | None, where: str) -> None:
    """Logs which columns were taken for the text and the label because of a synonym."""
    found = [("text", texts[0])] if names.text is None else []
    found += [("label", label)] if names.label is None and label is not None else []
    for name, column in found:
        if _plain(column) != name:
            message = "%s: no column %r, so %r is the %s; name another with %s_column"
            logger.warning(message, where, name, column, name, name)


def report_weights(got: Sequence[str], used: Sequence[str], where: str) -> None:
    """Logs that a column with the weights of the rows is not used, if there is one."""
    for column in got:
        if _plain(column) in WEIGHTS and column not in used:
            message = "%s: the column %r is not used: rows have no weights, classes have (--class_weights)"
            logger.warning(message, where, column)


def report_separator(file: Path) -> None:
    """Logs which separator a `.csv` file has, if it is no comma."""
    if is_csv(file) and not is_tsv(file) and (found := separator(file)) != ",":
        logger.info("%s: the separator is a %s, as in the header", file, {";": "semicolon", "\t": "tab"}[found])


def _plain(column: str) -> str:
    return column.strip().casefold()


def require_texts(columns: Sequence[str], features: Features, where: str) -> None:
    """Raises a ValueError unless each of `columns` holds strings."""
    for column in columns:
        if not is_string(features[column]):
            raise ValueError(f"{where}: column {column!r} must hold texts, got {features[column]}")


def is_string(feature: object) -> bool:
    """Whether a column holds strings."""
    return getattr(feature, "dtype", "") in ("string", "large_string")
