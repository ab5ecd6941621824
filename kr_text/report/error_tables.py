"""Tables that several sections share: test errors, verdicts, and mean differences."""

from collections.abc import Callable, Sequence

from kr_text.experiments.run import Run
from kr_text.experiments.verdicts import Verdict
from kr_text.formats.markdown import format_number
from kr_text.report.blocks import Block, Paragraph, Table
from kr_text.report.comparisons import Pair, against_ce, compared, shared_averages
from kr_text.report.paper_table3 import published_error
from kr_text.report.study import Cell, Study, place, places
from kr_text.report.wording import (
    NOTHING,
    PLACE_HEADINGS,
    averages_text,
    interval_text,
    loss_alone,
    loss_name,
    loss_settings,
    place_names,
    spread_text,
    verdict_texts,
    word_counts,
)

VERDICT_HEADINGS = ("seeds", "difference, points", "95% interval", "p (Holm)", "verdict")
ERROR_CAPTION = (
    "Test error in %: mean ± standard deviation over the seeds (number of seeds), then the 95% interval of the mean "
    "(Student's t over the seeds). A cell says better or worse if the next table shows a difference from CE. "
    f"{NOTHING}: not run."
)
MAX_COLUMNS = 6  # losses side by side


def error_and_verdict_blocks(
    study: Study, cells: Sequence[Cell], column: Callable[[Run], str] = loss_name, *, beside_paper: bool = False
) -> list[Block]:
    """The error table, the counts of the verdicts against cross-entropy, and the verdict table.

    Args:
        study: Results.
        cells: Cells to show, as from `with_baselines`.
        column: Name of the column of a setting.
        beside_paper: Whether to show the paper's numbers.
    """
    if not cells:
        return []
    pairs = against_ce(study, cells)
    words = {pair[0].setting: verdict.word for pair, verdict in compared(study, pairs)}
    return [error_table(cells, column, words, beside_paper), *verdict_blocks(study, pairs, "CE", column)]


def error_table(
    cells: Sequence[Cell], column: Callable[[Run], str], words: dict[Run, str], beside_paper: bool
) -> Table:
    """Test errors by place (rows) and by loss (columns); transposed if there are more than `MAX_COLUMNS` columns."""
    names = list(dict.fromkeys(column(cell.setting) for cell in cells))
    published = {name for name in names if any(published_error(cell.setting, name) is not None for cell in cells)}
    columns = [(name, paper) for name in names for paper in (False, True)[: 1 + (beside_paper and name in published)]]
    headings = [f"paper: {name}" if paper else name for name, paper in columns]
    where_names, errors = [], []
    for where, methods in places(cells).items():
        where_names.append(place_names(where, [result for cell in methods for result in cell.results]))
        errors.append(
            [
                _paper_text(where, name)
                if paper
                else "; ".join(_error_text(cell, name, words) for cell in methods if column(cell.setting) == name)
                or NOTHING
                for name, paper in columns
            ]
        )
    if len(names) > MAX_COLUMNS:
        rows = [(heading, *texts) for heading, *texts in zip(headings, *errors, strict=True)]
        return Table(ERROR_CAPTION, ("loss", *(f"{', '.join(each)} rows" for each in where_names)), tuple(rows))
    rows = [(*each, *texts) for each, texts in zip(where_names, errors, strict=True)]
    return Table(ERROR_CAPTION, (*PLACE_HEADINGS, *headings), tuple(rows))


def _error_text(cell: Cell, column: str, words: dict[Run, str]) -> str:
    """Error, interval, verdict if it shows a difference, and the settings if the column does not name them."""
    word = words.get(cell.setting, "")
    settings = loss_settings(cell.setting) if column == loss_alone(cell.setting) else ""
    numbers = ", ".join(filter(None, [spread_text(cell.error), interval_text(cell.error)]))
    shown = [numbers, word if word in ("better", "worse") else "", settings and f"at {settings}"]
    return " ".join(filter(None, shown))


def _paper_text(where: Run, loss: str) -> str:
    error = published_error(where, loss)
    return NOTHING if error is None else format_number(error)


def verdict_blocks(
    study: Study, pairs: Sequence[Pair], baseline: str, name: Callable[[Run], str] = loss_name
) -> list[Block]:
    """The number of better and worse comparisons by method, and the table of the verdicts.

    Args:
        study: Results.
        pairs: Methods with their baselines.
        baseline: Name of the baseline in the text.
        name: Name under which a setting is counted.
    """
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
        f"Difference in test error from {baseline} over the seeds that both have; negative: the method is better. The "
        "interval is from a bootstrap over test rows and seeds with the Behrens-Fisher distribution, because a few "
        "seeds determine their variance poorly; it is not corrected for multiple tests. p is the larger of the "
        "bootstrap's p and McNemar's p on the predictions of all seeds together (McNemar's test alone is too "
        f"confident), with Holm's correction for the {len(rows)} lines of the table. The verdict follows p, so an "
        "interval without 0 does not by itself show a difference."
    )
    return [
        Paragraph(word_counts(by_name, baseline)),
        Table(caption, (*PLACE_HEADINGS, "loss", *VERDICT_HEADINGS), tuple(rows)),
    ]


def average_blocks(
    study: Study, pairs: Sequence[Pair], baseline: str, name: Callable[[Run], str] = loss_name
) -> list[Block]:
    """The mean difference of each method over the places that all methods share; nothing without such places."""
    means = shared_averages(study, pairs, name)
    return [Paragraph(averages_text(means, baseline))] if means else []
