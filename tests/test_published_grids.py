"""The grids of results/ against the tries of results/tuning."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from choose_settings import contests, mean_validation_errors

from kr_text.experiments.grids import read_grid
from kr_text.experiments.results import read_results
from kr_text.experiments.run import Run
from kr_text.formats.overrides import Value, parse_overrides
from kr_text.report.study import settings
from kr_text.training.recipes import recipe

RESULTS = Path(__file__).parent.parent / "results"
CHOSEN = ("learning_rate", "num_train_epochs")  # on validation rows


def training(run: Run) -> Mapping[str, Value]:
    """A run's training arguments, its recipe's among them."""
    own = recipe(run.model, run.dataset, any_hardware=True).training
    return {**own, **parse_overrides(run.training, "training")}


@pytest.mark.parametrize("name", ["table3", "readings", "table4", "softening", "noise", "chosen"])
def test_the_rate_and_epochs_of_every_loss_have_the_least_validation_error_of_cross_entropy(name: str) -> None:
    tries = contests(mean_validation_errors(read_results(RESULTS / "tuning").values()))
    best: dict[tuple[str, str], dict[int | None, Run]] = {}  # by model and data set, then by training rows
    for (model, dataset, num_rows, loss), runs in tries.items():
        if loss == "ce":
            best.setdefault((model, dataset), {})[num_rows] = runs[0]
    for run in read_grid(RESULTS / f"{name}.yaml").runs:
        tried = best[run.model, run.dataset]
        chosen = training(tried.get(run.max_train_rows, next(iter(tried.values()))))  # or as on fewer rows
        assert {field: training(run)[field] for field in CHOSEN} == {field: chosen[field] for field in CHOSEN}, run.name


def test_runs_that_are_timed_alone_share_no_cell_with_others() -> None:
    """A cell has the runs of a setting from all grids: those beside other runs would be in the times, too."""
    grids = {path.stem: settings(read_grid(path).runs) for path in RESULTS.glob("*.yaml")}
    timed = set(grids.pop("cost"))
    assert not timed & {setting for others in grids.values() for setting in others}


@pytest.mark.parametrize("folder", [RESULTS, RESULTS / "tuning"], ids=["results", "tuning"])
def test_no_finished_run_would_be_repeated(folder: Path) -> None:
    """Where a key is computed in another way than when its run was finished."""
    assert [key for key, result in read_results(folder).items() if key != result.run.key] == []
