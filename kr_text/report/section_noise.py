"""Section of the report page on wrong training labels: their effect on the error, and how many of them are found."""

import re
from collections.abc import Sequence

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.formats.markdown import Number
from kr_text.report.blocks import Block, Figure, Table, slug
from kr_text.report.comparisons import with_baselines
from kr_text.report.figures import Curve, Panel, curves
from kr_text.report.section_errors import error_blocks
from kr_text.report.study import Cell, Study, places
from kr_text.report.wording import NOTHING, PLACE_HEADINGS, loss_name, place_names, spread_text

NOISY = re.compile(r"(.+)_noise(\d+)")  # name of a noisy data set: clean data set, and % of wrong training labels
RATE = "wrong training labels, %"


def noise_blocks(study: Study, grid: Grid) -> list[Block]:
    """Test errors as tables and by noise rate, and the share of wrong labels that each loss finds."""
    cells = with_baselines(study, study.cells(grid))
    if not cells:
        return []
    figures = noise_figures(study, cells, grid.name)
    return [*error_blocks(study, grid), *figures, *filter(None, [wrong_label_table(cells)])]


def wrong_label_table(cells: Sequence[Cell]) -> Table | None:
    """Precision of each loss in finding wrong training labels; None if no run searched for them."""
    headings = list(dict.fromkeys(loss_name(cell.setting) for cell in cells))
    rows = []
    for at_place in places(cells).values():
        searched = [cell for cell in at_place if _searched(cell)]
        if searched:
            found = {loss_name(cell.setting): spread_text(cell.spread(_precision), 3) for cell in searched}
            names = place_names(*at_place)
            rows.append((*names, f"{_chance(searched[0]):.3f}", *(found.get(name, NOTHING) for name in headings)))
    caption = (
        "Detection of wrong training labels with the trained model. If n rows have a wrong label, "
        "the n rows whose label has the lowest probability are taken; the table shows the share of them whose label is "
        "wrong: mean ± standard deviation over the seeds (number of seeds). Chance is the share of wrong labels in all "
        "training rows."
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


def noise_figures(study: Study, cells: Sequence[Cell], name: str) -> list[Figure]:
    """Test error and its difference from cross-entropy by noise rate, one figure per data set and model.

    Args:
        study: Results.
        cells: Cells on any data sets; only noisy ones are drawn.
        name: Start of the figures' names.
    """
    noisy: dict[tuple[str, str], list[tuple[int, Cell]]] = {}
    for cell in cells:
        if found := NOISY.fullmatch(cell.setting.dataset):
            noisy.setdefault((found[1], cell.setting.model), []).append((int(found[2]), cell))
    return [_noise_figure(study, *key, shown, slug(name, *key)) for key, shown in noisy.items()]


def _noise_figure(study: Study, dataset: str, model: str, cells: Sequence[tuple[int, Cell]], name: str) -> Figure:
    losses = list(dict.fromkeys(loss_name(cell.setting) for _, cell in cells))
    by_loss = {loss: sorted(_by_rate(cells, loss).items()) for loss in losses}
    errors = [_error_curve(loss, by_rate) for loss, by_rate in by_loss.items()]
    differences = [_difference_curve(study, loss, by_rate) for loss, by_rate in by_loss.items()]
    panels = [
        Panel("", RATE, "test error, %", errors),
        Panel("", RATE, "test error minus CE's, points", differences),
    ]
    caption = (
        f"{dataset}, {model}: test error by the share of training labels that were replaced at random. Left: mean over "
        "the seeds, with a band of one standard deviation on each side. Right: difference from CE, with its 95% "
        "interval."
    )
    alt = f"Lines over the noise rate for {', '.join(losses)} on {dataset}: test error, and its difference from CE's."
    return Figure(name, curves(panels, name), caption, alt)


def _by_rate(cells: Sequence[tuple[int, Cell]], loss: str) -> dict[int, Cell]:
    return {rate: cell for rate, cell in cells if loss_name(cell.setting) == loss}


def _error_curve(loss: str, by_rate: Sequence[tuple[int, Cell]]) -> Curve:
    y = np.array([cell.error.mean for _, cell in by_rate])
    deviation = np.nan_to_num([cell.error.deviation for _, cell in by_rate])  # nan for a single seed
    return Curve(loss, [rate for rate, _ in by_rate], list(y), list(y - deviation), list(y + deviation))


def _difference_curve(study: Study, loss: str, by_rate: Sequence[tuple[int, Cell]]) -> Curve:
    found = [(rate, study.verdict(cell, study.baseline(cell.setting))) for rate, cell in by_rate]
    points = [(rate, each.difference, each.low, each.high) for rate, each in found if each]
    x, y, low, high = ([point[k] for point in points] for k in range(4))
    return Curve(loss, x, y, low, high)
