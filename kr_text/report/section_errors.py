"""Sections of the report page: test errors, what each loss does to that of cross-entropy, and the paper's numbers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from kr_text.experiments.grids import Grid
from kr_text.experiments.run import Run
from kr_text.experiments.verdicts import Average, Verdict, average, corrected
from kr_text.report.blocks import Block, Paragraph, Table
from kr_text.report.study import Cell, Study, place, places
from kr_text.report.wording import (
    NOTHING,
    PLACE_HEADINGS,
    averages_text,
    interval_text,
    loss_name,
    loss_settings,
    place_names,
    spread_text,
    verdict_texts,
    word_counts,
)

PAPER = {  # Table 3 of the paper, test error in %: cross-entropy, KR-LS
    ("ag_news", "fasttext"): (11.03, 10.87),
    ("ag_news", "textrnn"): (11.15, 10.43),
    ("ag_news", "charcnn"): (14.22, 12.09),
    ("ag_news", "transformer"): (10.49, 9.71),
    ("yahoo_answers", "fasttext"): (29.42, 28.75),
    ("yahoo_answers", "textrnn"): (31.13, 29.67),
    ("yahoo_answers", "charcnn"): (29.76, 28.50),
    ("yahoo_answers", "transformer"): (29.03, 28.76),
    ("yelp_review_full", "fasttext"): (40.66, 40.02),
    ("yelp_review_full", "textrnn"): (42.81, 41.99),
    ("yelp_review_full", "charcnn"): (39.28, 39.02),
    ("yelp_review_full", "transformer"): (38.50, 37.68),
}
PAPER_LOSSES = ("CE", "KR-LS")
COMPARED_HEADINGS = ("seeds", "difference, points", "95% interval", "p (Holm)", "verdict")
ERROR_CAPTION = (
    "Test error in %: mean ± standard deviation over the seeds, whose number is in brackets, and the 95% interval of "
    "the mean (Student's t over the seeds); better or worse than CE where the next table shows a difference. "
    f"{NOTHING}: not run."
)
DEFAULTS = "the same loss at its defaults"
MAX_COLUMNS = 6  # of losses, side by side
Pair = tuple[Cell, Cell]  # a method and what it is compared with


def error_blocks(study: Study, grid: Grid) -> list[Block]:
    """Errors by place and loss, and what each loss does to the error of cross-entropy."""
    return _errors(study, with_baselines(study, study.cells(grid)), loss_name)


def softening_blocks(study: Study, grid: Grid) -> list[Block]:
    """The same with the mean difference of each loss."""
    cells = with_baselines(study, study.cells(grid))
    return [*_errors(study, cells, loss_name), *average_blocks(study, against_ce(study, cells), "CE")]


def table3_blocks(study: Study, grid: Grid) -> list[Block]:
    """The same beside the paper's numbers."""
    cells = with_baselines(study, study.cells(grid))
    errors = _errors(study, cells, loss_name, beside_paper=True)
    return errors + average_blocks(study, against_ce(study, cells), "CE")


def chosen_blocks(study: Study, grid: Grid) -> list[Block]:
    """The same with a column for each loss, whose settings, chosen for each place, stand in the cells."""
    cells = with_baselines(study, study.cells(grid))
    errors = _errors(study, cells, loss_alone, beside_paper=True)
    errors += average_blocks(study, against_ce(study, cells), "CE", loss_alone)
    return errors + verdict_blocks(study, against_defaults(study, cells), DEFAULTS, loss_alone)


def defaults_blocks(study: Study, grid: Grid) -> list[Block]:
    """The same with each loss's defaults beside it, and each setting against these."""
    cells = study.cells(grid)
    pairs = against_defaults(study, cells)
    defaults = dict.fromkeys(default for _, default in pairs)
    errors = _errors(study, with_baselines(study, [*defaults, *cells]), loss_name)
    return errors + verdict_blocks(study, pairs, DEFAULTS) + average_blocks(study, pairs, DEFAULTS)


def loss_alone(setting: Run) -> str:
    """The loss, whatever is told it beside."""
    return setting.loss.upper()


def against_defaults(study: Study, cells: Sequence[Cell]) -> list[Pair]:
    """Each cell with the same loss at its defaults, where that was run and is another run."""
    pairs = [
        (cell, study.cell(replace(cell.setting, loss_overrides=None, residual_learning_rate=None))) for cell in cells
    ]
    return [(cell, default) for cell, default in pairs if default.results and cell.setting.key != default.setting.key]


def with_baselines(study: Study, cells: Sequence[Cell]) -> list[Cell]:
    """The cells of each place with cross-entropy first."""
    found: list[Cell] = []
    for where, those in places(cells).items():
        baseline = study.baseline(where)
        found += [cell for cell in dict.fromkeys([baseline, *those]) if cell.results]
    return found


def _errors(
    study: Study, cells: Sequence[Cell], column: Callable[[Run], str], *, beside_paper: bool = False
) -> list[Block]:
    if not cells:
        return []
    pairs = against_ce(study, cells)
    words = {pair[0].setting: verdict.word for pair, verdict in compared(study, pairs)}
    return [error_table(cells, column, words, beside_paper), *verdict_blocks(study, pairs, "CE", column)]


