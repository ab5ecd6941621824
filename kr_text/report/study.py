"""Results of a folder of grids, grouped for the tables: runs that differ only in their seed, and their baseline."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from kr_text.experiments.grids import Grid, read_grid
from kr_text.experiments.results import Result, read_results
from kr_text.experiments.run import Run
from kr_text.experiments.verdicts import Spread, Verdict, against, spread
from kr_text.formats.markdown import Number
from kr_text.formats.overrides import sorted_overrides
from kr_text.training.recipes import recipe_names


@dataclass(frozen=True, eq=False)
class Cell:
    """Runs that differ only in their seed: a cell of a table.

    Attributes:
        setting: The run with seed 0.
        results: Finished runs, sorted by seed.
    """

    setting: Run
    results: tuple[Result, ...]

    @property
    def seeds(self) -> set[int]:
        """Seeds of the finished runs."""
        return {result.run.seed for result in self.results}

    @property
    def error(self) -> Spread:
        """Test error in %."""
        return self.spread(lambda result: result.report["test_metrics"]["error_rate"])

    def spread(self, number: Callable[[Result], Number]) -> Spread:
        """Mean and spread of a number over the seeds; nan if a seed has no number."""
        values = (number(result) for result in self.results)
        return spread([np.nan if value is None else value for value in values])


class Study:
    """Grids and their results.

    Attributes:
        folder: Results folder, with runs.jsonl.
        grids_folder: Folder with the grids, NAME.yaml.
        grids: Grids by file name without extension. The overrides of their runs are sorted, so that runs with the
            same overrides in another order share a cell.
        num_planned: Number of distinct runs in all grids.

    Args:
        folder: Results folder.
        grids: Folder with the grids; the results folder by default.

    Raises:
        ValueError: A file of grids or results is invalid.
    """

    def __init__(self, folder: Path, grids: Path | None = None) -> None:
        self.folder = folder
        self.grids_folder = folder if grids is None else grids
        self.grids = {
            path.stem: _sorted_overrides(read_grid(path)) for path in sorted(self.grids_folder.glob("*.yaml"))
        }
        results = read_results(folder)
        keys = {run: run.key for run in dict.fromkeys(run for grid in self.grids.values() for run in grid.runs)}
        self.num_planned = len(set(keys.values()))
        self._results = {run: results[key] for run, key in keys.items() if key in results}
        self._verdicts: dict[tuple[Run, Run], Verdict] = {}

    @property
    def results(self) -> list[Result]:
        """Distinct results of all grids; two runs with the same key are one result."""
        return list({result.line["key"]: result for result in self._results.values()}.values())

    @cached_property
    def _cells(self) -> dict[Run, Cell]:
        found: dict[Run, list[Result]] = {}
        for run in sorted(self._results, key=lambda run: run.seed):
            found.setdefault(replace(run, seed=0), []).append(self._results[run])
        return {setting: Cell(setting, tuple(results)) for setting, results in found.items()}

    def section_grids(self, section: str) -> list[Grid]:
        """Grids of a section of the page."""
        return [grid for grid in self.grids.values() if grid.section == section]

    def finished(self, grid: Grid) -> int:
        """Number of finished runs of a grid."""
        return sum(run in self._results for run in grid.runs)

    def cell(self, setting: Run) -> Cell:
        """Cell of a setting, with the runs of all grids; without results if no run is finished."""
        return self._cells.get(setting, Cell(setting, ()))

    def cells(self, grid: Grid) -> list[Cell]:
        """Cells of a grid that have results, sorted by data set (in the grid's order), model and training rows."""
        datasets, models = list(dict.fromkeys(run.dataset for run in grid.runs)), recipe_names()

        def position(setting: Run) -> tuple[int, int, float]:
            model = models.index(setting.model) if setting.model in models else len(models)
            return datasets.index(setting.dataset), model, setting.max_train_rows or math.inf

        return [self._cells[setting] for setting in sorted(settings(grid.runs), key=position) if setting in self._cells]

    def baseline(self, setting: Run) -> Cell:
        """Cross-entropy at the same place; the runs with label matrices if there are no others."""
        ce = place(setting)
        return self.cell(ce) if self.cell(ce).results else self.cell(replace(ce, label_matrices=True))

    def verdict(self, method: Cell, baseline: Cell) -> Verdict | None:
        """Verdict over the seeds that both cells have, not corrected for multiple tests.

        None with fewer than two common seeds: one pair of runs cannot separate the method from the seed.
        """
        if len(method.seeds & baseline.seeds) < 2:
            return None
        pair = method.setting, baseline.setting
        if pair not in self._verdicts:
            self._verdicts[pair] = against(method.results, baseline.results)
        return self._verdicts[pair]


def _sorted_overrides(grid: Grid) -> Grid:
    runs = [
        replace(
            run,
            loss_overrides=sorted_overrides(run.loss_overrides),
            config_overrides=sorted_overrides(run.config_overrides),
            training=sorted_overrides(run.training),
            teacher=sorted_overrides(run.teacher),
        )
        for run in grid.runs
    ]
    return replace(grid, runs=tuple(dict.fromkeys(runs)))


def settings(runs: Iterable[Run]) -> list[Run]:
    """Distinct settings: runs with their seed set to 0."""
    return list(dict.fromkeys(replace(run, seed=0) for run in runs))


def place(setting: Run) -> Run:
    """Place of a setting: its data set, model and training settings, as the run with cross-entropy that they share.

    Losses are compared at the same place.
    """
    plain = replace(setting, seed=0, loss="ce", loss_overrides=None, residual_learning_rate=None)
    return replace(plain, teacher=None, label_matrices=False)


def places(cells: Sequence[Cell]) -> dict[Run, list[Cell]]:
    """Cells grouped by place, in their order."""
    found: dict[Run, list[Cell]] = {}
    for cell in cells:
        found.setdefault(place(cell.setting), []).append(cell)
    return found
