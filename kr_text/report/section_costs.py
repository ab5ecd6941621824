"""Sections of the report page: what each method costs, beside its error (the paper's Table 4) and beside CE's cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.experiments.run import Run
from kr_text.formats.markdown import Number, format_number
from kr_text.report.blocks import Block, Table
from kr_text.report.section_errors import against_ce, verdict_blocks, with_baselines
from kr_text.report.study import Cell, Study, place
from kr_text.report.wording import NOTHING, PLACE_HEADINGS, loss_name, place_names, spread_text

COST_TITLE = "What the methods cost"  # of the section of cost.yaml
BESIDE_CE = ("training time over CE's", "extra peak memory, MB")
SPREAD = "median over the seeds, and their least and most"  # of the two


def budget_table(study: Study, cells: Sequence[Cell]) -> Table:
    """Table 4: error and what it costs, by method."""
    costs = {_method(cell.setting): cost for cell, cost in measured_costs(study, study.grids.get("cost"))}
    rows = []
    for cell in cells:
        cost = costs.get(_method(cell.setting))
        beside_ce = (_range(cost.times, 2), _range(cost.memory, 0)) if cost else (NOTHING, NOTHING)
        rows.append(
            (
                *place_names(place(cell.setting), cell.results),
                loss_name(cell.setting),
                spread_text(cell.error),
                spread_text(cell.spread(_teacher_error)) if cell.setting.teacher else NOTHING,
                f"{cell.results[0].report['model']['num_parameters']:,}",
                f"{num_trained(cell.results[0]):,}",
                *(("1", "0") if cell is study.baseline(cell.setting) else beside_ce),
            )
        )
    headings = ("method", "error, %", "teacher's error, %", "parameters", "parameters trained", *BESIDE_CE)
    caption = (
        "Mean ± standard deviation of the test error over the seeds, whose number is in brackets; parameters of the "
        "classifier, and of all that is trained for it: the teacher of KD, the peer of DML, the residual matrix of KR. "
        "Training time, with the validation after each epoch, for KD with the teacher's and with its predictions for "
        f"the training rows, and peak memory of the process beside those of CE: {SPREAD}. Both are not from the runs "
        "of this table, but from those of cost.yaml, which had nothing beside them; their rows and epochs are under "
        f"{COST_TITLE!r}. {NOTHING}: not measured."
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


def teaching_seconds(result: Result, ce: Result) -> float:
    """What the teacher said of the training rows took: what came before the training, beyond that of cross-entropy."""
    if not result.line["teacher"]:
        return 0.0
    before = []
    for each in (result, ce):
        seconds = each.report["wall_time_seconds"]
        before.append(seconds["total"] - seconds["training"] - seconds["evaluation"])
    return max(0.0, before[0] - before[1])


def budget_blocks(study: Study, grid: Grid) -> list[Block]:
    """Table 4: the methods' cost, and their errors against cross-entropy."""
    cells = with_baselines(study, study.cells(grid))
    if not cells:
        return []
    return [budget_table(study, cells), *verdict_blocks(study, against_ce(study, cells), "CE")]


def cost_blocks(study: Study, grid: Grid) -> list[Block]:
    """What a loss costs beside cross-entropy, seed by seed."""
    rows = []
    for cell, cost in measured_costs(study, grid):
        names = place_names(place(cell.setting), cell.results)
        share = f"{cost.parameters:,} ({100 * cost.parameters / cost.parameters_of_ce:.3g}%)"
        spreads = _range(cost.times, 3), _range(cost.memory, 1)
        of_ce = _range(cost.seconds_of_ce, 1), _range(cost.memory_of_ce, 0)
        rows.append((*names, loss_name(cell.setting), str(len(cost.times)), share, *of_ce, *spreads))
    headings = ("loss", "seeds", "extra parameters", "CE: training time, s", "CE: peak memory, MB", *BESIDE_CE)
    caption = (
        f"Against CE with the same seed: {SPREAD}. The time of KD has in it the teacher's training and its predictions "
        "for the training rows, which are made once, and so weigh the more the fewer the epochs."
    )
    return [Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))] if rows else []


class Cost(NamedTuple):
    """What a method costs beside cross-entropy with the same seeds.

    Attributes:
        times: training time over that of cross-entropy, by seed.
        memory: peak memory of the process less that of cross-entropy, in MB, by seed.
        seconds_of_ce: training time of cross-entropy, by seed.
        memory_of_ce: peak memory of its process, in MB, by seed.
        parameters: what is trained beyond `parameters_of_ce`.
        parameters_of_ce: of the classifier.
    """

    times: list[float]
    memory: list[float]
    seconds_of_ce: list[float]
    memory_of_ce: list[float]
    parameters: int
    parameters_of_ce: int


def measured_costs(study: Study, grid: Grid | None) -> list[tuple[Cell, Cost]]:
    """Of the methods of a grid, each beside the cross-entropy of its place and seeds."""
    costs = []
    for cell in study.cells(grid) if grid else []:
        baseline = study.baseline(cell.setting)
        pairs = _seed_pairs(cell, baseline)
        if cell is baseline or not pairs:
            continue
        times = [(training_seconds(ours) + teaching_seconds(ours, ce)) / training_seconds(ce) for ours, ce in pairs]
        memory = [_memory(ours) - _memory(ce) for ours, ce in pairs]
        seconds_of_ce = [training_seconds(ce) for _, ce in pairs]
        memory_of_ce = [_memory(ce) for _, ce in pairs]
        ours, of_ce = map(num_trained, pairs[0])
        costs.append((cell, Cost(times, memory, seconds_of_ce, memory_of_ce, ours - of_ce, of_ce)))
    return costs


def _teacher_error(result: Result) -> Number:
    teacher = result.line["teacher"]
    return teacher["test_metrics"]["error_rate"] if teacher else None


def _method(setting: Run) -> Run:
    """A setting at whichever rows and length of training."""
    return replace(setting, max_train_rows=None, training=None)


def _seed_pairs(cell: Cell, baseline: Cell) -> list[tuple[Result, Result]]:
    of_baseline = {result.run.seed: result for result in baseline.results}
    return [(ours, of_baseline[ours.run.seed]) for ours in cell.results if ours.run.seed in of_baseline]


def _memory(result: Result) -> float:
    memory = result.report["peak_memory_mb"]["process"]
    return np.nan if memory is None else memory


def _range(values: Sequence[float], digits: int) -> str:
    low, high = (format_number(value, digits) for value in (min(values), max(values)))
    return f"{format_number(float(np.median(values)), digits)} ({low} to {high})"
