"""Rows set aside from a split for another that is missing, stratified by class."""

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from kr_text.data.files import listed

MAX_DEFAULT_CUT = 5_000  # rows; an error rate of 9% is then known to 0.4 points


def cut(dataset: Dataset, size: float | int | None, seed: int, where: str) -> tuple[Dataset, Dataset]:
    """The rest and the rows set aside: of c rows of a class, c * size / num_rows, rounded up or down.

    `Dataset.train_test_split(stratify_by_column=...)` reads the labels row by row, 5 s for AG News.
    """
    label, num_rows = dataset.features["label"], dataset.num_rows
    if size is None:
        size = min(max(math.ceil(0.1 * num_rows), label.num_classes), MAX_DEFAULT_CUT)
    size = size if isinstance(size, int) else math.ceil(size * num_rows)
    labels = dataset.with_format("arrow").select_columns("label")[:]["label"].to_numpy()
    counts = np.bincount(labels, minlength=label.num_classes)
    if rare := [name for name, count in zip(label.names, counts, strict=True) if count == 1]:
        raise ValueError(
            f"{where}: every class must have at least 2 rows for a stratified cut, {listed(rare)} has 1: add rows, or "
            "files for validation and test"
        )
    if not label.num_classes <= size <= num_rows // 2:
        raise ValueError(
            f"validation_size must set aside a row for each class, {label.num_classes}, and at most half of the "
            f"{num_rows} rows of {where}, got {size}"
        )
    shuffled = np.random.default_rng(seed).permutation(num_rows)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    aside = np.sort(by_class[((np.arange(size) + 0.5) * num_rows // size).astype(int)])
    keep = np.ones(num_rows, dtype=bool)
    keep[aside] = False
    # With `select` alone every later pass over the rest would collect its rows one by one, and the few rows set aside
    # would keep all of them mapped.
    rest = dataset.with_format("arrow").map(
        _rows_where, with_indices=True, batched=True, batch_size=10_000, fn_kwargs={"keep": keep}, desc="Cutting"
    )
    return rest.with_format(None), dataset.select(aside).flatten_indices()


def _rows_where(table: pa.Table, indices: list[int], *, keep: npt.NDArray[np.bool_]) -> pa.Table:
    return table.filter(pa.array(keep[indices]))