def error_table(
    cells: Sequence[Cell], column: Callable[[Run], str], words: dict[Run, str], beside_paper: bool
) -> Table:
    """Errors by place (down) and column (across), with the verdict where there is a difference.

    Many columns become rows, and the places columns.
    """
    columns = list(dict.fromkeys(column(cell.setting) for cell in cells))
    published = PAPER_LOSSES if beside_paper and any(_published(cell.setting) for cell in cells) else ()
    headings = [part for name in columns for part in (name, f"paper: {name}")[: 1 + (name in published)]]
    names: list[tuple[str, ...]] = []
    errors: list[list[str]] = []
    for where, those in places(cells).items():
        names.append(place_names(where, [result for cell in those for result in cell.results]))
        errors.append([])
        for name in columns:
            found = [_error_text(cell, name, words) for cell in those if column(cell.setting) == name]
            errors[-1] += ["; ".join(found) or NOTHING, *([_paper_text(where, name)] if name in published else [])]
    if len(columns) > MAX_COLUMNS:
        rows = [(heading, *texts) for heading, *texts in zip(headings, *errors, strict=True)]
        return Table(ERROR_CAPTION, ("loss", *(f"{', '.join(each)} rows" for each in names)), tuple(rows))
    rows = [(*each, *texts) for each, texts in zip(names, errors, strict=True)]
    return Table(ERROR_CAPTION, (*PLACE_HEADINGS, *headings), tuple(rows))


def _error_text(cell: Cell, column: str, words: dict[Run, str]) -> str:
    word = words.get(cell.setting, "")
    settings = loss_settings(cell.setting) if column == cell.setting.loss.upper() else ""
    numbers = ", ".join(filter(None, [spread_text(cell.error), interval_text(cell.error)]))
    shown = [numbers, word if word in ("better", "worse") else "", settings and f"at {settings}"]
    return " ".join(filter(None, shown))


def _published(where: Run) -> tuple[float, float] | None:
    return PAPER.get((where.dataset, where.model))


def _paper_text(where: Run, loss: str) -> str:
    published = _published(where)
    return f"{published[PAPER_LOSSES.index(loss)]:.2f}" if published else NOTHING


def against_ce(study: Study, cells: Sequence[Cell]) -> list[Pair]:
    """Each cell with its baseline, but for baselines."""
    pairs = [(cell, study.baseline(cell.setting)) for cell in cells]
    return [(cell, baseline) for cell, baseline in pairs if cell is not baseline]


def compared(study: Study, pairs: Sequence[Pair]) -> list[tuple[Pair, Verdict]]:
    """The verdicts of the pairs that have two seeds in common, corrected for how many they are."""
    found = [(pair, verdict) for pair in pairs if (verdict := study.verdict(*pair))]
    verdicts = corrected([verdict for _, verdict in found])
    return [(pair, verdict) for (pair, _), verdict in zip(found, verdicts, strict=True)]


def verdict_blocks(
    study: Study, pairs: Sequence[Pair], baseline: str, name: Callable[[Run], str] = loss_name
) -> list[Block]:
    """How often a method, by its name, is better or worse, and the table where that is counted."""
    verdicts = compared(study, pairs)
    if not verdicts:
        return []
    by_name: dict[str, list[Verdict]] = {}
    for (cell, _), verdict in verdicts:
        by_name.setdefault(name(cell.setting), []).append(verdict)
    rows = [
        (*place_names(place(cell.setting), cell.results), loss_name(cell.setting), *verdict_texts(verdict))
        for (cell, _), verdict in verdicts
    ]
    caption = (
        f"Error minus that of {baseline} over the seeds that both have: below 0 the method is better. The interval is "
        "that of a bootstrap over test rows and seeds, with the distribution of Behrens and Fisher, since few seeds "
        "tell little of their variance; it is of each line by itself. p is the larger of its and of McNemar's test on "
        "the predictions of all seeds together (by itself too sure), with Holm's correction for the "
        f"{len(rows)} lines of the table, and so is the verdict: an interval without 0 alone shows no difference."
    )
    return [
        Paragraph(word_counts(by_name, baseline)),
        Table(caption, (*PLACE_HEADINGS, "loss", *COMPARED_HEADINGS), tuple(rows)),
    ]


def average_blocks(
    study: Study, pairs: Sequence[Pair], baseline: str, name: Callable[[Run], str] = loss_name
) -> list[Block]:
    """The mean difference of each method, by its name, where there are several places to take it over."""
    means = shared_averages(study, pairs, name)
    return [Paragraph(averages_text(means, baseline))] if means else []


def shared_averages(study: Study, pairs: Sequence[Pair], name: Callable[[Run], str] = loss_name) -> dict[str, Average]:
    """The mean difference of each method, by its name, over the places where all of them have a verdict.

    A method that has no more than half of the places of another is left out. Nothing where there is one place at most.
    """
    by_name: dict[str, dict[Run, Pair]] = {}
    for pair in pairs:
        if study.verdict(*pair):
            by_name.setdefault(name(pair[0].setting), {})[place(pair[0].setting)] = pair
    most = max(map(len, by_name.values()), default=0)
    by_name = {method: those for method, those in by_name.items() if 2 * len(those) > most}
    shared = [where for where in next(iter(by_name.values()), {}) if all(where in those for those in by_name.values())]
    if len(shared) < 2:
        return {}
    return {
        method: average([(those[where][0].results, those[where][1].results) for where in shared])
        for method, those in by_name.items()
    }
