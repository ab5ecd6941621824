"""Sections of the report page on cost: error against cost (the paper's Table 4), and cost against cross-entropy."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.experiments.run import Run
from kr_text.formats.markdown import Number, format_number
from kr_text.report.blocks import Block, Table
from kr_text.report.comparisons import against_ce, with_baselines
from kr_text.report.costs import measured_costs, num_trained
from kr_text.report.error_tables import verdict_blocks
from kr_text.report.study import Cell, Study
from kr_text.report.wording import NOTHING, PLACE_HEADINGS, loss_name, place_names, spread_text

COST_HEADINGS = ("training time over CE's", "extra peak memory, MB")
SPREAD = "median over the seeds (minimum to maximum)"


def budget_blocks(study: Study, grid: Grid) -> list[Block]:
    """Error and cost of each method, and the verdicts against cross-entropy."""
    cells = with_baselines(study, study.cells(grid))
    if not cells:
        return []
    return [budget_table(study, cells), *verdict_blocks(study, against_ce(study, cells), "CE")]


def budget_table(study: Study, cells: Sequence[Cell]) -> Table:
    """Error and cost by method; the cost is measured by the grids of the section `cost`."""
    timed = study.section_grids("cost")
    costs = {_at_any_length(cell.setting): cost for cell, cost in measured_costs(study, timed)}
    rows = []
    for cell in cells:
        cost = costs.get(_at_any_length(cell.setting))
        against = (_range(cost.time_ratios, 2), _range(cost.extra_memory, 0)) if cost else (NOTHING, NOTHING)
        rows.append(
            (
                *place_names(cell),
                loss_name(cell.setting),
                spread_text(cell.error),
                spread_text(cell.spread(_teacher_error)) if cell.setting.teacher else NOTHING,
                f"{cell.results[0].report['model']['num_parameters']:,}",
                f"{num_trained(cell.results[0]):,}",
                *(("1", "0") if cell is study.baseline(cell.setting) else against),
            )
        )
    headings = ("method", "error, %", "teacher's error, %", "parameters", "parameters trained", *COST_HEADINGS)
    return Table(_budget_caption(timed), (*PLACE_HEADINGS, *headings), tuple(rows))


def _budget_caption(timed: Sequence[Grid]) -> str:
    source = ""
    if timed:
        titles = " and ".join(f'"{grid.title}"' for grid in timed)
        source = (
            f" Time and memory are not measured in the runs of this table but in those under {titles}, which had the "
            "machine to themselves; their numbers of rows and epochs are given there."
        )
    return (
        "Mean ± standard deviation of the test error over the seeds (number of seeds). Parameters of the classifier, "
        "and of everything that is trained for it: KD's teacher, DML's peer, KR's residual matrix. Training time "
        "includes the validation after each epoch and, for KD, the teacher's training and its predictions for the "
        f"training rows. Time and peak memory of the process against CE: {SPREAD}.{source} {NOTHING}: not measured."
    )


def _teacher_error(result: Result) -> Number:
    teacher = result.line["teacher"]
    return teacher["test_metrics"]["error_rate"] if teacher else None


def _at_any_length(setting: Run) -> Run:
    """The setting without its number of rows and its training arguments."""
    return replace(setting, max_train_rows=None, training=None)


def cost_blocks(study: Study, grid: Grid) -> list[Block]:
    """Cost of each method against cross-entropy with the same seeds."""
    rows = []
    for cell, cost in measured_costs(study, [grid]):
        names = place_names(cell)
        parameters = f"{cost.extra_parameters:,} ({100 * cost.extra_parameters / cost.ce_parameters:.3g}%)"
        ce = _range(cost.ce_seconds, 1), _range(cost.ce_memory, 0)
        against = _range(cost.time_ratios, 3), _range(cost.extra_memory, 1)
        rows.append((*names, loss_name(cell.setting), str(len(cost.time_ratios)), parameters, *ce, *against))
    headings = ("loss", "seeds", "extra parameters", "CE: training time, s", "CE: peak memory, MB", *COST_HEADINGS)
    caption = (
        f"Cost against CE with the same seed: {SPREAD}. KD's time includes the teacher's training and its predictions "
        "for the training rows. The predictions are made once, so they weigh more when there are fewer epochs."
    )
    return [Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))] if rows else []


def _range(values: Sequence[float], digits: int) -> str:
    low, high = (format_number(value, digits) for value in (min(values), max(values)))
    return f"{format_number(float(np.median(values)), digits)} ({low} to {high})"
