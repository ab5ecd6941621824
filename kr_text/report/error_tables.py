"""Tables that several sections share: test errors, verdicts, and mean differences."""

from collections.abc import Callable, Sequence

from kr_text.experiments.run import Run
from kr_text.experiments.verdicts import Verdict
from kr_text.formats.markdown import format_number
from kr_text.report.blocks import Block, Paragraph, Table
from kr_text.report.comparisons import Pair, against_ce, compared, shared_averages
from kr_text.report.paper_table3 import published_error
from kr_text.report.study import Cell, Study, places
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
    by_place = places(cells)
    where_names = [place_names(*methods) for methods in by_place.values()]
    headings: list[str] = []
    columns: list[list[str]] = []  # for each heading, a text for each place
    for name in names:
        headings.append(name)
        columns.append([_column_text(methods, name, column, words) for methods in by_place.values()])
        published = [published_error(where, name) for where in by_place]
        if beside_paper and any(error is not None for error in published):
            headings.append(f"paper: {name}")
            columns.append([NOTHING if error is None else format_number(error) for error in published])
    if len(names) > MAX_COLUMNS:
        rows = [(heading, *texts) for heading, texts in zip(headings, columns, strict=True)]
        return Table(ERROR_CAPTION, ("loss", *(f"{', '.join(each)} rows" for each in where_names)), tuple(rows))
    rows = [(*each, *texts) for each, *texts in zip(where_names, *columns, strict=True)]
    return Table(ERROR_CAPTION, (*PLACE_HEADINGS, *headings), tuple(rows))


def _column_text(methods: Sequence[Cell], name: str, column: Callable[[Run], str], words: dict[Run, str]) -> str:
    """The errors of a place in one column, separated by semicolons."""
    texts = [_error_text(cell, name, words) for cell in methods if column(cell.setting) == name]
    return "; ".join(texts) or NOTHING


def _error_text(cell: Cell, column: str, words: dict[Run, str]) -> str:
    """Error, interval, verdict if it shows a difference, and the settings if the column does not name them."""
    word = words.get(cell.setting, "")
    settings = loss_settings(cell.setting) if column == loss_alone(cell.setting) else ""
    numbers = ", ".join(filter(None, [spread_text(cell.error), interval_text(cell.error)]))
    shown = [numbers, word if word in ("better", "worse") else "", settings and f"at {settings}"]
    return " ".join(filter(None, shown))


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
    rows = [(*place_names(cell), loss_name(cell.setting), *verdict_texts(verdict)) for (cell, _), verdict in verdicts]
    caption = (
        f"Difference in test error from {baseline} over the seeds that both have; negative: the method is better. The "
        "interval is from a bootstrap over test rows and seeds with the Behrens-Fisher distribution, since a "
        "variance estimated from few seeds is uncertain. It is not corrected for multiple tests. p is the larger "
        "of the bootstrap's p and McNemar's p on the predictions of all seeds together (McNemar's test alone is too "
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
