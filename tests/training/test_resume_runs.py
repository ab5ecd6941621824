import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import (
    TrainerCallback,
    TrainingArguments,
)

import kr_text.training.batches_trainer
from kr_text.classifier import Classifier
from kr_text.training.batches_trainer import ClassifierTrainer
from training_cases import OVERRIDES, Train, assert_same_run, predictions, report_of


@pytest.fixture(scope="module")
def transformer_flags() -> list[str]:
    """Flags for a run with dropout, shuffled rows, a schedule, a residual matrix and label matrices."""
    overrides = OVERRIDES["transformer"]
    return ["--model", "transformer", "--config_overrides", overrides, "--learning_rate", "0.01", "--label_matrices"]


@pytest.fixture(scope="module")
def transformer_run(tmp_path_factory: pytest.TempPathFactory, train_small: Train, transformer_flags: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    train_small(folder, *transformer_flags)
    return folder


def test_equal_seeds_give_equal_runs(
    tmp_path: Path, train_small: Train, transformer_flags: list[str], transformer_run: Path
) -> None:
    train_small(tmp_path, *transformer_flags)
    assert_same_run(tmp_path, transformer_run)


def test_different_seeds_give_different_runs_on_the_same_rows(
    tmp_path: Path, train_small: Train, transformer_flags: list[str], transformer_run: Path
) -> None:
    assert train_small(tmp_path, *transformer_flags, "--seed", "1")["seed"] == 1
    probabilities, labels = predictions(tmp_path)
    of_other_seed, same_labels = predictions(transformer_run)
    assert np.abs(probabilities - of_other_seed).max() > 1e-3
    assert labels.tolist() == same_labels.tolist()


class StopAfterSaving(TrainerCallback):
    def on_save(self, args: TrainingArguments, *_: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Returns a function that runs a training and interrupts it just after the first checkpoint."""

    class StoppedTrainer(ClassifierTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(StopAfterSaving())

    def stop(training: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(kr_text.training.batches_trainer, "ClassifierTrainer", StoppedTrainer)
            with pytest.raises(KeyboardInterrupt):
                training()

    return stop


def test_a_resumed_run_equals_an_uninterrupted_run(
    tmp_path: Path,
    train_small: Train,
    transformer_flags: list[str],
    transformer_run: Path,
    stop: Callable[[Callable[[], object]], None],
) -> None:
    stop(lambda: train_small(tmp_path, *transformer_flags))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-14", "settings.json"}
    (tmp_path / "checkpoint-28").mkdir()  # interrupted while it was written: it has no state yet
    record_more_time(tmp_path / "checkpoint-14")
    resumed = train_small(tmp_path, *transformer_flags, "--resume")
    assert_same_run(tmp_path, transformer_run)
    assert [matrices["epoch"] for matrices in resumed["label_matrices"] or []] == [1, 2, 3]
    seconds = resumed["wall_time_seconds"]
    assert 1000 < seconds["training"] < seconds["total"] < 1600


def test_sampling_by_class_resumes_where_it_stopped(
    tmp_path: Path, run_folder: Path, train_small: Train, stop: Callable[[Callable[[], object]], None]
) -> None:
    flags = ["--class_sampling", "balanced"]
    train_small(tmp_path / "whole", *flags)
    stop(lambda: train_small(tmp_path / "parts", *flags))
    resumed = train_small(tmp_path / "parts", *flags, "--resume")
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert resumed["class_sampling"] == "balanced"
    assert not np.array_equal(predictions(tmp_path / "whole")[0], predictions(run_folder)[0])
    with pytest.raises(ValueError, match="the same run to resume it, got class_sampling=None where"):
        train_small(tmp_path / "parts", "--resume")


def record_more_time(checkpoint: Path) -> None:
    """Adds 1,000 seconds to the record of the clock in a checkpoint."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text())
    clock = state["stateful_callbacks"]["TrainingClock"]["attributes"]
    assert 0 < clock["record"] < 600
    clock["record"] += 1000
    path.write_text(json.dumps(state))


def test_callbacks_restore_their_own_records(tmp_path: Path, run_folder: Path, train_small: Train) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    flags = ["--resume", "--restore_callback_states_from_checkpoint", "true", "--num_train_epochs", "4"]
    for checkpoint in folder.glob("checkpoint-*"):
        record_more_time(checkpoint)
    assert train_small(folder, *flags)["wall_time_seconds"]["training"] > 1000


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path, train_small: Train) -> None:
    for left in ("report.json", "checkpoint-14"):
        folder = tmp_path / left
        (folder / left).mkdir(parents=True)
        with pytest.raises(FileExistsError, match=r"holds a run already; give --resume to resume it, --overwrite"):
            train_small(folder)
        assert [path.name for path in folder.iterdir()] == [left]


def test_resuming_needs_a_checkpoint(tmp_path: Path, train_small: Train) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="must hold a checkpoint to resume from, got none"):
            train_small(folder, "--resume")


