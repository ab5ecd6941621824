"""Verdict on a method against the baseline: difference of the errors, two paired tests, and one word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kr_text.experiments.results import Result
from kr_text.experiments.significance import (
    MeanTest,
    average_bootstrap,
    corrected_t_test,
    holm,
    mcnemar,
    mean_and_deviation,
    paired_bootstrap,
    t_interval,
)

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Spread:
    """Distribution of a metric over the seeds.

    Attributes:
        num_seeds: Number of seeds.
        mean: Mean.
        deviation: Sample standard deviation; nan for a single seed.
        low: Lower end of the 95% t-interval of the mean; nan for a single seed.
        high: Upper end.
    """

    num_seeds: int
    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A method's error minus the baseline's error, in percentage points. A negative difference favours the method.

    Attributes:
        num_seeds: Number of seeds that both have.
        difference: Mean difference over seeds and test rows.
        low: Lower end of its 95% interval, from a bootstrap over rows and seeds.
        high: Upper end.
        p_bootstrap: Two-sided p-value of the bootstrap.
        p_mcnemar: Two-sided p-value of McNemar's test on the pooled predictions of all seeds.
        p_value: The larger p-value; after `corrected`, Holm-corrected over all verdicts of a table.
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
        """The conclusion at the 5% level: "better", "worse" or "no difference shown"."""
        if not self.p_value < SIGNIFICANT:
            return "no difference shown"
        return "better" if self.difference < 0 else "worse"


@dataclass(frozen=True)
class Average:
    """Mean difference between a method and the baseline over several comparisons with equal weights, in points.

    Attributes:
        num_comparisons: Number of comparisons, each on one model and data set.
        difference: Mean of their differences.
        low: Lower end of its 95% interval, from a bootstrap over the test rows of each data set and over seeds. The
            comparisons are fixed: the interval does not extend to other data sets or models.
        high: Upper end.
    """

    num_comparisons: int
    difference: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and interval over seeds."""
    return Spread(len(values), *mean_and_deviation(values), *t_interval(values))


def against(method: Sequence[Result], baseline: Sequence[Result]) -> Verdict:
    """The verdict over the seeds that both have, on the same test rows, not corrected for other verdicts.

    Raises:
        ValueError: There is no common seed, or the test rows differ.
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


def over_folds(method: Sequence[Result], baseline: Sequence[Result]) -> MeanTest:
    """The test of the mean error difference over the folds of a cross-validation, as a share of the rows.

    Args:
        method: Results of one or more seeds in each fold.
        baseline: Results in the same folds.

    Raises:
        ValueError: There is no common seed, or the test rows differ.
    """
    differences = []
    for fold in dict.fromkeys(result.run.fold for result in method):
        of_fold = ([each for each in results if each.run.fold == fold] for results in (method, baseline))
        a, b = _paired(*of_fold)
        differences.append(b.astype(np.float64) - a)
    return corrected_t_test(differences)


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of a table with Holm-corrected p-values."""
    p_values = holm([verdict.p_value for verdict in verdicts])
    return [replace(verdict, p_value=p) for verdict, p in zip(verdicts, p_values, strict=True)]


def average(pairs: Sequence[tuple[Sequence[Result], Sequence[Result]]]) -> Average:
    """The mean difference over pairs of method and baseline. Pairs on one data set share each resample of its rows."""
    by_dataset: dict[str, list[npt.NDArray[np.float64]]] = {}
    for method, baseline in pairs:
        a, b = _paired(method, baseline)
        by_dataset.setdefault(method[0].run.dataset, []).append(b.astype(np.float64) - a)
    test = average_bootstrap(list(by_dataset.values()))
    return Average(len(pairs), 100 * test.difference, 100 * test.low, 100 * test.high)


def _paired(
    method: Sequence[Result], baseline: Sequence[Result]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Correctness of the test rows for both, (common seeds, rows)."""
    of_method, of_baseline = ({result.run.seed: result for result in results} for results in (method, baseline))
    seeds = sorted(of_method.keys() & of_baseline.keys())
    if not seeds:
        raise ValueError(
            f"method and baseline must have a seed in common, got {list(of_method)} and {list(of_baseline)}"
        )
    predictions = [results[seed].predictions() for results in (of_method, of_baseline) for seed in seeds]
    if len({(len(each.correct), each.labels_digest) for each in predictions}) > 1:
        raise ValueError(
            f"method and baseline must have the same test rows, got different rows for {method[0].run.name} and "
            f"{baseline[0].run.name}: train one of them again"
        )
    a, b = np.split(np.stack([each.correct for each in predictions]), 2)
    return a, b
