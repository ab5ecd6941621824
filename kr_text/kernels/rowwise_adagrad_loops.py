"""Compiled loops for row-wise Adagrad."""

from typing import Any

import numpy as np
from torch import Tensor

from kr_text.kernels.compiled_loops import Array, compiled, prefetch
from kr_text.kernels.loop_threads import run_in_parts

AHEAD = 16  # rows between a prefetch and its use


def update_rows_in_loops(table: Tensor, sums: Tensor, rows: Tensor, gradient: Tensor, lr: float, eps: float) -> None:
    """`rowwise_adagrad.update_rows` in compiled loops; it leaves `gradient` unchanged."""
    number = gradient.numpy().dtype.type
    numbers = number(lr), number(eps), number(1 / gradient.shape[1])
    run_in_parts(_update_rows, table.numpy(), sums.numpy(), rows.numpy(), gradient.numpy(), *numbers)


def ascend(rows: Tensor) -> bool:
    """Whether the row numbers are strictly ascending."""
    return bool(_ascend(rows.numpy()))


@compiled
def _update_rows(
    part: int,
    num_parts: int,
    table: Array,
    sums: Array,
    rows: Array,
    gradient: Array,
    lr: Any,
    eps: Any,
    one_over_width: Any,
) -> None:
    num_rows, width = gradient.shape
    high = num_rows * (part + 1) // num_parts
    for index in range(num_rows * part // num_parts, high):
        if index + AHEAD < high:
            prefetch(table, rows[index + AHEAD])
            prefetch(sums, rows[index + AHEAD])
        row, row_gradient = np.uint64(rows[index]), gradient[index]
        square = row_gradient[0] * row_gradient[0]
        for column in range(1, width):
            square += row_gradient[column] * row_gradient[column]
        sums[row] += square * one_over_width
        scale = lr / np.sqrt(sums[row] + eps)
        table_row = table[row]
        for column in range(width):
            table_row[column] -= scale * row_gradient[column]


@compiled
def _ascend(rows: Array) -> bool:
    num_descents = 0
    for index in range(1, len(rows)):
        num_descents += rows[index - 1] >= rows[index]
    return num_descents == 0
