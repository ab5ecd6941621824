import math
import tracemalloc
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from kr_text.experiments import significance
from kr_text.experiments.significance import (
    average_bootstrap,
    corrected_t_test,
    holm,
    mcnemar,
    mean_and_deviation,
    paired_bootstrap,
    resampled_differences,
    t_interval,
)

PROBABILITY = st.floats(0, 1)


def correct(num_both: int, num_only_a: int, num_only_b: int, num_neither: int) -> tuple[list[bool], list[bool]]:
    """Correctness for a and b of rows that both, only a, only b or neither classifies correctly."""
    a = [True] * (num_both + num_only_a) + [False] * (num_only_b + num_neither)
    b = [True] * num_both + [False] * num_only_a + [True] * num_only_b + [False] * num_neither
    return a, b


def test_mcnemar_by_hand() -> None:
    # 5 discordant rows, 1 against 4: p = 2 (C(5,0) + C(5,1)) / 2^5 = 12 / 32. Errors of a minus errors of b: 1 - 4.
    test = mcnemar(*correct(3, 4, 1, 2))
    assert (test.num_only_a_correct, test.num_only_b_correct) == (4, 1)
    assert test.difference == pytest.approx(-0.3)
    assert test.p_value == pytest.approx(12 / 32)


def test_mcnemar_without_discordant_rows_has_a_p_value_of_1() -> None:
    test = mcnemar(*correct(3, 0, 0, 2))
    assert (test.difference, test.p_value) == (0.0, 1.0)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 9))
