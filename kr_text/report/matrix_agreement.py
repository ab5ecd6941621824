"""Agreement of (K, K) label matrices: rank correlation, absolute difference, and a classifier's mistakes as shares."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

Floats = npt.NDArray[np.float64]


def without_diagonal(rows: Sequence[Sequence[float | None]]) -> Floats:
    """(K, K) with nan on the diagonal and for None."""
    numbers = np.array(rows, dtype=np.float64)
    np.fill_diagonal(numbers, np.nan)
    return numbers


def rank_correlation(a: Floats, b: Floats) -> float:
    """Mean over the classes of Spearman's correlation of their rows (K,) in both matrices, without the diagonal.

    Skips rows that are constant or contain nan in either matrix; nan if no row remains.
    """
    others = ~np.eye(len(a), dtype=np.bool_)
    pairs = [(x[keep], y[keep]) for x, y, keep in zip(a, b, others, strict=True)]
    kept = [pair for pair in pairs if all(np.isfinite(row).all() and np.ptp(row) > 0 for row in pair)]
    return float(np.mean([spearmanr(x, y).statistic for x, y in kept])) if kept else float("nan")


def mean_difference(a: Floats, b: Floats) -> float:
    """Mean absolute difference of the off-diagonal entries."""
    return float(np.nanmean(np.abs(a - b)[~np.eye(len(a), dtype=np.bool_)]))


def mistakes(confusion: Sequence[Sequence[int]]) -> Floats:
    """(K, K): share of each predicted class among the misclassified rows of each true class.

    A class without misclassified rows has a row of nan.
    """
    counts = np.array(confusion, dtype=np.float64) * ~np.eye(len(confusion), dtype=np.bool_)
    total = counts.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return shares
