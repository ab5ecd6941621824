import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from kr_text.experiments.behrens_fisher import Part, half_interval, p_value, possible_deviations

# Two-sided 5% points of the Behrens-Fisher distribution: Sukhatme (1938, Sankhya 4, 39-48), reprinted in
# Fisher & Yates, "Statistical Tables for Biological, Agricultural and Medical Research". By (nu_1, nu_2), at the angles
# theta of 0, 15, ..., 90 degrees with tan(theta) = s_1 / s_2, the ratio of the two standard errors.
SUKHATME = {
    (6, 6): (2.447, 2.440, 2.435, 2.435, 2.435, 2.440, 2.447),
    (6, 8): (2.306, 2.310, 2.331, 2.364, 2.398, 2.430, 2.447),
    (6, 12): (2.179, 2.193, 2.239, 2.301, 2.367, 2.423, 2.447),
    (6, 24): (2.064, 2.088, 2.156, 2.247, 2.342, 2.418, 2.447),
    (6, math.inf): (1.960, 1.993, 2.082, 2.201, 2.322, 2.413, 2.447),
    (8, 8): (2.306, 2.300, 2.294, 2.292, 2.294, 2.300, 2.306),
    (8, 12): (2.179, 2.183, 2.201, 2.229, 2.262, 2.292, 2.306),
    (8, 24): (2.064, 2.077, 2.118, 2.175, 2.236, 2.287, 2.306),
    (12, 12): (2.179, 2.175, 2.169, 2.167, 2.169, 2.175, 2.179),
    (24, 24): (2.064, 2.062, 2.058, 2.056, 2.058, 2.062, 2.064),
}
ENTRIES = [(nu_1, nu_2, 15 * place, point) for (nu_1, nu_2), row in SUKHATME.items() for place, point in enumerate(row)]


def exact_p_value(point: float, nu_1: float, nu_2: float, theta: float) -> float:
    """P(|t_1 sin(theta) + t_2 cos(theta)| > point) for independent t variables, by numerical integration over t_1."""

    def given(t_1: float) -> float:
        low, high = ((end - t_1 * math.sin(theta)) / math.cos(theta) for end in (-point, point))
        inside = scipy.stats.t.cdf(high, nu_2) - scipy.stats.t.cdf(low, nu_2)
        return float((1 - inside) * scipy.stats.t.pdf(t_1, nu_1))

    return float(scipy.integrate.quad(given, -60, 60, points=[0], limit=400)[0])


def parts(nu_1: float, nu_2: float, theta: float) -> list[Part]:
    """The variance of a difference of two means with the standard errors sin(theta) and cos(theta)."""
    freedoms = (10**7 if math.isinf(nu) else int(nu) for nu in (nu_1, nu_2))
    return [Part(side**2, nu) for side, nu in zip((math.sin(theta), math.cos(theta)), freedoms, strict=True)]


@pytest.mark.parametrize(("nu_1", "nu_2", "degrees", "point"), ENTRIES)
def test_the_interval_has_the_published_5_percent_points(nu_1: float, nu_2: float, degrees: int, point: float) -> None:
    deviations = possible_deviations(parts(nu_1, nu_2, math.radians(degrees)), num_draws=10_000, seed=0)
    assert half_interval(deviations) == pytest.approx(point, abs=0.004)
    assert p_value(point, deviations) == pytest.approx(0.05, abs=4e-4)


@pytest.mark.parametrize(("nu_1", "nu_2", "degrees", "point"), [entry for entry in ENTRIES if 0 < entry[2] < 90])
def test_the_published_points_agree_with_numerical_integration(
    nu_1: float, nu_2: float, degrees: int, point: float
) -> None:
    """The points are rounded to 0.001, which is less than 0.0002 in the p-value."""
    assert exact_p_value(point, nu_1, nu_2, math.radians(degrees)) == pytest.approx(0.05, abs=2e-4)


@pytest.mark.parametrize("nu", [1, 2, 5, 30])
@pytest.mark.parametrize("difference", [0.5, 2.0, 4.0])
def test_a_single_part_gives_students_t_test(nu: int, difference: float) -> None:
    deviations = possible_deviations([Part(1.0, nu)], num_draws=10_000, seed=0)
    assert p_value(difference, deviations) == pytest.approx(2 * scipy.stats.t.sf(difference, nu), abs=1e-4)


def test_a_variance_is_never_below_its_lower_bound() -> None:
    deviations = possible_deviations([Part(0.5, 2, least=2.0)], num_draws=1000, seed=0)
    assert deviations.min() == pytest.approx(math.sqrt(2))


def test_more_degrees_of_freedom_give_a_shorter_interval_down_to_the_normal_one() -> None:
    halves = [half_interval(possible_deviations([Part(1.0, nu)], num_draws=2000, seed=0)) for nu in (1, 3, 10, 10**7)]
    assert halves == sorted(halves, reverse=True)
    assert halves[-1] == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_a_difference_by_chance_is_rare_at_a_corrected_level_too(num_seeds: int) -> None:
    """Level 0.001, variances of 1 over seeds and 0.3 over rows. Satterthwaite's test would find 9 and 3 times as many.

    20 of 20,000 cases are expected, with a standard deviation of about sqrt(20).
    """
    rng, level, found = np.random.default_rng(num_seeds), 1e-3, 0
    differences = math.sqrt(1.3) * rng.normal(size=20_000)
    of_seeds = rng.chisquare(num_seeds - 1, 20_000) / (num_seeds - 1)
    for difference, variance in zip(differences, of_seeds, strict=True):
        if abs(difference) > 3 * math.sqrt(0.3 + variance):  # smaller differences are not significant at this level
            deviations = possible_deviations([Part(0.3, 7599), Part(variance, num_seeds - 1)], num_draws=2000, seed=0)
            found += p_value(difference, deviations) < level
    assert found <= 20 + 3 * math.sqrt(20)