def test_mcnemar_uses_only_discordant_rows_and_is_symmetric(only_a: int, only_b: int, concordant: int) -> None:
    test = mcnemar(*correct(concordant, only_a, only_b, concordant))
    swapped = mcnemar(*correct(0, only_b, only_a, 1))
    assert test.p_value == swapped.p_value
    expected = 2 * scipy.stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)
    assert test.p_value == pytest.approx(min(1.0, expected))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([True], [True, False], r"must have one shape \(rows,\), rows >= 1, got \(1,\) and \(2,\)"),
        ([[True]], [[True]], r"got \(1, 1\) and \(1, 1\)"),
        ([], [], r"got \(0,\) and \(0,\)"),
        ([0, 1], [True, True], "must be boolean, got dtypes int64 and bool"),
    ],
)
def test_mcnemar_refuses_invalid_input(a: list[bool], b: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mcnemar(a, b)


def test_bootstrap_of_one_seed_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    a = rng.random((1, 400)) < 0.25
    b = a ^ (rng.random((1, 400)) < 0.1)
    ours = paired_bootstrap(a, b)
    difference = (a.astype(float) - b)[0]
    theirs = scipy.stats.bootstrap((difference,), np.mean, method="percentile", batch=100, rng=2)
    assert ours.difference == pytest.approx(difference.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.005)


def behrens_fisher_half(*parts: tuple[float, int]) -> float:
    """Half of the 95% interval of a sum of t variables, by sampling. Each part: variance and degrees of freedom."""
    rng = np.random.default_rng(11)
    return float(np.quantile(np.abs(sum(v**0.5 * rng.standard_t(freedom, 10**6) for v, freedom in parts)), 0.95))


def test_the_interval_has_the_variance_over_rows_and_over_seeds() -> None:
    """The mean of differences x_j + s_i has the variance var(x) / rows + var(s) / seeds."""
    rng = np.random.default_rng(0)
    row_part, seed_part = rng.normal(size=200), rng.normal(size=10) / 2
    test = paired_bootstrap(row_part + seed_part[:, None], np.zeros((10, 200)))
    of_rows, of_seeds = row_part.var() / 200, seed_part.var(ddof=1) / 10
    half = behrens_fisher_half((of_rows, 199), (of_seeds, 9))
    assert half > 2.1 * math.sqrt(of_rows + of_seeds)  # 1.96 for the normal distribution
    assert test.high - test.low == pytest.approx(2 * half, rel=0.02)


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_if_only_seeds_vary_the_bootstrap_is_students_t_test(num_seeds: int) -> None:
    of_seeds = np.random.default_rng(2).normal(size=num_seeds)
    test = paired_bootstrap(np.repeat(of_seeds[:, None], 5, axis=1), np.zeros((num_seeds, 5)))
    theirs = scipy.stats.ttest_1samp(of_seeds, 0)
    assert test.p_value == pytest.approx(theirs.pvalue, abs=1e-4)
    assert (test.low, test.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=2e-3)


def test_the_interaction_of_rows_and_seeds_counts_once() -> None:
    """100 seeds x 100 rows, all independent: the variance of the mean is 1 / 10,000. Crossed resampling triples it."""
    differences = np.random.default_rng(5).normal(size=(100, 100))
    test = paired_bootstrap(differences, np.zeros_like(differences))
    assert test.high - test.low == pytest.approx(2 * scipy.stats.t.ppf(0.975, 99) / 100, rel=0.15)


def test_seeds_with_equal_means_by_chance_have_at_least_the_variance_of_the_interaction() -> None:
    """Each of three seeds has as many extra errors as missing ones, on different rows."""
    differences = np.zeros((3, 300))
    for seed in range(3):
        differences[seed, 60 * seed : 60 * seed + 30], differences[seed, 60 * seed + 30 : 60 * seed + 60] = 1, -1
    differences[:, -3:] = -1  # all seeds are better by 1%
    test = paired_bootstrap(differences, np.zeros_like(differences))
    assert test.difference == pytest.approx(-0.01)
    assert test.high - test.low > 2 * 1.96 * math.sqrt(0.2 / 900)
    assert test.p_value > 0.4


def test_a_clear_gain_is_significant_and_negative() -> None:
    errors_a, errors_b = np.zeros((3, 500)), np.zeros((3, 500))
    errors_b[:, :50] = 1
    test = paired_bootstrap(errors_a, errors_b, num_resamples=999)
    assert test.difference == pytest.approx(-0.1)
    assert test.low < -0.1 < test.high < 0
    assert 0 < test.p_value < 1e-6


def test_equal_errors_have_a_p_value_of_1() -> None:
    errors = np.eye(4)
    test = paired_bootstrap(errors, errors)
    assert (test.difference, test.low, test.high, test.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize(("num_rows", "p_value"), [(1, 1.0), (2, 0.5), (11, 1 / 1024)])
@pytest.mark.parametrize("difference", [1.0, 0.1])  # 0.1 is not a binary fraction: its mean has a rounding error
def test_rows_with_equal_differences_get_a_sign_test(num_rows: int, p_value: float, difference: float) -> None:
    test = paired_bootstrap(np.zeros((2, num_rows)), np.full((2, num_rows), difference))
    assert test.difference == pytest.approx(-difference)
    assert test.p_value == p_value


def test_the_bootstrap_is_antisymmetric_and_repeatable() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(2, size=(2, 3, 60))
    forth, again, back = paired_bootstrap(a, b, seed=5), paired_bootstrap(a, b, seed=5), paired_bootstrap(b, a, seed=5)
    assert forth == again
    assert forth != paired_bootstrap(a, b, seed=6)
    assert back.difference == -forth.difference
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=0.01)


def test_resampling_in_small_chunks_gives_the_same_result_with_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 3, 50)) + rng.random((2, 1, 50))
    whole = paired_bootstrap(a, b, num_resamples=4000)
    monkeypatch.setattr(significance, "MAX_COUNTS", 50 * 30)
    tracemalloc.start()
    pieces = paired_bootstrap(a, b, num_resamples=4000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4000 * 50 * 8 / 4  # bytes; a quarter of the size of all counts
    assert (whole.low, whole.high) == pytest.approx((pieces.low, pieces.high), rel=1e-9)


def test_p_values_without_a_difference_are_roughly_uniform() -> None:
    rng = np.random.default_rng(0)
    p_values = [paired_bootstrap(*rng.normal(size=(2, 1, 40)), num_resamples=400).p_value for _ in range(200)]
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.11
    assert 0.4 <= np.mean(p_values) <= 0.6


@pytest.mark.parametrize("of_seeds", [0.0, 0.05, 1.0])
def test_three_seeds_that_differ_by_chance_are_rarely_significant(of_seeds: float) -> None:
    """Bootstrap percentiles would be significant whenever the three seeds agree in sign, in 1 of 4 cases."""
    rng, p_values = np.random.default_rng(7), []
    for _ in range(400):
        differences = of_seeds * rng.normal(size=(3, 1)) + rng.normal(size=(3, 50))
        p_values.append(paired_bootstrap(differences, np.zeros_like(differences), num_resamples=200).p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.06


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), r"must have one shape \(seeds, rows\), none 0, got \(2, 3\) and \(3, 3\)"),
        (np.zeros(3), np.zeros(3), r"got \(3,\) and \(3,\)"),
        (np.zeros((2, 0)), np.zeros((2, 0)), r"got \(2, 0\) and \(2, 0\)"),
        (np.full((1, 2), np.nan), np.zeros((1, 2)), "must be finite, got nan or inf"),
    ],
)
def test_the_bootstrap_refuses_invalid_input(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(a, b)


def test_comparisons_on_the_same_rows_share_their_resamples_but_not_their_seeds() -> None:
    """Equal row parts: their mean has the variance of one. Independent seed parts: their mean has half the variance."""
    rng = np.random.default_rng(6)
    row_part, seed_part = rng.normal(size=100), rng.normal(size=(2, 12)) / 2
    first, second = (row_part + part[:, None] for part in seed_part)
    resampled = resampled_differences([first, second])
    assert resampled.shape == (10_000, 2)
    assert resampled.var(axis=0) == pytest.approx([row_part.var() / 100] * 2, rel=0.06)
    together, apart = average_bootstrap([[first, second]]), average_bootstrap([[first], [second]])
    of_rows, of_seeds = row_part.var() / 100, seed_part.var(axis=1, ddof=1) / 12
    for test, row_parts in ((together, [of_rows]), (apart, [of_rows / 4] * 2)):
        half = behrens_fisher_half(*((part, 99) for part in row_parts), *((part / 4, 11) for part in of_seeds))
        assert test.high - test.low == pytest.approx(2 * half, rel=0.03)


def test_mean_and_deviation_by_hand() -> None:
    assert mean_and_deviation([2.0, 4.0, 9.0]) == pytest.approx((5.0, math.sqrt((9 + 1 + 16) / 2)))


def test_a_single_seed_has_no_deviation_and_no_interval() -> None:
    mean, deviation = mean_and_deviation([8.5])
    assert mean == 8.5
    assert math.isnan(deviation)
    assert all(math.isnan(end) for end in t_interval([8.5]))


def test_no_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="values must have at least 1 entry, got 0"):
        mean_and_deviation([])


