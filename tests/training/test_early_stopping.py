import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kr_text.training.arguments import make_arguments, parse_training
from training_cases import Train, assert_same_run, report_of

PROGRAM = "kr-text train"
NO_PROGRESS = ["--learning_rate", "0", "--early_stopping_patience", "2", "--num_train_epochs", "9"]
NO_PROGRESS += ["--save_total_limit", "9"]  # at the end of training, a limit of 1 leaves only the best checkpoint


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, train_small: Train) -> Path:
    """Folder of a run that does not learn, and stops by its patience of 2 after its third epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    train_small(folder, *NO_PROGRESS)
    return folder


def epochs_of(folder: Path) -> list[float]:
    return [epoch["epoch"] for epoch in json.loads((folder / "report.json").read_text())["epochs"]]


def test_training_stops_after_the_patience_without_a_better_metric(stopped: Path) -> None:
    assert epochs_of(stopped) == [1, 2, 3]
    assert report_of(stopped)["early_stopping"] == {"patience": 2, "stopped": True}
    assert (
        "stopped early, after 2 evaluations in a row without a better error_rate" in (stopped / "report.md").read_text()
    )


def test_training_that_improves_goes_on_to_its_last_epoch(tmp_path: Path, train_small: Train) -> None:
    flags = ["--early_stopping_patience", "1", "--metric_for_best_model", "loss", "--learning_rate", "0.01"]
    report = train_small(tmp_path, *flags)
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2, 3]
    assert report["early_stopping"] == {"patience": 1, "stopped": False}


def test_patience_waits_for_a_metric_that_is_better_when_greater(tmp_path: Path, train_small: Train) -> None:
    flags = ["--metric_for_best_model", "macro_f1", "--early_stopping_patience", "1", "--num_train_epochs", "9"]
    report = train_small(tmp_path, *flags)
    values = [float(epoch["metric_for_best_model"] or 0) for epoch in report["epochs"]]
    *rising, last = values
    assert rising == sorted(set(rising))
    assert last <= max(rising)
    assert report["best_epoch"] == len(rising)


def test_a_patience_of_0_never_stops(tmp_path: Path, train_small: Train) -> None:
    report = train_small(tmp_path, *NO_PROGRESS, "--early_stopping_patience", "0", "--num_train_epochs", "4")
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2, 3, 4]


def test_the_patience_counts_across_an_interruption(tmp_path: Path, train_small: Train) -> None:
    folder = tmp_path / "run"
    train_small(folder, *NO_PROGRESS, "--num_train_epochs", "2")
    train_small(folder, *NO_PROGRESS, "--resume")
    assert epochs_of(folder) == [1, 2, 3]


def test_a_run_that_stopped_is_the_same_after_it_is_resumed(tmp_path: Path, stopped: Path, train_small: Train) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    train_small(folder, *NO_PROGRESS, "--resume")
    assert_same_run(folder, stopped)


def test_a_run_that_stopped_goes_on_with_more_patience(tmp_path: Path, stopped: Path, train_small: Train) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    train_small(folder, *NO_PROGRESS, "--early_stopping_patience", "4", "--resume")
    assert epochs_of(folder) == [1, 2, 3, 4, 5]


def test_a_negative_patience_is_refused() -> None:
    with pytest.raises(ValueError, match=r"early_stopping_patience must be at least 0, got -1"):
        parse_training(["--early_stopping_patience", "-1"], PROGRAM)


def test_a_patience_without_evaluations_is_refused() -> None:
    values: dict[str, Any] = {"eval_strategy": "no", "load_best_model_at_end": False, "early_stopping_patience": 2}
    with pytest.raises(ValueError, match=r"eval_strategy must be epoch or steps with early_stopping_patience, got no"):
        make_arguments(values, PROGRAM)
