"""Stratified cuts: of validation or test rows from the training rows, and of all rows into folds."""

import logging
import math
import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict, concatenate_datasets

from kr_text.data.left_out import rows_where

logger = logging.getLogger(__name__)

MAX_DEFAULT_CUT = 5_000  # rows; an error rate of 9% then has a standard error of 0.4 points


class Fold(NamedTuple):
    """One fold of a cross-validation.

    Attributes:
        number: Number of the fold, from 1.
        num_folds: Number of folds.
    """

    number: int
    num_folds: int


def parse_fold(text: str) -> Fold:
    """The fold in a text such as "2/5".

    Raises:
        ValueError: The text is not a fold.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    fold = Fold(int(found[1]), int(found[2])) if found else Fold(0, 0)
    if not (fold.num_folds >= 2 and 1 <= fold.number <= fold.num_folds):
        raise ValueError(
            f"fold must be NUMBER/COUNT with 1 <= NUMBER <= COUNT and COUNT >= 2, such as 2/5, got {text!r}"
        )
    return fold


def take_fold(splits: DatasetDict, fold: Fold, seed: int, where: str) -> DatasetDict:
    """Cuts all rows into stratified folds. One fold is the split test, the others are the split train.

    The sizes of two folds, and the rows they have of a class, differ by 1 at most. The folds depend only on the rows,
    the number of folds and the seed, so each row is a test row in exactly one fold.

    Args:
        splits: Splits with the columns text and label; their rows are put together.
        fold: The fold that becomes the test rows.
        seed: Seed of the folds.
        where: Name of the data in messages.

    Raises:
        ValueError: There are fewer rows than folds.
    """
    rows = concatenate_datasets(list(splits.values()))
    if fold.num_folds > rows.num_rows:
        raise ValueError(f"folds must be at most the {rows.num_rows} rows of {where}, got {fold.num_folds}")
    labels = rows.with_format("arrow").select_columns("label")[:]["label"].to_numpy()
    shuffled = np.random.default_rng(seed).permutation(rows.num_rows)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold_of = np.empty(rows.num_rows, dtype=np.int64)
    fold_of[by_class] = np.arange(rows.num_rows) % fold.num_folds + 1
    chosen = {"train": fold_of != fold.number, "test": fold_of == fold.number}
    return DatasetDict({name: rows.select(mask.nonzero()[0]).flatten_indices() for name, mask in chosen.items()})


def cut(dataset: Dataset, size: float | int | None, seed: int, where: str) -> tuple[Dataset, Dataset]:
    """Splits rows into the rows that stay and the rows set aside.

    A class with c rows gives c * size / num_rows rows, rounded up or down, so a rare class may give no row. A class
    with a single row keeps it. Faster than `Dataset.train_test_split(stratify_by_column=...)`, which takes 5 s to read
    the labels of AG News.

    Args:
        dataset: Rows with the column label.
        size: Share in (0, 1) or number of the rows to set aside. Default: 10%, at most `MAX_DEFAULT_CUT`.
        seed: Seed of the choice.
        where: Name of the data in messages.

    Raises:
        ValueError: If `size` is above half of the rows in classes with at least 2 rows.
    """
    labels = dataset.with_format("arrow").select_columns("label")[:]["label"].to_numpy()
    counts = np.bincount(labels, minlength=dataset.features["label"].num_classes)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    if num_single := int((counts == 1).sum()):
        message = "%s: classes with a single row, which is not set aside: %d of %d"
        logger.warning(message, where, num_single, np.count_nonzero(counts))
        shuffled = shuffled[counts[labels[shuffled]] > 1]
    size = _num_rows(size, counts)
    if not 1 <= size <= len(shuffled) // 2:
        raise ValueError(
            f"validation_size must set aside at least 1 row, and at most half of the {len(shuffled):,} rows of {where} "
            f"in classes with at least 2 rows, got {size:,}"
        )
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    aside = np.sort(by_class[((np.arange(size) + 0.5) * len(by_class) // size).astype(int)])
    keep = np.ones(len(labels), dtype=bool)
    keep[aside] = False
    # The few rows set aside would keep the whole file mapped.
    return rows_where(dataset, keep), dataset.select(aside).flatten_indices()


def _num_rows(size: float | int | None, counts: npt.NDArray[np.int64]) -> int:
    """Number of rows to set aside. By default enough for a row of each class, unless the classes are a long tail."""
    num_rows = int(counts.sum())
    if size is not None:
        return size if isinstance(size, int) else math.ceil(size * num_rows)
    tenth = math.ceil(0.1 * num_rows)
    if (counts == 1).any() or len(counts) > num_rows // 2:
        return min(tenth, int(counts[counts > 1].sum()) // 2, MAX_DEFAULT_CUT)
    return min(max(tenth, len(counts)), MAX_DEFAULT_CUT)