def test_t_interval_by_a_table() -> None:
    # n = 3: t_{0.975, 2} = 4.3027 from the table, s = 1, s / sqrt(3) = 0.57735.
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9))
def test_t_interval_is_that_of_scipys_t_test(values: list[float]) -> None:
    values = [round(value, 3) for value in values]
    if np.ptp(values) > 0:
        low, high = t_interval(values)
        interval = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (low, high) == pytest.approx((interval.low, interval.high))


def test_holm_by_hand() -> None:
    # Sorted: 0.01 0.02 0.03 0.04. Times 4 3 2 1: 0.04 0.06 0.06 0.04. Cumulative maximum: 0.04 0.06 0.06 0.06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(PROBABILITY, min_size=1, max_size=8), st.randoms())
def test_holm_is_between_the_p_value_and_bonferroni_in_any_order(p_values: list[float], random: Random) -> None:
    adjusted = holm(p_values)
    for p, p_adjusted in zip(p_values, adjusted, strict=True):
        assert p <= p_adjusted <= min(1.0, len(p_values) * p)
    assert min(adjusted) == min(1.0, len(p_values) * min(p_values))
    order = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[i] for i in order]) == [adjusted[i] for i in order]


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_holm_refuses_values_outside_0_to_1(value: float) -> None:
    with pytest.raises(ValueError, match=r"p_values must be in \[0, 1\], got \[0\.5, "):
        holm([0.5, value])


