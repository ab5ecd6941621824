"""Rows of different lengths in one flat array."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def ranges(begins: Ints, lengths: Ints) -> Ints:
    """From each begin as many numbers as its length says, one range after the other."""
    ends = lengths.cumsum()
    places: Ints = np.repeat(begins - (ends - lengths), lengths)
    places += np.arange(len(places))
    return places
