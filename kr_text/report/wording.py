"""Wording of the report page: names of settings, numbers with their spread, and counts of verdicts."""

import math
from collections.abc import Callable, Mapping, Sequence

from kr_text.experiments.results import Result
from kr_text.experiments.run import Run
from kr_text.experiments.verdicts import Average, Spread, Verdict
from kr_text.formats.markdown import Number, format_number, format_p_value
from kr_text.report.study import Cell, place

NOTHING = "–"  # noqa: RUF001 (an empty cell)
WORDS = ("better", "worse", "no difference shown")  # of a verdict
PLACE_HEADINGS = ("data set", "model", "training rows")


def loss_name(setting: Run) -> str:
    """Name of the loss in capitals, followed by its settings."""
    return " ".join(filter(None, [loss_alone(setting), loss_settings(setting)]))


def loss_alone(setting: Run) -> str:
    """Name of the loss in capitals, without its settings."""
    return setting.loss.upper()


def loss_settings(setting: Run) -> str:
    """Settings of the loss that differ from its defaults; empty without any."""
    rate = "" if setting.residual_learning_rate is None else f"learning rate of S={setting.residual_learning_rate:g}"
    teacher = "" if setting.teacher is None else f"teacher with {spaced(setting.teacher)}"
    return ", ".join(filter(None, [spaced(setting.loss_overrides or ""), rate, teacher]))


def spaced(overrides: str) -> str:
    """NAME=VALUE,NAME=VALUE with a space after each comma."""
    return ", ".join(part.strip() for part in overrides.split(","))


def model_name(setting: Run) -> str:
    """Name of the model, followed by its overrides in brackets."""
    overrides = ", ".join(spaced(text) for text in (setting.config_overrides, setting.training) if text)
    return f"{setting.model} ({overrides})" if overrides else setting.model


def place_names(*cells: Cell) -> tuple[str, str, str]:
    """Data set, model and number of training rows of cells at the same place."""
    where = place(cells[0].setting)
    counts = sorted({result.report["dataset"]["num_train_rows"] for cell in cells for result in cell.results})
    rows = ", ".join(f"{count:,}" for count in counts)
    return where.dataset, model_name(where), rows


def place_title(*cells: Cell) -> str:
    """The place of cells on one line, as in "ag_news, fasttext, 8,000 rows"."""
    dataset, model, rows = place_names(*cells)
    return f"{dataset}, {model}, {rows} rows"


def spread_text(spread: Spread, digits: int = 2) -> str:
    """Mean, standard deviation and number of seeds, as in "8.42 ± 0.10 (10)"; a single seed has no deviation."""
    deviation = "" if math.isnan(spread.deviation) else f" ± {spread.deviation:.{digits}f}"
    return f"{format_number(spread.mean, digits)}{deviation} ({spread.num_seeds})"


def interval_text(spread: Spread) -> str:
    """95% interval of the mean over the seeds, as in "8.35 to 8.49"; empty for a single seed."""
    return "" if math.isnan(spread.low) else f"{spread.low:.2f} to {spread.high:.2f}"


def mean_text(cell: Cell, number: Callable[[Result], Number], digits: int = 3) -> str:
    """Mean of a number over the seeds; "n/a" if a seed has no number."""
    return format_number(cell.spread(number).mean, digits)


def verdict_texts(verdict: Verdict) -> tuple[str, str, str, str, str]:
    """Number of seeds, difference, interval, p-value and word of a verdict."""
    p = format_p_value(verdict.p_value, digits=3)
    interval = f"{verdict.low:+.2f} to {verdict.high:+.2f}"
    return str(verdict.num_seeds), f"{verdict.difference:+.2f}", interval, p, verdict.word


def count_words(name: str, verdicts: Sequence[Verdict], baseline: str) -> str:
    """A sentence with the number of comparisons in which a method is better, worse or neither."""
    better, worse, neither = _counts(verdicts)
    cases = f"{len(verdicts)} comparison{'s' * (len(verdicts) > 1)} with {baseline}"
    return f"{name}: better in {better}, worse in {worse}, no difference shown in {neither} of {cases}."


def word_counts(verdicts: Mapping[str, Sequence[Verdict]], baseline: str) -> str:
    """The counts of `count_words` in short form, for several methods."""
    counts = [f"{name}: {'/'.join(map(str, _counts(of_name)))}" for name, of_name in verdicts.items()]
    return f"Number of comparisons with {baseline}, as {' / '.join(WORDS)}. {'; '.join(counts)}."


def _counts(verdicts: Sequence[Verdict]) -> list[int]:
    words = [verdict.word for verdict in verdicts]
    return [words.count(word) for word in WORDS]


def averages_text(averages: Mapping[str, Average], baseline: str) -> str:
    """A sentence with the mean difference of each method and its interval."""
    texts = [f"{name}: {average_text(each)}" for name, each in averages.items()]
    num_comparisons = next(iter(averages.values())).num_comparisons
    return (
        f"Mean difference from {baseline} in percentage points (95% interval for these data sets and models), over the "
        f"{num_comparisons} settings that all of these methods have. {'; '.join(texts)}."
    )


def average_text(average: Average) -> str:
    """Mean difference and interval, as in "-0.31 (-0.49 to -0.11)"."""
    return f"{average.difference:+.2f} ({average.low:+.2f} to {average.high:+.2f})"


def progress(finished: int, planned: int) -> str:
    """A sentence with the number of finished runs."""
    return f"{finished:,} of {planned:,} runs are finished."