def test_overwriting_replaces_every_file_of_a_run(tmp_path: Path, run_folder: Path, train_small: Train) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "confusion_matrix.png").write_text("of the old run")
    train_small(folder, "--overwrite", "--loss", "ce", "--num_train_epochs", "1")
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "test_predictions.safetensors",
        "report.json",
        "report.md",
        "settings.json",
        "checkpoint-14",
        "notes.txt",
    }  # no residual matrix: cross-entropy learns none
    report = report_of(folder)
    assert report["loss"] == {"name": "ce", "settings": {}}
    assert report["residual_labels"] is None
    assert len(report["epochs"]) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--loss_overrides", "alfa=1"], "unexpected keyword argument 'alfa'"),
        (["--dataset", "./nowhere"], "must be a file or a folder that exists"),
        (["--loss", "cp", "--loss_overrides", "until=2"], "of loss 'cp' .* unexpected keyword argument 'until'"),
        (["--weight_decay", "0.1"], r"weight_decay must be 0 .* with FastText's adagrad, got 0\.1"),
    ],
)
def test_a_run_is_not_deleted_if_its_replacement_cannot_start(
    tmp_path: Path, run_folder: Path, train_small: Train, flags: list[str], message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    with pytest.raises((ValueError, OSError), match=message):
        train_small(folder, "--overwrite", *flags)
    assert_same_run(folder, run_folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in run_folder.iterdir()}


def test_the_model_of_a_replaced_run_is_deleted_before_training(
    tmp_path: Path, run_folder: Path, train_small: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClassifierTrainer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_small(folder, "--overwrite", "--loss", "ce")
    with pytest.raises(ValueError, match="model must be a saved classifier's folder"):
        Classifier(str(folder))


def test_a_different_run_is_not_resumed(tmp_path: Path, run_folder: Path, train_small: Train) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    with pytest.raises(ValueError, match="the same run to resume it, got loss=ce where the run has loss=kr-ls"):
        train_small(folder, "--resume", "--loss", "ce")
    longer = train_small(folder, "--resume", "--num_train_epochs", "4")
    assert [epoch["epoch"] for epoch in longer["epochs"]] == [1, 2, 3, 4]


def test_a_checkpoint_in_another_folder_starts_a_run(tmp_path: Path, run_folder: Path, train_small: Train) -> None:
    train_small(tmp_path / "run", "--loss", "ce", "--num_train_epochs", "1")
    checkpoint = str(max(run_folder.glob("checkpoint-*")))
    flags = ["--resume_from_checkpoint", checkpoint, "--num_train_epochs", "4"]
    with pytest.raises(FileExistsError, match="holds a run already"):
        train_small(tmp_path / "run", *flags)
    with pytest.raises(ValueError, match="must hold the same run to resume it"):
        train_small(run_folder, *flags, "--loss", "ce")
    report = train_small(tmp_path / "new", *flags)
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2, 3, 4]


def test_a_run_is_not_resumed_with_changed_data(tmp_path: Path, news: Path, train_small: Train) -> None:
    data = tmp_path / "data"
    shutil.copytree(news, data)
    flags = ["--dataset", str(data)]
    train_small(tmp_path / "run", *flags, "--num_train_epochs", "1")
    (data / "test.csv").write_text((news / "test.csv").read_text())  # the same, at another time
    train_small(tmp_path / "run", *flags, "--num_train_epochs", "2", "--resume")
    (data / "train.csv").write_text((news / "train.csv").read_text().replace(" the ", " teh "))
    with pytest.raises(ValueError, match="must hold a run on the same data to resume it, got other texts or labels"):
        train_small(tmp_path / "run", *flags, "--num_train_epochs", "3", "--resume")
