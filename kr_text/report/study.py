"""A folder of results as its tables need it: runs that differ in their seed alone together, beside their baseline."""

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
    """Runs that differ in their seed alone.

    Attributes:
        setting: what they have in common, with seed 0.
        results: of those that are finished, by seed.
    """

    setting: Run
    results: tuple[Result, ...]

    @property
    def seeds(self) -> set[int]:
        """Of the finished runs."""
        return {result.run.seed for result in self.results}

    @property
    def error(self) -> Spread:
        """Test error in %."""
        return self.spread(lambda result: result.report["test_metrics"]["error_rate"])

    def spread(self, number: Callable[[Result], Number]) -> Spread:
        """A number of each run over the seeds; nan where one is missing."""
        values = (number(result) for result in self.results)
        return spread([np.nan if value is None else value for value in values])


class Study:
    """The grids of a folder, and their results.

    Attributes:
        folder: with runs.jsonl, predictions and grids.
        grids: by the names of their files; the overrides of their runs are by name, so that runs which say the same in
            another order share a place.
        num_planned: runs in all of them, each once.

    Raises:
        ValueError: a file in the folder is not what its name says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grids = {path.stem: _in_order(read_grid(path)) for path in sorted(folder.glob("*.yaml"))}
        results = read_results(folder)
        keys = {run: run.key for run in dict.fromkeys(run for grid in self.grids.values() for run in grid.runs)}
        self.num_planned = len(set(keys.values()))
        self._results = {run: results[key] for run, key in keys.items() if key in results}
        self._verdicts: dict[tuple[Run, Run], Verdict] = {}

    @property
    def results(self) -> list[Result]:
        """All that belong to a grid, each once: two ways to say the same are one run."""
        return list({result.line["key"]: result for result in self._results.values()}.values())

    @cached_property
    def _cells(self) -> dict[Run, Cell]:
        found: dict[Run, list[Result]] = {}
        for run in sorted(self._results, key=lambda run: run.seed):
            found.setdefault(replace(run, seed=0), []).append(self._results[run])
        return {setting: Cell(setting, tuple(results)) for setting, results in found.items()}

    def finished(self, grid: Grid) -> int:
        """How many of its runs are."""
        return sum(run in self._results for run in grid.runs)

    def cell(self, setting: Run) -> Cell:
        """The finished runs of a setting, of whichever grid they are; maybe none."""
        return self._cells.get(setting, Cell(setting, ()))

    def cells(self, grid: Grid) -> list[Cell]:
        """Those of a grid that have results: by data set, as the grid has them, then model, and training rows."""
        datasets, models = list(dict.fromkeys(run.dataset for run in grid.runs)), recipe_names()

        def position(setting: Run) -> tuple[int, int, float]:
            model = models.index(setting.model) if setting.model in models else len(models)
            return datasets.index(setting.dataset), model, setting.max_train_rows or math.inf

        return [self._cells[setting] for setting in sorted(settings(grid.runs), key=position) if setting in self._cells]

    def baseline(self, setting: Run) -> Cell:
        """Cross-entropy at the same setting, with label matrices where it was run with them alone."""
        ce = place(setting)
        return self.cell(ce) if self.cell(ce).results else self.cell(replace(ce, label_matrices=True))

    def verdict(self, method: Cell, baseline: Cell) -> Verdict | None:
        """The verdict over the seeds that both have, not yet corrected.

        None where those are fewer than two: a single pair of runs does not tell the methods from their seeds.
        """
        if len(method.seeds & baseline.seeds) < 2:
            return None
        pair = method.setting, baseline.setting
        if pair not in self._verdicts:
            self._verdicts[pair] = against(method.results, baseline.results)
        return self._verdicts[pair]


def _in_order(grid: Grid) -> Grid:
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
    """The runs without their seeds, each once."""
    return list(dict.fromkeys(replace(run, seed=0) for run in runs))


def place(setting: Run) -> Run:
    """Where a loss is measured: the same setting with cross-entropy, in which all losses compared there agree."""
    plain = replace(setting, seed=0, loss="ce", loss_overrides=None, residual_learning_rate=None)
    return replace(plain, teacher=None, label_matrices=False)


def places(cells: Sequence[Cell]) -> dict[Run, list[Cell]]:
    """The cells by their place, in their order."""
    found: dict[Run, list[Cell]] = {}
    for cell in cells:
        found.setdefault(place(cell.setting), []).append(cell)
    return found
