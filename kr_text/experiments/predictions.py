"""What a run predicted for its test rows, in little space: which rows are right, and probabilities to 1 / 250."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

UNIT = 250  # so that a probability is a byte


class Predictions(NamedTuple):
    """The predictions of a run, in the order of the test rows."""

    correct: npt.NDArray[np.bool_]  # (rows,)
    labels: npt.NDArray[np.int64]  # (rows,)
    probabilities: npt.NDArray[np.float64]  # (rows, K), to 1 / UNIT: their sum may be 1 or a little off


def compact(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> pa.Table:
    """The columns correct, label and p0, p1, ...: the probabilities (rows, K) in units of 1 / UNIT.

    Which rows are right is told before they are rounded: a tie of rounded numbers cannot change it.
    """
    p, y = np.asarray(probabilities), np.asarray(labels)
    columns = {"correct": p.argmax(axis=1) == y, "label": y.astype(np.uint16)}
    units = np.rint(p * UNIT).astype(np.uint8)
    return pa.table(columns | {f"p{k}": units[:, k] for k in range(p.shape[1])})


def write_predictions(table: pa.Table, path: Path) -> None:
    """Writes a table of `compact` whole: no crash leaves half of a file."""
    temporary = path.with_name(f"{path.name}.tmp")
    pq.write_table(table, temporary, compression="zstd", compression_level=19, store_schema=False)
    temporary.replace(path)


def read_predictions(path: Path) -> Predictions:
    """Reads what `write_predictions` wrote."""
    table = pq.read_table(path)
    columns = [name for name in table.column_names if name not in ("correct", "label")]
    units = np.stack([table[name].to_numpy() for name in columns], axis=1)
    correct = np.asarray(table["correct"].to_numpy(), dtype=np.bool_)
    return Predictions(correct, table["label"].to_numpy().astype(np.int64), units / UNIT)