# Folds


def test_the_corrected_t_test_by_hand() -> None:
    """Three folds with the differences 0.1, 0.3 and 0.5: s^2 = 0.04, corrected variance (1/3 + 1/2) 0.04 = 1/30.

    t of 2 degrees of freedom at 97.5% is 4.302653, and P(|t_2| > t) = 1 - t / sqrt(t^2 + 2).
    """
    folds = [np.full((2, 1_000), value) for value in (0.1, 0.3, 0.5)]
    test = corrected_t_test(folds)
    error = math.sqrt(1 / 30)
    t = 0.3 / error
    assert test.difference == pytest.approx(0.3)
    assert (test.low, test.high) == pytest.approx((0.3 - 4.302653 * error, 0.3 + 4.302653 * error))
    assert test.p_value == pytest.approx(1 - t / math.sqrt(t**2 + 2))


def test_the_corrected_t_test_averages_the_seeds_of_a_fold() -> None:
    rng = np.random.default_rng(0)
    folds = [rng.integers(-1, 2, size=(3, 40)).astype(np.float64) for _ in range(4)]
    averaged = [fold.mean(axis=0, keepdims=True) for fold in folds]
    assert corrected_t_test(folds) == corrected_t_test(averaged)


def test_equal_differences_in_small_folds_are_not_certain() -> None:
    """One of four rows in each of three folds: the rows have variance 1/4, so a fold has 1/16 at least."""
    test = corrected_t_test([np.array([[1.0, 0.0, 0.0, 0.0]])] * 3)
    assert test.high - test.low == pytest.approx(2 * 4.302653 * math.sqrt((1 / 3 + 1 / 2) / 16))
    assert 0.3 < test.p_value < 0.5


def test_without_any_difference_the_corrected_t_test_has_a_p_value_of_1() -> None:
    test = corrected_t_test([np.zeros((1, 5))] * 2)
    assert (test.difference, test.low, test.high, test.p_value) == (0, 0, 0, 1)


def test_the_corrected_t_test_needs_two_folds() -> None:
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        corrected_t_test([np.zeros((1, 5))])


def cross_validated(rng: np.random.Generator) -> list[npt.NDArray[np.float64]]:
    """Differences in five folds of 60 rows between least squares on one half of the features and on the other half.

    Both halves tell equally much about the class, so that neither is better on average.
    """
    labels = rng.choice([-1.0, 1.0], size=60)
    features = rng.normal(size=(2, 60, 10)) + 0.25 * labels[:, None]
    fold_of, folds = rng.permutation(60) % 5, []
    for fold in range(5):
        test = fold_of == fold
        weights = [np.linalg.lstsq(half[~test], labels[~test], rcond=None)[0] for half in features]
        wrong = [half[test] @ weight * labels[test] < 0 for half, weight in zip(features, weights, strict=True)]
        folds.append((wrong[0].astype(np.float64) - wrong[1])[None])
    return folds


def test_the_corrected_t_test_holds_its_level_where_a_test_of_the_pooled_rows_does_not() -> None:
    rng = np.random.default_rng(0)
    repeats = [cross_validated(rng) for _ in range(300)]
    pooled = [np.concatenate(folds, axis=1) for folds in repeats]
    of_pooled = [paired_bootstrap(rows, np.zeros_like(rows), num_resamples=300).p_value < 0.05 for rows in pooled]
    assert np.mean([corrected_t_test(folds).p_value < 0.05 for folds in repeats]) <= 0.05
    assert np.mean(of_pooled) > 0.07
