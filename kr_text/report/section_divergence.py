"""Section of the report page with the divergence of p_res from q_res and the accuracy by epoch (the paper's Fig. 4)."""

from collections.abc import Callable, Sequence

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.formats.markdown import Number
from kr_text.report.blocks import Block, Figure, Paragraph, Table, slug
from kr_text.report.comparisons import learned_against_ce
from kr_text.report.figures import Curve, Panel, curves
from kr_text.report.study import Cell, Study, places
from kr_text.report.wording import PLACE_HEADINGS, loss_name, place_names, place_title, spread_text


def divergence_blocks(study: Study, grid: Grid) -> list[Block]:
    """D_JS(p_res || q_res) and accuracy on the validation rows by epoch."""
    cells = [cell for cell in study.cells(grid) if cell.results[0].report["label_matrices"]]
    if not cells:
        return []
    figures = [
        _divergence_figure(at_place, slug(grid.name, number))
        for number, at_place in enumerate(places(cells).values(), 1)
    ]
    return [*_divergence_counts(cells), divergence_table(cells), *figures]


def divergences(result: Result) -> dict[float, Number]:
    """D_JS(p_res || q_res) in nats by epoch."""
    return {matrices["epoch"]: matrices["js_divergence"] for matrices in result.report["label_matrices"] or []}


def accuracies(result: Result) -> dict[float, Number]:
    """Validation accuracy in % by epoch."""
    errors = {epoch["epoch"]: epoch["validation_error_rate"] for epoch in result.report["epochs"]}
    return {epoch: None if error is None else 100 - error for epoch, error in errors.items()}


def _first(numbers: dict[float, Number]) -> Number:
    return numbers[min(numbers)]


def _last(numbers: dict[float, Number]) -> Number:
    return numbers[max(numbers)]


def divergence_table(cells: Sequence[Cell]) -> Table:
    """Divergence and accuracy after the last epoch."""
    rows = []
    for cell in cells:
        js = cell.spread(lambda result: _last(divergences(result)))
        accuracy = cell.spread(lambda result: _last(accuracies(result)))
        names = place_names(cell)
        rows.append((*names, loss_name(cell.setting), spread_text(js, 4), spread_text(accuracy)))
    caption = "After the last epoch: mean ± standard deviation over the seeds (number of seeds)."
    headings = ("loss", "D_JS, nats", "validation accuracy, %")
    return Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))


def _divergence_counts(cells: Sequence[Cell]) -> list[Block]:
    pairs = learned_against_ce(cells)
    below_ce = sum(_mean_divergence(ours, _last) < _mean_divergence(ce, _last) for ours, ce in pairs)
    falls = sum(_mean_divergence(ours, _last) < _mean_divergence(ours, _first) for ours, _ in pairs)
    sentence = (
        f"After the last epoch, the divergence of p_res from the residual label is smaller than with CE in {below_ce} "
        f"of {len(pairs)} settings. It is smaller than after the first epoch in {falls} of {len(pairs)}."
    )
    return [Paragraph(sentence)] if pairs else []


def _mean_divergence(cell: Cell, epoch: Callable[[dict[float, Number]], Number]) -> float:
    return cell.spread(lambda result: epoch(divergences(result))).mean


def _divergence_figure(cells: Sequence[Cell], name: str) -> Figure:
    shown = [("D_JS(p_res || q_res), nats", divergences), ("validation accuracy, %", accuracies)]
    panels = [
        Panel(
            "",
            "epoch",
            label,
            [_curve(loss_name(cell.setting), [of(result) for result in cell.results]) for cell in cells],
        )
        for label, of in shown
    ]
    title = place_title(*cells)
    caption = f"{title}: mean over the seeds. The band runs from the smallest to the largest value."
    losses = " and ".join(loss_name(cell.setting) for cell in cells)
    return Figure(name, curves(panels, name), caption, f"Lines over the epochs for {losses} on {title}.")


def _curve(label: str, seeds: Sequence[dict[float, Number]]) -> Curve:
    """Mean and range over the seeds, at the epochs that every seed has."""
    epochs = sorted(set.intersection(*(set(numbers) for numbers in seeds)))
    values = np.array([[numbers[epoch] for epoch in epochs] for numbers in seeds], dtype=np.float64)
    return Curve(label, epochs, list(values.mean(axis=0)), list(values.min(axis=0)), list(values.max(axis=0)))
