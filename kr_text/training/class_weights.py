"""Class weights of a run: `balanced`, or weights by class name from the command line, a mapping or a file."""

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kr_text.formats.yaml_files import read_yaml
from kr_text.ranges import in_range

BALANCED = "balanced"
FILE_TYPES = (".csv", ".json", ".yaml", ".yml")
FORMS = "balanced, NAME=WEIGHT,NAME=WEIGHT,..., or a .csv, .json or .yaml file"


def read_class_weights(value: str | Mapping[Any, Any]) -> str | dict[str, float]:
    """Reads the value of `class_weights`.

    Args:
        value: "balanced"; NAME=WEIGHT,NAME=WEIGHT,...; a mapping from name to weight; or a file: YAML or JSON with such
            a mapping, or CSV with the columns name and weight, with or without a header.

    Returns:
        "balanced", or the weights by class name.

    Raises:
        ValueError: The value has another form, the file cannot be read, a name occurs twice, or a weight is not a
            number of at least 0.
    """
    if isinstance(value, Mapping):
        return _weights(value.items(), "class_weights")
    if value == BALANCED:
        return BALANCED
    path = Path(value)
    if path.suffix.lower() in FILE_TYPES:
        return _weights(_from_csv(path) if path.suffix.lower() == ".csv" else _from_yaml(path), str(path))
    pairs = [part.rpartition("=") for part in value.split(",") if part.strip()]
    if not pairs or not all(equals for _, equals, _ in pairs):
        raise ValueError(f"class_weights must be {FORMS}, got {value!r}")
    return _weights(((name, weight) for name, _, weight in pairs), "class_weights")


def weights_of_classes(
    wanted: str | Mapping[str, float] | None, class_names: Sequence[str], labels: npt.NDArray[np.int64]
) -> list[float] | None:
    """The weight of each class, in the order of the classes; None without class weights.

    "balanced" is N / (K * n_k) for n_k of N rows in class k, where K counts the classes with rows, as scikit-learn
    defines it. A class without rows, and a class that `wanted` does not name, has the weight 1.

    Args:
        wanted: Result of `read_class_weights`, or None.
        class_names: Names of the classes.
        labels: Labels of the training rows.

    Raises:
        ValueError: A name is not that of a class, or every training row has the weight 0.
    """
    if wanted is None:
        return None
    counts = np.bincount(labels, minlength=len(class_names))
    if isinstance(wanted, str):
        balanced = counts.sum() / (np.count_nonzero(counts) * counts.clip(min=1))
        return [float(weight) for weight in np.where(counts > 0, balanced, 1.0)]
    for name in wanted:
        if name not in class_names:
            (nearest,) = difflib.get_close_matches(name, class_names, n=1, cutoff=0.0)
            raise ValueError(f"class_weights must name classes of the data, got {name!r}; did you mean {nearest!r}?")
    weights = [wanted.get(name, 1.0) for name in class_names]
    if not np.dot(weights, counts):
        raise ValueError("class_weights must be above 0 for a class with training rows, got 0 for all of them")
    return weights


def _from_yaml(path: Path) -> Iterable[tuple[Any, Any]]:
    """Names and weights in a YAML or JSON file; all of them as text, so that a class may be called `no` or `1`."""
    content = read_yaml(path, as_text=True)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must be lines of `name: weight`, got {type(content).__name__}")
    return content.items()


def _from_csv(path: Path) -> Iterable[tuple[str, str]]:
    """Names and weights in a CSV file; the first row is a header if its weight is no number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: must be a CSV file in UTF-8, got: {error}") from error
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            raise ValueError(f"{path}: row {number} must have a name and a weight, got {len(row)} fields")
    if rows and not _is_number(rows[0][1]):
        del rows[0]
    return [(name, weight) for name, weight in rows]


def _weights(pairs: Iterable[tuple[Any, Any]], source: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for key, value in pairs:
        name = str(key).strip()
        if isinstance(value, bool) or not _is_number(value):
            raise ValueError(f"{source}: the weight of {name} must be a number, got {value!r}")
        if name in weights:
            raise ValueError(f"{source}: must name each class once, got {name} twice")
        weights[name] = in_range(f"{source}: the weight of {name}", float(value), 0)
    if not weights:
        raise ValueError(f"{source}: must have a weight for at least one class, got none")
    return weights


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
