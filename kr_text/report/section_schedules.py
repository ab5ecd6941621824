"""A section of the report page: the weight alpha of the residual terms, and the error by it (the paper's Fig. 5)."""

from collections.abc import Callable, Sequence

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.run import Run
from kr_text.formats.overrides import Value, parse_overrides
from kr_text.losses.schedules import Exponential, Schedule, Truncated
from kr_text.report.blocks import Block, Figure, Table
from kr_text.report.figures import Curve, Kind, Panel, curves
from kr_text.report.section_errors import Pair, error_blocks, verdict_blocks
from kr_text.report.study import Cell, Study, place, places
from kr_text.report.wording import PLACE_HEADINGS, loss_name, place_names, place_title

GAMMA = 0.99  # of KRLoss, where a run names none, and of the paper


def schedule_blocks(study: Study, grid: Grid) -> list[Block]:
    """Alpha by epoch, the error by gamma and by alpha, and each setting against cross-entropy."""
    cells = [cell for cell in study.cells(grid) if cell.setting.loss != "ce"]
    if not cells:
        return error_blocks(study, grid)
    by_place = enumerate(places(cells).items(), 1)
    figures = [_error_figure(study, where, those, number) for number, (where, those) in by_place]
    compared = verdict_blocks(study, against_paper(cells), f"the same loss with alpha = {GAMMA:g}^t")
    drawn = filter(None, [_alpha_figure(cells), *figures])
    return [*drawn, *error_blocks(study, grid), *compared, _kept_table(cells)]


def against_paper(cells: Sequence[Cell]) -> list[Pair]:
    """Each schedule with the paper's at the same place and loss, where that was run."""
    papers = {
        (place(cell.setting), cell.setting.loss): cell
        for cell in cells
        if schedule(cell.setting) == Exponential(1.0, GAMMA)
    }
    pairs = [(cell, papers.get((place(cell.setting), cell.setting.loss))) for cell in cells]
    return [(cell, paper) for cell, paper in pairs if paper is not None and cell is not paper]


def _kept_table(cells: Sequence[Cell]) -> Table:
    """Which epochs were kept: up to there alone can schedules differ."""
    rows = []
    for cell in cells:
        kept = [result.report["best_epoch"] for result in cell.results]
        names = (*place_names(place(cell.setting), cell.results), loss_name(cell.setting))
        rows.append((*names, f"{np.median(kept):g} ({min(kept):g} to {max(kept):g})"))
    caption = (
        "The epoch that was kept, that of the least validation error: median over the seeds, and least and most. "
        "Where it is the first, every gamma trained the same model up to there."
    )
    return Table(caption, (*PLACE_HEADINGS, "loss", "epoch"), tuple(rows))


def schedule(setting: Run) -> Schedule:
    """Alpha as a function of the epochs completed, as the loss of a run has it."""
    told = _told(setting)
    alpha = float(told.get("alpha", 1.0))
    return Truncated(float(told["until"]), alpha) if "until" in told else Exponential(alpha, _gamma(told))


def _told(setting: Run) -> dict[str, Value]:
    return parse_overrides(setting.loss_overrides, "loss_overrides")


def _gamma(told: dict[str, Value]) -> float:
    return float(told.get("gamma", GAMMA))


def _gamma_name(setting: Run) -> str:
    """As in the paper's figure: gamma, or 1* where alpha is 1 and then 0."""
    told = _told(setting)
    return "1*" if "until" in told else f"{_gamma(told):g}"


def _alpha_name(setting: Run) -> str:
    return f"{float(_told(setting).get('alpha', 1.0)):g}"


def _by_gamma(cells: Sequence[Cell]) -> list[Cell]:
    """Those that start at alpha = 1."""
    return [cell for cell in cells if "alpha" not in _told(cell.setting)]


def _by_alpha(cells: Sequence[Cell]) -> list[Cell]:
    """Those that fall by the same gamma."""
    return [cell for cell in cells if _gamma_name(cell.setting) == f"{GAMMA:g}"]


def _alpha_figure(cells: Sequence[Cell]) -> Figure | None:
    if not _by_gamma(cells):
        return None
    num_epochs = int(max(result.report["epochs"][-1]["epoch"] for cell in cells for result in cell.results))
    x = list(range(1, num_epochs + 1))
    named = {_gamma_name(cell.setting): schedule(cell.setting) for cell in _by_gamma(cells)}
    lines = []
    for name in sorted(named):
        y = [named[name](epoch - 1) for epoch in x]
        lines.append(Curve(f"gamma {name}", x, y, y, y))
    caption = "alpha by epoch for each gamma; 1* is 1 for some epochs and then 0."
    svg = curves([Panel("", "epoch", "alpha", lines)], "alpha-by-epoch")
    return Figure("alpha-by-epoch", svg, caption, "Lines of alpha over the epochs, one for each gamma.")


def _error_figure(study: Study, where: Run, cells: Sequence[Cell], number: int) -> Figure | None:
    """Two panels: the error by gamma, and by the alpha of the first epoch; cross-entropy as a line. Or one, or none."""
    shown = [("gamma", _by_gamma(cells), _gamma_name), ("alpha in the first epoch", _by_alpha(cells), _alpha_name)]
    baseline = study.baseline(where)
    panels = [_error_panel(those, baseline, label, name) for label, those, name in shown if those]
    if not panels:
        return None
    title = place_title(where, [result for cell in cells for result in cell.results])
    caption = (
        f"{title}: test error, mean over the seeds and one standard deviation to each side; CE as a line with its band."
    )
    name = f"schedules-{number}"
    return Figure(
        name, curves(panels, name, share_y=True), caption, f"Points of the test error by gamma and by alpha on {title}."
    )


def _error_panel(cells: Sequence[Cell], baseline: Cell, label: str, name: Callable[[Run], str]) -> Panel:
    ticks = sorted({name(cell.setting) for cell in cells}, key=_tick_order)
    lines = []
    if baseline.results:
        lines.append(_points("CE", [baseline], [0.0], "level"))
    for loss in dict.fromkeys(cell.setting.loss for cell in cells):
        those = [cell for cell in cells if cell.setting.loss == loss]
        lines.append(_points(loss.upper(), those, [float(ticks.index(name(cell.setting))) for cell in those], "points"))
    return Panel("", label, "test error, %", lines, ticks)


def _tick_order(name: str) -> float:
    return np.inf if name == "1*" else float(name)


def _points(label: str, cells: Sequence[Cell], x: Sequence[float], kind: Kind) -> Curve:
    y = np.array([cell.error.mean for cell in cells])
    deviation = np.nan_to_num([cell.error.deviation for cell in cells])
    return Curve(label, x, list(y), list(y - deviation), list(y + deviation), kind)
