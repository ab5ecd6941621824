"""How the report page words what it shows: names of settings, numbers with their spread, and counts of verdicts."""

import math
from collections.abc import Callable, Mapping, Sequence

from kr_text.experiments.results import Result
from kr_text.experiments.run import Run
from kr_text.experiments.verdicts import Average, Spread, Verdict
from kr_text.formats.markdown import Number, format_number
from kr_text.report.study import Cell

NOTHING = "–"  # noqa: RUF001 (an empty cell)
WORDS = ("better", "worse", "no difference shown")  # of a verdict
PLACE_HEADINGS = ("data set", "model", "training rows")


def loss_name(setting: Run) -> str:
    """The loss, as papers write it, with whatever is told it beside."""
    return " ".join(filter(None, [setting.loss.upper(), loss_settings(setting)]))


def loss_settings(setting: Run) -> str:
    """What the loss is told beside its name; nothing at the paper's settings."""
    rate = "" if setting.residual_learning_rate is None else f"learning rate of S={setting.residual_learning_rate:g}"
    teacher = "" if setting.teacher is None else f"teacher with {spaced(setting.teacher)}"
    return ", ".join(filter(None, [spaced(setting.loss_overrides or ""), rate, teacher]))


def spaced(overrides: str) -> str:
    """NAME=VALUE,NAME=VALUE with a space after each comma."""
    return ", ".join(part.strip() for part in overrides.split(","))


def model_name(setting: Run) -> str:
    """The model, with what is told it beside the recipe."""
    told = ", ".join(spaced(text) for text in (setting.config_overrides, setting.training) if text)
    return f"{setting.model} ({told})" if told else setting.model


def place_names(place: Run, results: Sequence[Result]) -> tuple[str, str, str]:
    """Data set, model and the number of training rows that these results of it had."""
    counts = sorted({result.report["dataset"]["num_train_rows"] for result in results})
    rows = ", ".join(f"{count:,}" for count in counts)
    return place.dataset, model_name(place), rows


def place_title(place: Run, results: Sequence[Result]) -> str:
    """The same in one line, as "ag_news, fasttext, 8,000 rows"."""
    dataset, model, rows = place_names(place, results)
    return f"{dataset}, {model}, {rows} rows"


def spread_text(spread: Spread, digits: int = 2) -> str:
    """Mean, deviation and number of seeds, as "8.42 ± 0.10 (10)"; no deviation of a single seed."""
    deviation = "" if math.isnan(spread.deviation) else f" ± {spread.deviation:.{digits}f}"
    return f"{format_number(spread.mean, digits)}{deviation} ({spread.num_seeds})"


def interval_text(spread: Spread) -> str:
    """The 95% interval of the mean over the seeds, as "8.35 to 8.49"; nothing of a single seed."""
    return "" if math.isnan(spread.low) else f"{spread.low:.2f} to {spread.high:.2f}"


def mean_text(cell: Cell, number: Callable[[Result], Number], digits: int = 3) -> str:
    """The mean of a number over the seeds; n/a where one is missing."""
    return format_number(cell.spread(number).mean, digits)


def verdict_texts(verdict: Verdict) -> tuple[str, str, str, str, str]:
    """Seeds, difference, interval, p and word."""
    p = "<0.001" if verdict.p_value < 0.001 else f"{verdict.p_value:.3f}"
    interval = f"{verdict.low:+.2f} to {verdict.high:+.2f}"
    return str(verdict.num_seeds), f"{verdict.difference:+.2f}", interval, p, verdict.word


def count_words(name: str, verdicts: Sequence[Verdict], baseline: str) -> str:
    """A sentence: how often a method is better, worse, or neither."""
    words = [verdict.word for verdict in verdicts]
    better, worse = words.count("better"), words.count("worse")
    cases = f"{len(words)} comparison{'s' * (len(words) > 1)} with {baseline}"
    neither = len(words) - better - worse
    return f"{name}: of {cases}, better in {better}, worse in {worse}, no difference shown in {neither}."


def word_counts(verdicts: Mapping[str, Sequence[Verdict]], baseline: str) -> str:
    """The same for several methods in short."""
    counts = []
    for name, those in verdicts.items():
        words = [verdict.word for verdict in those]
        counts.append(f"{name}: {'/'.join(str(words.count(word)) for word in WORDS)}")
    return f"Against {baseline}, {' / '.join(WORDS)} in so many comparisons. {'; '.join(counts)}."


def averages_text(averages: Mapping[str, Average], baseline: str) -> str:
    """What methods do on average over the same comparisons, with intervals."""
    texts = [f"{name}: {average_text(each)}" for name, each in averages.items()]
    num_comparisons = next(iter(averages.values())).num_comparisons
    return (
        f"Mean difference from {baseline}, in points, over the {num_comparisons} settings where all of these were run, "
        f"with a 95% interval for these data sets and models. {'; '.join(texts)}."
    )


def average_text(average: Average) -> str:
    """Difference and interval, as "-0.31 (-0.49 to -0.11)"."""
    return f"{average.difference:+.2f} ({average.low:+.2f} to {average.high:+.2f})"


def progress(finished: int, planned: int) -> str:
    """How many runs are finished."""
    return f"{finished:,} of {planned:,} runs are finished."
