"""Sections of the report page: what each method costs, beside its error (the paper's Table 4) and beside CE's cost."""

from collections.abc import Sequence

import numpy as np

from kr_text.grids import Grid
from kr_text.report.blocks import Block, Table
from kr_text.report.section_errors import against_ce, verdict_blocks, with_baselines
from kr_text.report.study import Cell, Study, place
from kr_text.report.wording import PLACE_HEADINGS, loss_name, mean_text, place_names, spread_text
from kr_text.reports import format_number
from kr_text.results import Result


def budget_table(cells: Sequence[Cell]) -> Table:
    """Table 4: error and what it costs, by method."""
    rows = []
    for cell in cells:
        rows.append(
            (
                *place_names(place(cell.setting), cell.results),
                loss_name(cell.setting),
                spread_text(cell.error),
                f"{cell.results[0].report['model']['num_parameters']:,}",
                f"{num_trained(cell.results[0]):,}",
                mean_text(cell, training_seconds, 1),
                mean_text(cell, lambda result: result.report["peak_memory_mb"]["process"], 0),
            )
        )
    headings = ("method", "error, %", "parameters", "parameters trained", "training, s", "peak memory, MB")
    caption = (
        "Mean ± standard deviation of the test error over the seeds, whose number is in brackets; parameters of the "
        "classifier, and of all that is trained for it: the teacher of KD, the peer of DML, the residual matrix of KR; "
        "training time, for KD with its teacher's, and peak memory of the process, means over the seeds."
    )
    return Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))


def num_trained(result: Result) -> int:
    """Parameters of the classifier and of what is trained for its sake: a teacher, a peer, a residual matrix."""
    report, teacher = result.report, result.line["teacher"]
    own = report["model"]["num_parameters"]
    peer = own if result.run.loss == "dml" else 0
    matrix = len(report["dataset"]["class_names"]) ** 2 if report["residual_labels"] else 0
    return own + peer + matrix + (teacher["model"]["num_parameters"] if teacher else 0)


def training_seconds(result: Result) -> float:
    """Of the classifier and of its teacher."""
    teacher = result.line["teacher"]
    return result.report["wall_time_seconds"]["training"] + (teacher["wall_time_seconds"]["training"] if teacher else 0)


def budget_blocks(study: Study, grid: Grid) -> list[Block]:
    """Table 4: the methods' cost, and their errors against cross-entropy."""
    cells = with_baselines(study, study.cells(grid))
    if not cells:
        return []
    return [budget_table(cells), *verdict_blocks(study, against_ce(study, cells), "CE")]


def cost_blocks(study: Study, grid: Grid) -> list[Block]:
    """What a loss costs beside cross-entropy, seed by seed."""
    rows = []
    for cell in study.cells(grid):
        baseline = study.baseline(cell.setting)
        pairs = _seed_pairs(cell, baseline)
        if cell is baseline or not pairs:
            continue
        ratios = [training_seconds(ours) / training_seconds(ce) for ours, ce in pairs]
        memory = [_memory(ours) - _memory(ce) for ours, ce in pairs]
        extra = num_trained(pairs[0][0]) - num_trained(pairs[0][1])
        names = place_names(place(cell.setting), cell.results)
        share = f"{extra:,} ({100 * extra / num_trained(pairs[0][1]):.4f}%)"
        rows.append((*names, loss_name(cell.setting), str(len(pairs)), share, _range(ratios, 3), _range(memory, 1)))
    headings = ("loss", "seeds", "extra parameters", "training time over CE's", "extra peak memory, MB")
    caption = "Against CE with the same seed: median over the seeds, and their least and most."
    return [Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))] if rows else []


def _seed_pairs(cell: Cell, baseline: Cell) -> list[tuple[Result, Result]]:
    of_baseline = {result.run.seed: result for result in baseline.results}
    return [(ours, of_baseline[ours.run.seed]) for ours in cell.results if ours.run.seed in of_baseline]


def _memory(result: Result) -> float:
    memory = result.report["peak_memory_mb"]["process"]
    return np.nan if memory is None else memory


def _range(values: Sequence[float], digits: int) -> str:
    low, high = (format_number(value, digits) for value in (min(values), max(values)))
    return f"{format_number(float(np.median(values)), digits)} ({low} to {high})"
