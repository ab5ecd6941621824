"""Rows without a text or a known label: they are left out and reported, or refused."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

logger = logging.getLogger(__name__)

MAX_SHARE = 0.05  # of the rows of a split that may be left out
NUM_SHOWN = 5  # row numbers in a message

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fault:
    """Rows with the same fault.

    Attributes:
        rows: Their indices, sorted.
        what: The fault, in words that follow "has".
        rule: The rule that the first of these rows breaks, and its value.
    """

    rows: Rows
    what: str
    rule: str


def leave_out(dataset: Dataset, faults: list[Fault], where: str, first_row: int, *, strict: bool) -> Dataset:
    """Leaves out the rows with faults, and logs how many and which.

    Args:
        dataset: Rows of one split.
        faults: What is wrong with which rows.
        where: Name of the split in messages.
        first_row: Number of the first row in messages.
        strict: Whether one row with a fault is refused.

    Raises:
        ValueError: If there is a row with a fault and `strict` is true, or more than 5% of the rows have one.
    """
    faults = [fault for fault in faults if len(fault.rows)]
    if not faults:
        return dataset
    if strict:
        first = min(faults, key=lambda fault: int(fault.rows[0]))
        raise ValueError(f"{where}: row {first.rows[0] + first_row}: {first.rule}")
    keep = np.ones(dataset.num_rows, dtype=bool)
    for fault in faults:
        keep[fault.rows] = False
    num_left_out = int(dataset.num_rows - keep.sum())
    found = "; ".join(_described(fault, first_row) for fault in faults)
    if num_left_out > MAX_SHARE * dataset.num_rows:
        raise ValueError(
            f"{where}: at least {1 - MAX_SHARE:.0%} of the rows must have a text and a known label, got "
            f"{dataset.num_rows - num_left_out:,} of {dataset.num_rows:,}: {found}: correct these rows, or remove them"
        )
    message = "%s: %s of %s rows %s left out: %s"
    are = "is" if num_left_out == 1 else "are"
    logger.warning(message, where, f"{num_left_out:,}", f"{dataset.num_rows:,}", are, found)
    return rows_where(dataset, keep)


def _described(fault: Fault, first_row: int) -> str:
    numbers = ", ".join(str(row + first_row) for row in fault.rows[:NUM_SHOWN])
    if len(fault.rows) == 1:
        return f"1 has {fault.what} (row {numbers})"
    more = ", ..." if len(fault.rows) > NUM_SHOWN else ""
    return f"{len(fault.rows):,} have {fault.what} (rows {numbers}{more})"


def rows_where(dataset: Dataset, keep: npt.NDArray[np.bool_]) -> Dataset:
    """The rows where `keep`, (num_rows,), is true, in an Arrow file of their own.

    `select` alone would make every later pass over these rows collect them one by one.
    """
    kept = dataset.with_format("arrow").map(
        _filter, with_indices=True, batched=True, batch_size=10_000, fn_kwargs={"keep": keep}, desc="Cutting"
    )
    return kept.with_format(None)


def _filter(table: pa.Table, indices: list[int], *, keep: npt.NDArray[np.bool_]) -> pa.Table:
    return table.filter(pa.array(keep[indices]))


def where_true(mask: pa.ChunkedArray) -> Rows:
    """Indices of the true values."""
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy())
