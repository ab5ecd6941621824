"""The published grids and their results."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from choose_settings import contests, mean_validation_errors

from kr_text.experiments.grids import read_grid
from kr_text.experiments.results import read_results
from kr_text.experiments.run import Run
from kr_text.formats.overrides import Value, parse_overrides
from kr_text.report.study import settings
from kr_text.training.recipes import recipe

ROOT = Path(__file__).parents[1]
RESULTS, GRIDS = ROOT / "results", ROOT / "scripts" / "grids"
CHOSEN = ("learning_rate", "num_train_epochs")  # on validation rows


def training(run: Run) -> Mapping[str, Value]:
    """A run's training arguments, including those of its recipe."""
    own = recipe(run.model, run.dataset, any_hardware=True).training
    return {**own, **parse_overrides(run.training, "training")}


@pytest.mark.parametrize("name", ["table3", "readings", "table4", "softening", "noise", "chosen"])
def test_every_loss_has_the_rate_and_epochs_with_the_lowest_validation_error_of_cross_entropy(name: str) -> None:
    tries = contests(mean_validation_errors(read_results(RESULTS / "tuning").values()))
    best: dict[tuple[str, str], dict[int | None, Run]] = {}  # by model and data set, then by number of training rows
    for (model, dataset, num_rows, loss), runs in tries.items():
        if loss == "ce":
            best.setdefault((model, dataset), {})[num_rows] = runs[0]
    for run in read_grid(GRIDS / f"{name}.yaml").runs:
        tried = best[run.model, run.dataset]
        chosen = training(tried.get(run.max_train_rows, next(iter(tried.values()))))  # else the choice on fewer rows
        assert {field: training(run)[field] for field in CHOSEN} == {field: chosen[field] for field in CHOSEN}, run.name


def test_no_setting_is_both_in_the_cost_grid_and_in_another() -> None:
    """The report pools the runs of a setting over all grids, and only runs of the cost grid are timed alone."""
    grids = {path.stem: settings(read_grid(path).runs) for path in GRIDS.glob("*.yaml")}
    timed = set(grids.pop("cost"))
    assert not timed & {setting for others in grids.values() for setting in others}


FOLDERS = pytest.mark.parametrize(
    ("results", "grids"), [(RESULTS, GRIDS), (RESULTS / "tuning", GRIDS / "tuning")], ids=["results", "tuning"]
)


@FOLDERS
def test_every_planned_run_has_a_result_under_its_key(results: Path, grids: Path) -> None:
    planned = {run.key for path in grids.glob("*.yaml") for run in read_grid(path).runs}
    assert planned
    assert planned <= read_results(results).keys()


@FOLDERS
def test_every_result_is_stored_under_the_key_of_its_run(results: Path, grids: Path) -> None:
    """A change in how keys are computed would repeat finished runs."""
    assert [key for key, result in read_results(results).items() if key != result.run.key] == []


@FOLDERS
def test_the_stored_predictions_agree_with_the_reports(results: Path, grids: Path) -> None:
    """One bit per row and 15 confidence bins give the confusion matrix's accuracy, the error and the number of rows."""
    digests: dict[str, set[str]] = {}
    for result in read_results(results).values():
        report, predictions = result.report, result.predictions()
        matrix = np.asarray(report["confusion_matrix"])
        num_rows, num_correct = (sum(bin[place] for bin in predictions.bins) for place in (0, 2))
        assert len(predictions.correct) == num_rows == matrix.sum() == report["dataset"]["num_test_rows"]
        assert predictions.correct.sum() == num_correct == np.trace(matrix)
        digests.setdefault(report["dataset"]["name"], set()).add(predictions.labels_digest)
    assert {name for name, found in digests.items() if len(found) > 1} == set()


def test_the_results_take_at_most_20_megabytes() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20e6
