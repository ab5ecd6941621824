"""Cost of a method against cross-entropy: trained parameters, training time and peak memory, paired by seed."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.report.study import Cell, Study


class Cost(NamedTuple):
    """Cost of a method against cross-entropy with the same seeds.

    Attributes:
        time_ratios: Training time divided by cross-entropy's, by seed.
        extra_memory: Peak memory of the process minus cross-entropy's in MB, by seed.
        ce_seconds: Training time of cross-entropy, by seed.
        ce_memory: Peak memory of cross-entropy's process in MB, by seed.
        extra_parameters: Number of trained parameters beyond `ce_parameters`.
        ce_parameters: Number of parameters of the classifier.
    """

    time_ratios: list[float]
    extra_memory: list[float]
    ce_seconds: list[float]
    ce_memory: list[float]
    extra_parameters: int
    ce_parameters: int


def measured_costs(study: Study, grids: Iterable[Grid]) -> list[tuple[Cell, Cost]]:
    """Cost of each method in the grids that shares a seed with cross-entropy at its place."""
    costs = []
    for cell in (cell for grid in grids for cell in study.cells(grid)):
        baseline = study.baseline(cell.setting)
        pairs = _seed_pairs(cell, baseline)
        if cell is not baseline and pairs:
            costs.append((cell, _cost(pairs)))
    return costs


def _cost(pairs: list[tuple[Result, Result]]) -> Cost:
    ours, ce = pairs[0]
    return Cost(
        time_ratios=[
            (training_seconds(ours) + teacher_prediction_seconds(ours, ce)) / training_seconds(ce) for ours, ce in pairs
        ],
        extra_memory=[_memory(ours) - _memory(ce) for ours, ce in pairs],
        ce_seconds=[training_seconds(ce) for _, ce in pairs],
        ce_memory=[_memory(ce) for _, ce in pairs],
        extra_parameters=num_trained(ours) - num_trained(ce),
        ce_parameters=num_trained(ce),
    )


def num_trained(result: Result) -> int:
    """Number of parameters of the classifier, its teacher (KD), its peer (DML) and its residual matrix (KR)."""
    report, teacher = result.report, result.line["teacher"]
    own = report["model"]["num_parameters"]
    peer = own if result.run.loss == "dml" else 0
    matrix = len(report["dataset"]["class_names"]) ** 2 if report["residual_labels"] else 0
    return own + peer + matrix + (teacher["model"]["num_parameters"] if teacher else 0)


def training_seconds(result: Result) -> float:
    """Training time of the classifier and of its teacher."""
    teacher = result.line["teacher"]
    return result.report["wall_time_seconds"]["training"] + (teacher["wall_time_seconds"]["training"] if teacher else 0)


def teacher_prediction_seconds(result: Result, ce: Result) -> float:
    """Time of the teacher's predictions for the training rows: the preparation time beyond cross-entropy's."""
    if not result.line["teacher"]:
        return 0.0
    preparation = []
    for each in (result, ce):
        seconds = each.report["wall_time_seconds"]
        preparation.append(seconds["total"] - seconds["training"] - seconds["evaluation"])
    return max(0.0, preparation[0] - preparation[1])


def _seed_pairs(cell: Cell, baseline: Cell) -> list[tuple[Result, Result]]:
    by_seed = {result.run.seed: result for result in baseline.results}
    return [(ours, by_seed[ours.run.seed]) for ours in cell.results if ours.run.seed in by_seed]


def _memory(result: Result) -> float:
    memory = result.report["peak_memory_mb"]["process"]
    return np.nan if memory is None else memory
