"""Paired significance tests, intervals over seeds, and the correction for multiple tests.

In each test `a` is the method and `b` the baseline: a negative difference of errors, a - b, means that the method is
better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from kr_text.experiments.behrens_fisher import LEVEL, Part, half_interval, p_value, possible_deviations

MAX_COUNTS = 2**22  # bootstrap counts in memory at the same time: 32 MB
ROUNDING = 1e-12  # relative to the difference: a smaller standard error counts as zero


@dataclass(frozen=True)
class PairedTest:
    """McNemar's test of two classifiers on the same rows.

    Attributes:
        num_only_a_correct: Number of rows that a classifies correctly and b does not.
        num_only_b_correct: Number of rows that b classifies correctly and a does not.
        difference: Error of a minus error of b, as a share of all rows, in [-1, 1].
        p_value: Two-sided p-value.
    """

    num_only_a_correct: int
    num_only_b_correct: int
    difference: float
    p_value: float


@dataclass(frozen=True)
class MeanTest:
    """Paired test of a difference of means.

    Attributes:
        difference: Mean of a minus mean of b, in the unit of the errors.
        low: Lower end of the 95% interval.
        high: Upper end of the 95% interval.
        p_value: Two-sided p-value.
    """

    difference: float
    low: float
    high: float
    p_value: float


def mcnemar(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike) -> PairedTest:
    """Exact two-sided McNemar test of two classifiers.

    The exact binomial test on the discordant rows, which exactly one classifier gets right. Under the null hypothesis,
    both classifiers are equally likely to be right (McNemar 1947; exact form in Dietterich 1998). Without discordant
    rows p is 1. The test ignores the variance between seeds; for several seeds use `paired_bootstrap`.

    Args:
        correct_a: Booleans (rows,), whether a classifies the row correctly.
        correct_b: The same for b, with the same rows in the same order.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise ValueError(f"correct_a and correct_b must have one shape (rows,), rows >= 1, got {a.shape} and {b.shape}")
    if a.dtype != np.bool_ or b.dtype != np.bool_:
        raise ValueError(f"correct_a and correct_b must be boolean, got dtypes {a.dtype} and {b.dtype}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_a + only_b
    p = float(scipy.stats.binomtest(only_a, discordant).pvalue) if discordant else 1.0
    return PairedTest(only_a, only_b, (only_b - only_a) / a.size, p)


def paired_bootstrap(
    errors_a: npt.ArrayLike, errors_b: npt.ArrayLike, *, num_resamples: int = 10_000, seed: int = 0
) -> MeanTest:
    """Bootstrap test of mean(errors_a) - mean(errors_b) over rows and seeds.

    The variance of the difference has three parts:

    - Rows: the bootstrap variance of the mean over seeds. Each resample of the rows serves a, b and every seed.
    - Seeds: s^2 / n of the n means over rows, as from a bootstrap of n - 1 of n seeds (Rao & Wu 1988).
    - Interaction of rows and seeds: contained in both other parts, so it is subtracted from the rows, and is the lower
      bound of the seeds. Resampling rows and seeds at once would count it three times (Owen 2007).

    The interval and the p-value come from the Behrens-Fisher distribution, since few seeds estimate s^2 poorly. Without
    a true difference, p is below 5% in at most 5% of cases and below 0.001 in at most a thousandth of them, which a
    correction for many tests needs. With three seeds, percentiles of the bootstrap are below 5% in about 23% of cases;
    Student's t with Satterthwaite's degrees of freedom is below 5% in 5 to 7%, and below 0.001 up to nine times too
    often. With one seed only the rows vary.

    By hand, since scipy.stats.bootstrap resamples one axis and has no Behrens-Fisher distribution.

    Args:
        errors_a: Error of each row (seeds, rows), for instance 0 or 1.
        errors_b: Errors of the baseline with the same seeds and rows, in the same order.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.
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
) -> MeanTest:
    """`paired_bootstrap` of the mean over comparisons with equal weights.

    Args:
        groups: Groups of comparisons. Comparisons of one group have the same rows, as in `resampled_differences`;
            different groups have different rows.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.
    """
    each = [differences for group in groups for differences in group]
    difference = float(np.mean([differences.mean() for differences in each]))
    parts = []
    for number, group in enumerate(groups):
        resampled = resampled_differences(group, num_resamples=num_resamples, seed=seed + number)
        interactions = [_variance_of_interaction(differences) / len(each) ** 2 for differences in group]
        over_rows = float((resampled.sum(axis=1) / len(each)).var()) - sum(interactions)
        parts.append(Part(over_rows, group[0].shape[1] - 1))
        for differences, least in zip(group, interactions, strict=True):
            parts.append(Part(_variance_over_seeds(differences) / len(each) ** 2, len(differences) - 1, least))
    if sum(max(part.variance, part.least) for part in parts) <= (ROUNDING * difference) ** 2:
        # All rows and seeds have the same difference: the sign test over the rows.
        num_rows = sum(group[0].shape[1] for group in groups)
        return MeanTest(difference, difference, difference, 1.0 if difference == 0 else 2.0 ** (1 - num_rows))
    deviations = possible_deviations(parts, num_draws=num_resamples, seed=seed)
    half = half_interval(deviations)
    return MeanTest(difference, difference - half, difference + half, p_value(difference, deviations))


def _variance_over_seeds(differences: npt.NDArray[np.float64]) -> float:
    """Variance of the mean of (seeds, rows), estimated from the means of the seeds."""
    return float(differences.mean(axis=1).var(ddof=1)) / len(differences) if len(differences) > 1 else 0.0


def _variance_of_interaction(differences: npt.NDArray[np.float64]) -> float:
    """Variance of the mean of (seeds, rows) due to the interaction of seeds and rows in an analysis of variance."""
    num_seeds, num_rows = differences.shape
    if num_seeds == 1 or num_rows == 1:
        return 0.0
    rest = differences - differences.mean(axis=1, keepdims=True) - differences.mean(axis=0) + differences.mean()
    freedom = int((num_seeds - 1) * (num_rows - 1))
    return float(np.square(rest).sum()) / freedom / differences.size


def corrected_t_test(folds: Sequence[npt.NDArray[np.float64]]) -> MeanTest:
    """Corrected resampled t-test of the mean difference over the k folds of a cross-validation (Nadeau & Bengio 2003).

    The training sets of two folds share most of their rows, so the differences in the folds are correlated, and the
    variance s^2 / k of Student's t-test is too small. The corrected variance is (1 / k + n_test / n_train) s^2, where
    n_test / n_train is 1 / (k - 1), with k - 1 degrees of freedom. It rests on an assumed correlation: no unbiased
    estimate of this variance exists (Bengio & Grandvalet 2004).

    Tests of the pooled rows, `paired_bootstrap` and `mcnemar`, take the models as given and lack the variance of the
    training rows. Without a true difference, on 60 to 200 simulated rows, they are below 5% in 4 to 12% of cases, and
    the corrected test in 0 to 1%: it misses small differences instead.

    s^2 is taken to be at least the variance that the sampling of test rows alone gives to the difference in a fold.
    Otherwise a few small folds that have equal differences by chance would have a p-value of 0.

    Args:
        folds: For each fold, error minus error of the baseline (seeds, rows). The seeds are averaged.

    Raises:
        ValueError: There are fewer than 2 folds.
    """
    if len(folds) < 2:
        raise ValueError(f"folds must be at least 2, got {len(folds)}")
    rows = [fold.mean(axis=0) for fold in folds]
    means = np.array([fold.mean() for fold in rows])
    freedom = len(folds) - 1
    of_rows = float(np.mean([fold.var(ddof=1) / len(fold) if len(fold) > 1 else 0.0 for fold in rows]))
    variance = (1 / len(folds) + 1 / freedom) * max(float(means.var(ddof=1)), of_rows)
    difference, error = float(means.mean()), variance**0.5
    if error <= ROUNDING * abs(difference):  # every row has the same difference
        return MeanTest(difference, difference, difference, 1.0 if difference == 0 else 0.0)
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(scipy.stats.t.sf(abs(difference) / error, freedom))
    return MeanTest(difference, difference - half, difference + half, p)


def resampled_differences(
    differences: Sequence[npt.ArrayLike], *, num_resamples: int = 10_000, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Bootstrap means of paired differences over resampled rows and all seeds, (num_resamples, comparisons).

    Each resample of the rows serves all comparisons, which preserves the correlation of their means.

    Args:
        differences: For each comparison, error minus error of the baseline (seeds, rows), all on the same rows.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.
    """
    means = [np.asarray(difference, dtype=np.float64).mean(axis=0) for difference in differences]
    # Rows with equal values in every comparison are interchangeable, and 0 / 1 errors have few values: draw the number
    # of rows of each kind.
    kinds, sizes = np.unique(np.stack(means), axis=1, return_counts=True)  # (comparisons, kinds), (kinds,)
    rng, num_rows = np.random.default_rng(seed), sizes.sum()
    chunk = max(1, MAX_COUNTS // len(sizes))
    resampled = []
    for start in range(0, num_resamples, chunk):
        drawn = rng.multinomial(num_rows, sizes / num_rows, size=min(chunk, num_resamples - start))  # (draws, kinds)
        resampled.append(drawn @ kinds.T / num_rows)
    return np.concatenate(resampled)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (divided by n - 1); the deviation of a single value is nan."""
    if len(values) == 0:
        raise ValueError("values must have at least 1 entry, got 0")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), deviation


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean, mean +- t s / sqrt(n) with n - 1 degrees of freedom (Student 1908).

    Both ends are nan for a single value. scipy.stats.t.interval would be nan for equal values, too.
    """
    mean, deviation = mean_and_deviation(values)
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * deviation / len(values) ** 0.5
    return mean - half, mean + half


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): adjusted p-values in the given order, controlling the family-wise error rate.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_(j)). By hand, since scipy adjusts only for
    the false discovery rate.

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
