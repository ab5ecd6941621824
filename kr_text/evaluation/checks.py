"""Checks of the class probabilities and labels that every metric takes."""

import numpy as np
import numpy.typing as npt

SUM_TOLERANCE = 1e-3  # the sum of a float16 softmax is further from 1 than that of float32

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def checked_predictions(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Integers]:
    """Returns `probabilities` (N, K) in float64 and `labels` (N,) in int64, after checking both.

    Raises:
        ValueError: A wrong shape or dtype, a probability outside [0, 1], a row that does not sum to 1 within
            `SUM_TOLERANCE`, or a label outside 0..K-1.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or len(probabilities) < 1 or probabilities.shape[1] < 2:
        raise ValueError(f"probabilities must have shape (N, K) with N >= 1 and K >= 2, got {probabilities.shape}")
    num_rows, num_labels = probabilities.shape
    if labels.shape != (num_rows,):
        raise ValueError(f"labels must have shape ({num_rows},), one for each row of probabilities, got {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got dtype {labels.dtype}")

    in_range = (probabilities >= 0) & (probabilities <= 1 + SUM_TOLERANCE)  # False for nan
    if not in_range.all():
        row, column = (int(index) for index in np.argwhere(~in_range)[0])
        raise ValueError(f"probabilities must be in [0, 1], got {probabilities[row, column]} in row {row}")
    sums = probabilities.sum(axis=1)
    row = int(np.abs(sums - 1).argmax())
    if abs(sums[row] - 1) > SUM_TOLERANCE:
        raise ValueError(f"probabilities must sum to 1 (within {SUM_TOLERANCE}), got {sums[row]} in row {row}")
    outside = (labels < 0) | (labels >= num_labels)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(f"labels must be in 0..{num_labels - 1}, got {labels[row]} in row {row}")
    return probabilities, labels.astype(np.int64)
