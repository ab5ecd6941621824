"""Ragged rows: rows of different lengths, one after the other in a flat array."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kr_text.kernels import dispatch

Ints = npt.NDArray[np.int64]


def ranges(begins: Ints, lengths: Ints) -> Ints:
    """Concatenates `range(begin, begin + length)` for each pair of `begins` and `lengths`."""
    ends = lengths.cumsum()
    indices: Ints = np.repeat(begins - (ends - lengths), lengths)
    indices += np.arange(len(indices))
    return indices


def concatenate_slices(source: npt.NDArray[Any], begins: Ints, lengths: Ints) -> npt.NDArray[Any]:
    """Concatenates `source[begin : begin + length]` for each pair of `begins` and `lengths`."""
    if not dispatch.HAS_NUMBA:
        return source.take(ranges(begins, lengths))
    from kr_text.kernels.ragged_loops import copy_slices

    slices = np.empty(int(lengths.sum()), dtype=source.dtype)
    copy_slices(source, begins, lengths, slices)
    return slices
