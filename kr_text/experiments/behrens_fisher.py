"""Behrens-Fisher p-values and intervals of a mean whose variance is a sum of parts with few degrees of freedom each.

By hand, since scipy has only Welch's t-test, whose Satterthwaite degrees of freedom are an approximation that rejects
too often at small levels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.stats

LEVEL = 0.95  # of the intervals


class Part(NamedTuple):
    """One part of the variance of a mean.

    Attributes:
        variance: Estimated variance.
        freedom: Degrees of freedom of the estimate.
        least: Known lower bound of the true variance.
    """

    variance: float
    freedom: int
    least: float = 0.0


def possible_deviations(parts: Sequence[Part], *, num_draws: int, seed: int) -> npt.NDArray[np.float64]:
    """Draws standard deviations of a mean, (num_draws,), given the estimated variance of each part.

    The true variance of a part is distributed as s^2 nu / chi^2_nu, with its estimate s^2 and its degrees of freedom nu
    (Fisher 1935, "The fiducial argument in statistical inference"; the same as a posterior with the prior 1 / variance,
    Jeffreys 1940). The draws are stratified: one from each of `num_draws` intervals of equal probability, in random
    order, which is a Latin hypercube (McKay et al. 1979).
    """
    rng, total = np.random.default_rng(seed), np.zeros(num_draws)
    for part in parts:
        shares = (rng.permutation(num_draws) + 0.5) / num_draws
        drawn = max(part.variance, part.least) * part.freedom / scipy.stats.chi2.ppf(shares, max(1, part.freedom))
        total += np.maximum(drawn, part.least)
    return np.sqrt(total)


def p_value(difference: float, deviations: npt.NDArray[np.float64]) -> float:
    """Two-sided p-value of a normal difference, averaged over its possible standard deviations."""
    return float(np.mean(2 * scipy.stats.norm.sf(abs(difference) / deviations)))


def half_interval(deviations: npt.NDArray[np.float64]) -> float:
    """Half of the width of the 95% interval: the difference whose p-value is 5%."""
    end = float(deviations.mean())
    while p_value(end, deviations) > 1 - LEVEL:
        end *= 2
    return float(scipy.optimize.brentq(lambda half: p_value(half, deviations) - (1 - LEVEL), 0, end))
