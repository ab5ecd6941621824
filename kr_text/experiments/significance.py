"""Is the difference from the baseline more than chance? Paired tests, intervals over seeds, correction for many tests.

In each test `a` is the method, `b` the baseline: a negative difference a - b of errors means that the method is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.stats

LEVEL = 0.95  # of every interval here
MAX_COUNTS = 2**22  # bootstrap counts held at once: 32 MB
ROUNDING = 1e-12  # a standard error of less than this share of the difference is none


@dataclass(frozen=True)
class PairedTest:
    """McNemar's test of two classifiers on the same rows.

    Attributes:
        num_only_a_correct: Rows that a has right and b wrong.
        num_only_b_correct: Rows that b has right and a wrong.
        difference: Error of a minus error of b, as a share of all rows, in [-1, 1].
        p_value: Two-sided.
    """

    num_only_a_correct: int
    num_only_b_correct: int
    difference: float
    p_value: float


@dataclass(frozen=True)
class BootstrapTest:
    """Paired bootstrap of a difference of means.

    Attributes:
        difference: Mean of a minus mean of b, in the unit of the errors.
        low: Lower end of the 95% interval.
        high: Upper end of the 95% interval.
        p_value: Two-sided.
    """

    difference: float
    low: float
    high: float
    p_value: float


def mcnemar(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike) -> PairedTest:
    """Exact two-sided McNemar test: given the rows where a and b differ, each is right in half of them.

    The binomial test on the discordant pairs (McNemar 1947; exact form in Dietterich 1998). Without such pairs p is 1.
    It knows one run of each classifier: for several seeds use `paired_bootstrap`.

    Args:
        correct_a: Booleans (rows,), whether a has the row right.
        correct_b: The same for b, on the same rows in the same order.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise ValueError(f"correct_a and correct_b must have one shape (rows,), rows >= 1, got {a.shape} and {b.shape}")
    if a.dtype != np.bool_ or b.dtype != np.bool_:
        raise ValueError(f"correct_a and correct_b must be boolean, got dtypes {a.dtype} and {b.dtype}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_a + only_b
    p_value = float(scipy.stats.binomtest(only_a, discordant).pvalue) if discordant else 1.0
    return PairedTest(only_a, only_b, (only_b - only_a) / a.size, p_value)


def paired_bootstrap(
    errors_a: npt.ArrayLike, errors_b: npt.ArrayLike, *, num_resamples: int = 10_000, seed: int = 0
) -> BootstrapTest:
    """Bootstrap of mean(errors_a) - mean(errors_b) over rows, and over seeds.

    One draw of rows serves a, b and every seed, and gives the variance of the mean over rows. That over seeds is
    s^2 / n, which a bootstrap of n - 1 of n seeds (Rao & Wu 1988) has, and is taken without drawing. What differs from
    row to row in another way under each seed is in both (rows and seeds drawn at once count it three times: Owen 2007).
    Its variance is well known, and taken off the first; that over seeds cannot be less.

    How little s^2 is known from few seeds is in the interval and the p-value. They are those of Behrens and Fisher: a
    mean over all variances s^2 (n - 1) / chi^2 that the seeds leave possible. Of cases where nothing differs they find
    a difference in at most 5% at a level of 5%, and in at most a thousandth at a thousandth, as a correction for many
    tests needs it. Percentiles of the bootstrap find one in some 23% at 5% with three seeds, Student's t with
    Satterthwaite's degrees of freedom in 5 to 7%, and at a thousandth up to nine times as many as it should. With one
    seed only the rows vary.

    Args:
        errors_a: Loss of each row (seeds, rows), for instance 0 / 1 errors.
        errors_b: The same of the baseline: same seeds, same rows, same order.
        num_resamples: Draws.
        seed: Of the draws.
    """
    a, b = np.asarray(errors_a, dtype=np.float64), np.asarray(errors_b, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape or a.size == 0:
        raise ValueError(
            f"errors_a and errors_b must have one shape (seeds, rows), none 0, got {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("errors_a and errors_b must be finite, got nan or inf")
    return average_bootstrap([[a - b]], num_resamples=num_resamples, seed=seed)


def average_bootstrap(
    groups: Sequence[Sequence[npt.NDArray[np.float64]]], *, num_resamples: int = 10_000, seed: int = 0
) -> BootstrapTest:
    """`paired_bootstrap` of the mean over comparisons, each counted once.

    Args:
        groups: Comparisons on the same rows, as for `resampled_differences`; different groups have different rows.
        num_resamples: Draws.
        seed: Of the draws.
    """
    each = [differences for group in groups for differences in group]
    difference = float(np.mean([differences.mean() for differences in each]))
    parts = []
    for number, group in enumerate(groups):
        resampled = resampled_differences(group, num_resamples=num_resamples, seed=seed + number)
        together = [_variance_of_both(differences) / len(each) ** 2 for differences in group]
        over_rows = float((resampled.sum(axis=1) / len(each)).var()) - sum(together)
        parts.append(_Part(over_rows, group[0].shape[1] - 1))
        for differences, least in zip(group, together, strict=True):
            parts.append(_Part(_variance_over_seeds(differences) / len(each) ** 2, len(differences) - 1, least))
    if sum(max(part.variance, part.least) for part in parts) <= (ROUNDING * difference) ** 2:
        # no row and no seed differs from another: the sign test over the rows
        num_rows = sum(group[0].shape[1] for group in groups)
        return BootstrapTest(difference, difference, difference, 1.0 if difference == 0 else 2.0 ** (1 - num_rows))
    deviations = _possible_deviations(parts, num_draws=num_resamples, seed=seed)
    half = _half_of_interval(deviations)
    return BootstrapTest(difference, difference - half, difference + half, _p_value(difference, deviations))


class _Part(NamedTuple):
    """Of the variance of a mean: an estimate with degrees of freedom, and what it cannot be less than."""

    variance: float
    freedom: int
    least: float = 0.0


def _possible_deviations(parts: Sequence[_Part], *, num_draws: int, seed: int) -> npt.NDArray[np.float64]:
    """(num_draws,): standard deviations of a mean, as the estimates of their parts leave them possible.

    Each part is drawn once from each of `num_draws` shares of its distribution, a Latin hypercube.
    """
    rng, total = np.random.default_rng(seed), np.zeros(num_draws)
    for part in parts:
        shares = (rng.permutation(num_draws) + 0.5) / num_draws
        drawn = max(part.variance, part.least) * part.freedom / scipy.stats.chi2.ppf(shares, max(1, part.freedom))
        total += np.maximum(drawn, part.least)
    return np.sqrt(total)


def _p_value(difference: float, deviations: npt.NDArray[np.float64]) -> float:
    """Two-sided, of a normal variable whose deviation is any of these."""
    return float(np.mean(2 * scipy.stats.norm.sf(abs(difference) / deviations)))


def _half_of_interval(deviations: npt.NDArray[np.float64]) -> float:
    """Of that where such a variable is in 95% of cases."""
    end = float(deviations.mean())
    while _p_value(end, deviations) > 1 - LEVEL:
        end *= 2
    return float(scipy.optimize.brentq(lambda half: _p_value(half, deviations) - (1 - LEVEL), 0, end))


def _variance_over_seeds(differences: npt.NDArray[np.float64]) -> float:
    """Of the mean of (seeds, rows), as far as the seeds' means tell."""
    return float(differences.mean(axis=1).var(ddof=1)) / len(differences) if len(differences) > 1 else 0.0


def _variance_of_both(differences: npt.NDArray[np.float64]) -> float:
    """Of the same, what rows and seeds have together: the interaction of an analysis of variance."""
    num_seeds, num_rows = differences.shape
    if num_seeds == 1 or num_rows == 1:
        return 0.0
    rest = differences - differences.mean(axis=1, keepdims=True) - differences.mean(axis=0) + differences.mean()
    freedom = int((num_seeds - 1) * (num_rows - 1))
    return float(np.square(rest).sum()) / freedom / differences.size


def resampled_differences(
    differences: Sequence[npt.ArrayLike], *, num_resamples: int = 10_000, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Means of paired differences over rows drawn with replacement, and all seeds: (num_resamples, comparisons).

    One draw of rows serves all comparisons, which are thus as dependent as their common test rows make them.

    Args:
        differences: Of each comparison the loss of each row less that of the baseline (seeds, rows), on the same rows.
        num_resamples: Draws.
        seed: Of the draws.
    """
    means = [np.asarray(difference, dtype=np.float64).mean(axis=0) for difference in differences]
    # Rows alike in every comparison are interchangeable: draw how many of each kind. With 0 / 1 errors they are few.
    kinds, sizes = np.unique(np.stack(means), axis=1, return_counts=True)  # (comparisons, kinds), (kinds,)
    rng, num_rows = np.random.default_rng(seed), sizes.sum()
    chunk = max(1, MAX_COUNTS // len(sizes))
    resampled = []
    for start in range(0, num_resamples, chunk):
        drawn = rng.multinomial(num_rows, sizes / num_rows, size=min(chunk, num_resamples - start))  # (draws, kinds)
        resampled.append(drawn @ kinds.T / num_rows)
    return np.concatenate(resampled)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (divided by n - 1) over seeds; the deviation of a single value is nan."""
    if len(values) == 0:
        raise ValueError("values must have at least 1 entry, got 0")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), deviation


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean over seeds, mean +- t s / sqrt(n) with n - 1 degrees of freedom (Student 1908).

    Both ends are nan for a single value.
    """
    mean, deviation = mean_and_deviation(values)
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * deviation / len(values) ** 0.5
    return mean - half, mean + half


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): adjusted p-values in the given order, controlling the family-wise error rate.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_(j)).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values must be in [0, 1], got {list(p_values)}")
    order = p.argsort(kind="stable")
    adjusted: npt.NDArray[np.float64] = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1, np.arange(len(p), 0, -1) * p[order]))
    return [float(value) for value in adjusted]
