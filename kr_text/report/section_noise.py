"""A section of the report page: training rows with wrong labels, what they do to the error, and which are found."""

import re
from collections.abc import Sequence

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.formats.markdown import Number
from kr_text.report.blocks import Block, Figure, Table
from kr_text.report.figures import Curve, Panel, curves
from kr_text.report.section_errors import error_blocks, with_baselines
from kr_text.report.study import Cell, Study, places
from kr_text.report.wording import NOTHING, PLACE_HEADINGS, loss_name, place_names, spread_text

NOISY = re.compile(r"(.+)_noise(\d+)")  # such a data set: what it is made of, and % of wrong training labels
RATE = "wrong training labels, %"


def wrong_label_table(cells: Sequence[Cell]) -> Table | None:
    """How well each loss finds the wrong labels among its training rows; None where no run has looked for any."""
    headings = list(dict.fromkeys(loss_name(cell.setting) for cell in cells))
    rows = []
    for where, those in places(cells).items():
        found = {loss_name(cell.setting): spread_text(cell.spread(_precision), 3) for cell in those if _searched(cell)}
        if found:
            chance = next(_chance(cell) for cell in those if _searched(cell))
            names = place_names(where, [result for cell in those for result in cell.results])
            rows.append((*names, f"{chance:.3f}", *(found.get(name, NOTHING) for name in headings)))
    caption = (
        "Finding wrong labels among the training rows, by the model that was trained on them: as many rows as have "
        "one, taken where the label has the least probability; the share of them that are wrong indeed, mean ± "
        "standard deviation over the seeds, whose number is in brackets. Chance is the share of wrong labels."
    )
    return Table(caption, (*PLACE_HEADINGS, "chance", *headings), tuple(rows)) if rows else None


def _searched(cell: Cell) -> bool:
    return all(result.line["wrong_labels"] and result.line["wrong_labels"]["num_wrong"] for result in cell.results)


def _precision(result: Result) -> Number:
    wrong = result.line["wrong_labels"]
    return wrong["precision"] if wrong else None


def _chance(cell: Cell) -> float:
    wrong = cell.results[0].line["wrong_labels"]
    return wrong["num_wrong"] / wrong["num_rows"] if wrong else np.nan


def noise_blocks(study: Study, grid: Grid) -> list[Block]:
    """Errors, as elsewhere, then by noise rate, and how well each loss finds the wrong labels."""
    cells = with_baselines(study, study.cells(grid))
    if not cells:
        return []
    return [*error_blocks(study, grid), *noise_figures(study, cells), *filter(None, [wrong_label_table(cells)])]


def noise_figures(study: Study, cells: Sequence[Cell]) -> list[Block]:
    """Error by noise rate, and what is left of it without CE's: a figure for each data set and model."""
    noisy: dict[tuple[str, str], list[tuple[int, Cell]]] = {}
    for cell in cells:
        if found := NOISY.fullmatch(cell.setting.dataset):
            noisy.setdefault((found[1], cell.setting.model), []).append((int(found[2]), cell))
    return [_noise_figure(study, dataset, model, shown) for (dataset, model), shown in noisy.items()]


def _noise_figure(study: Study, dataset: str, model: str, cells: Sequence[tuple[int, Cell]]) -> Figure:
    losses = list(dict.fromkeys(loss_name(cell.setting) for _, cell in cells))
    by_loss = {loss: sorted(_by_rate(cells, loss).items()) for loss in losses}
    errors = [_error_curve(loss, by_rate) for loss, by_rate in by_loss.items()]
    differences = [_difference_curve(study, loss, by_rate) for loss, by_rate in by_loss.items()]
    panels = [
        Panel("", RATE, "test error, %", errors),
        Panel("", RATE, "test error minus CE's, points", differences),
    ]
    name = f"noise-{dataset}-{model}"
    caption = (
        f"{dataset}, {model}: test error by the share of training labels that were exchanged at random. On the left "
        "the mean over the seeds, and a band of one standard deviation to each side; on the right the difference from "
        "CE, and its 95% interval."
    )
    alt = f"Lines over the noise rate for {', '.join(losses)} on {dataset}: test error, and its difference from CE's."
    return Figure(name, curves(panels, name), caption, alt)


def _by_rate(cells: Sequence[tuple[int, Cell]], loss: str) -> dict[int, Cell]:
    return {rate: cell for rate, cell in cells if loss_name(cell.setting) == loss}


def _error_curve(loss: str, by_rate: Sequence[tuple[int, Cell]]) -> Curve:
    y = np.array([cell.error.mean for _, cell in by_rate])
    deviation = np.nan_to_num([cell.error.deviation for _, cell in by_rate])  # of a single seed there is none
    return Curve(loss, [rate for rate, _ in by_rate], list(y), list(y - deviation), list(y + deviation))


def _difference_curve(study: Study, loss: str, by_rate: Sequence[tuple[int, Cell]]) -> Curve:
    found = [(rate, study.verdict(cell, study.baseline(cell.setting))) for rate, cell in by_rate]
    points = [(rate, each.difference, each.low, each.high) for rate, each in found if each]
    x, y, low, high = ([point[k] for point in points] for k in range(4))
    return Curve(loss, x, y, low, high)
