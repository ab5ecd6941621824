"""Section of the report page on the weight alpha of the residual terms and the error it gives (the paper's Fig. 5)."""

from collections.abc import Callable, Sequence

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.run import KR_DEFAULTS, Run
from kr_text.formats.overrides import Value, parse_overrides
from kr_text.losses.schedules import Exponential, Schedule, make_schedule
from kr_text.report.blocks import Block, Figure, Table, slug
from kr_text.report.comparisons import Pair
from kr_text.report.error_tables import verdict_blocks
from kr_text.report.figures import Curve, Kind, Panel, curves
from kr_text.report.section_errors import error_blocks
from kr_text.report.study import Cell, Study, place, places
from kr_text.report.wording import PLACE_HEADINGS, loss_alone, loss_name, place_names, place_title

GAMMA: float = KR_DEFAULTS["gamma"]  # the paper's value


def schedule_blocks(study: Study, grid: Grid) -> list[Block]:
    """Alpha by epoch, the error by gamma and by alpha, and the verdicts against cross-entropy and the paper's gamma."""
    cells = [cell for cell in study.cells(grid) if cell.setting.loss != "ce"]
    if not cells:
        return error_blocks(study, grid)
    figures = [
        _error_figure(study, where, at_place, slug(grid.name, number))
        for number, (where, at_place) in enumerate(places(cells).items(), 1)
    ]
    drawn = filter(None, [_alpha_figure(cells, slug(grid.name, "alpha")), *figures])
    against = verdict_blocks(study, against_paper(cells), f"the same loss with alpha = {GAMMA:g}^t")
    return [*drawn, *error_blocks(study, grid), *against, _best_epoch_table(cells)]


def against_paper(cells: Sequence[Cell]) -> list[Pair]:
    """Each schedule with the paper's schedule for the same loss at the same place, if it was run."""
    papers = {
        (place(cell.setting), cell.setting.loss): cell
        for cell in cells
        if schedule(cell.setting) == Exponential(1.0, GAMMA)
    }
    pairs = [(cell, papers.get((place(cell.setting), cell.setting.loss))) for cell in cells]
    return [(cell, paper) for cell, paper in pairs if paper is not None and cell is not paper]


def _best_epoch_table(cells: Sequence[Cell]) -> Table:
    """Kept epochs: schedules can differ only up to the kept epoch."""
    rows = []
    for cell in cells:
        kept = [result.report["best_epoch"] for result in cell.results]
        names = (*place_names(cell), loss_name(cell.setting))
        rows.append((*names, f"{np.median(kept):g} ({min(kept):g} to {max(kept):g})"))
    caption = (
        "The epoch that was kept, which has the lowest validation error: median, minimum and maximum over the seeds. "
        "If it is the first epoch, all gammas above 0 give the same model, because alpha is 1 in that epoch."
    )
    return Table(caption, (*PLACE_HEADINGS, "loss", "epoch"), tuple(rows))


def schedule(setting: Run) -> Schedule:
    """Alpha of a run as a function of the number of completed epochs."""
    until = _overrides(setting).get("until")
    return make_schedule(_alpha(setting), _gamma(setting), None if until is None else float(until))


def _overrides(setting: Run) -> dict[str, Value]:
    return parse_overrides(setting.loss_overrides, "loss_overrides")


def _alpha(setting: Run) -> float:
    return float(_overrides(setting).get("alpha", KR_DEFAULTS["alpha"]))


def _gamma(setting: Run) -> float:
    return float(_overrides(setting).get("gamma", GAMMA))


def _gamma_name(setting: Run) -> str:
    """Gamma, or 1* if alpha is 1 and then 0, as in the paper's figure."""
    return "1*" if "until" in _overrides(setting) else f"{_gamma(setting):g}"


def _alpha_name(setting: Run) -> str:
    return f"{_alpha(setting):g}"


def _by_gamma(cells: Sequence[Cell]) -> list[Cell]:
    """Cells with the setting alpha = 1: alpha is 1 in the first epoch, or 0 throughout if gamma is 0."""
    return [cell for cell in cells if _alpha(cell.setting) == 1]


def _by_alpha(cells: Sequence[Cell]) -> list[Cell]:
    """Cells with the paper's gamma."""
    return [cell for cell in cells if _gamma_name(cell.setting) == f"{GAMMA:g}"]


def _alpha_figure(cells: Sequence[Cell], name: str) -> Figure | None:
    if not _by_gamma(cells):
        return None
    num_epochs = int(max(result.report["epochs"][-1]["epoch"] for cell in cells for result in cell.results))
    x = list(range(1, num_epochs + 1))
    schedules = {_gamma_name(cell.setting): schedule(cell.setting) for cell in _by_gamma(cells)}
    lines = []
    for gamma in sorted(schedules):
        y = [schedules[gamma](epoch - 1) for epoch in x]
        lines.append(Curve(f"gamma {gamma}", x, y, y, y))
    caption = "alpha by epoch for each gamma. 1* is 1 in the first epochs and then 0."
    svg = curves([Panel("", "epoch", "alpha", lines)], name)
    return Figure(name, svg, caption, "Lines of alpha over the epochs, one for each gamma.")


def _error_figure(study: Study, where: Run, cells: Sequence[Cell], name: str) -> Figure | None:
    """Test error by gamma and by the alpha of the first epoch, as far as there are runs; cross-entropy as a line."""
    shown = [("gamma", _by_gamma(cells), _gamma_name), ("alpha in the first epoch", _by_alpha(cells), _alpha_name)]
    baseline = study.baseline(where)
    panels = [_error_panel(drawn, baseline, label, tick) for label, drawn, tick in shown if drawn]
    if not panels:
        return None
    title = place_title(*cells)
    caption = (
        f"{title}: test error, mean over the seeds with one standard deviation on each side. The line with a band is "
        "CE."
    )
    alt = f"Points of the test error by gamma and by alpha on {title}."
    return Figure(name, curves(panels, name, share_y=True), caption, alt)


def _error_panel(cells: Sequence[Cell], baseline: Cell, label: str, tick: Callable[[Run], str]) -> Panel:
    ticks = sorted({tick(cell.setting) for cell in cells}, key=_tick_order)
    lines = []
    if baseline.results:
        lines.append(_points("CE", [baseline], [0.0], "level"))
    for loss in dict.fromkeys(loss_alone(cell.setting) for cell in cells):
        of_loss = [cell for cell in cells if loss_alone(cell.setting) == loss]
        lines.append(_points(loss, of_loss, [float(ticks.index(tick(cell.setting))) for cell in of_loss], "points"))
    return Panel("", label, "test error, %", lines, ticks)


def _tick_order(name: str) -> float:
    return np.inf if name == "1*" else float(name)


def _points(label: str, cells: Sequence[Cell], x: Sequence[float], kind: Kind) -> Curve:
    y = np.array([cell.error.mean for cell in cells])
    deviation = np.nan_to_num([cell.error.deviation for cell in cells])
    return Curve(label, x, list(y), list(y - deviation), list(y + deviation), kind)
