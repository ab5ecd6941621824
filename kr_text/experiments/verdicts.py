"""A method against the baseline: mean and spread over seeds, two paired tests, and a word for what they show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kr_text.experiments.results import Result
from kr_text.experiments.significance import (
    average_bootstrap,
    holm,
    mcnemar,
    mean_and_deviation,
    paired_bootstrap,
    t_interval,
)

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Spread:
    """A metric over the seeds: mean, sample standard deviation, 95% t-interval of the mean; nan where seeds are few."""

    num_seeds: int
    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A method's error against the baseline's, in percentage points: below 0 the method is better.

    Attributes:
        num_seeds: that both have.
        difference: mean over seeds and test rows.
        low: lower end of its 95% interval, from a bootstrap over rows and seeds.
        high: upper end.
        p_bootstrap: two-sided, of that bootstrap.
        p_mcnemar: two-sided, of McNemar's test on the predictions of all seeds together.
        p_value: the larger of the two; after `corrected`, Holm's over all verdicts of a table.
    """

    num_seeds: int
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_mcnemar: float
    p_value: float

    @property
    def word(self) -> str:
        """What is shown at a level of 5%."""
        if not self.p_value < SIGNIFICANT:
            return "no difference shown"
        return "better" if self.difference < 0 else "worse"


@dataclass(frozen=True)
class Average:
    """What a method does on average over several comparisons with the baseline, each counted once, in points.

    Attributes:
        num_comparisons: models and data sets.
        difference: mean of their differences.
        low: lower end of its 95% interval, from a bootstrap over the test rows of each data set and over seeds. The
            comparisons are as given: nothing is said of other data sets or models.
        high: upper end.
    """

    num_comparisons: int
    difference: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Mean, deviation and interval over seeds."""
    return Spread(len(values), *mean_and_deviation(values), *t_interval(values))


def against(method: Sequence[Result], baseline: Sequence[Result]) -> Verdict:
    """The verdict over the seeds that both have, on the same test rows; not yet corrected for other verdicts.

    Raises:
        ValueError: no seed in common, or other test rows.
    """
    a, b = _paired(method, baseline)
    bootstrap, paired = paired_bootstrap(~a, ~b), mcnemar(a.ravel(), b.ravel())
    return Verdict(
        num_seeds=len(a),
        difference=100 * bootstrap.difference,
        low=100 * bootstrap.low,
        high=100 * bootstrap.high,
        p_bootstrap=bootstrap.p_value,
        p_mcnemar=paired.p_value,
        p_value=max(bootstrap.p_value, paired.p_value),
    )


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of a table with Holm's correction for how many they are."""
    p_values = holm([verdict.p_value for verdict in verdicts])
    return [replace(verdict, p_value=p) for verdict, p in zip(verdicts, p_values, strict=True)]


def average(pairs: Sequence[tuple[Sequence[Result], Sequence[Result]]]) -> Average:
    """The mean over pairs of method and baseline. Those of one data set share its test rows, in each resample too."""
    by_dataset: dict[str, list[npt.NDArray[np.float64]]] = {}
    for method, baseline in pairs:
        a, b = _paired(method, baseline)
        by_dataset.setdefault(method[0].run.dataset, []).append(b.astype(np.float64) - a)
    test = average_bootstrap(list(by_dataset.values()))
    return Average(len(pairs), 100 * test.difference, 100 * test.low, 100 * test.high)


def _paired(
    method: Sequence[Result], baseline: Sequence[Result]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether each has the test rows right: (seeds that both have, rows)."""
    of_method, of_baseline = ({result.run.seed: result for result in results} for results in (method, baseline))
    seeds = sorted(of_method.keys() & of_baseline.keys())
    if not seeds:
        raise ValueError(
            f"method and baseline must have a seed in common, got {list(of_method)} and {list(of_baseline)}"
        )
    predictions = [results[seed].predictions() for results in (of_method, of_baseline) for seed in seeds]
    if any(not np.array_equal(each.labels, predictions[0].labels) for each in predictions):
        raise ValueError(
            f"method and baseline must have the same test rows, got others for {method[0].run.name} and "
            f"{baseline[0].run.name}: train one of them anew"
        )
    a, b = np.split(np.stack([each.correct for each in predictions]), 2)
    return a, b
