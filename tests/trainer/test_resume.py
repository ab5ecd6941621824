"""Checkpoints of KRTrainer: saving and restoring the residual matrix."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerState

from kr_text import KRLoss, KRTrainer
from kr_text.trainer.residual_checkpoint import LOSS_ENTRY, RESIDUAL_FILE, save_residual_matrix
from trainer_cases import (
    NUM_LABELS,
    arguments,
    bert,
    collate,
    fasttext,
    make_trainer,
    matrix,
    numbers,
    rows,
    trained,
    weights,
)

WORKER = Path(__file__).parents[1] / "trainer_worker.py"


def checkpointed(**settings: Any) -> dict[str, Any]:
    return {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, **settings}


def with_dropout(folder: Path, accumulation: int, **settings: Any) -> KRTrainer:
    """Trains with an epoch of 4 / `accumulation` steps: checkpoints fall within an epoch and between epochs."""
    loss = KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5)
    settings = checkpointed(gradient_accumulation_steps=accumulation, **settings)
    return trained(folder, bert(dropout=0.1), loss=loss, **settings)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Returns the folder of a run that was killed at step 5, for a number of micro-batches per step."""

    @cache
    def run(accumulation: int) -> Path:
        folder = tmp_path_factory.mktemp("killed")
        settings = checkpointed(gradient_accumulation_steps=accumulation, kill_at_step=5)
        command = [sys.executable, str(WORKER), str(folder), json.dumps(settings)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == -signal.SIGKILL, process.stderr
        assert {path.name for path in folder.iterdir()} == {"checkpoint-2", "checkpoint-4"}
        return folder

    return run


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_killed_and_resumed_run_equals_an_uninterrupted_run(
    tmp_path: Path, killed: Callable[[int], Path], step: int, accumulation: int
) -> None:
    whole = with_dropout(tmp_path / "whole", accumulation)
    last = f"checkpoint-{step}"
    shutil.copytree(killed(accumulation) / last, tmp_path / "killed" / last)
    resumed = with_dropout(tmp_path / "killed", accumulation, resume=True)
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    torch.testing.assert_close(matrix(resumed), matrix(whole), rtol=0, atol=0)
    moments = [trainer.residual_optimizer.state_dict()["state"] for trainer in (resumed, whole)]
    torch.testing.assert_close(moments[0], moments[1], rtol=0, atol=0)
    assert resumed.optimizer is not None
    assert whole.optimizer is not None
    torch.testing.assert_close(resumed.optimizer.state_dict(), whole.optimizer.state_dict(), rtol=0, atol=0)
    assert numbers(resumed)[:-1] == numbers(whole)[:-1]  # the last entry is a mean since the process started
    assert [entry["alpha"] for entry in numbers(whole)[:-1]] == (
        [1.0] * 4 + [0.5] * 2 if accumulation == 1 else [1.0] * 2 + [0.5] * 2 + [0.25] * 2
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    trained(tmp_path, save_strategy="steps", save_steps=4)
    return tmp_path / "checkpoint-4"


def resume(checkpoint: Path) -> KRTrainer:
    trainer = make_trainer(checkpoint.parent)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    return trainer


def test_checkpoint_holds_the_matrix_its_optimizer_and_the_settings(checkpoint: Path) -> None:
    saved = load_file(checkpoint / RESIDUAL_FILE)
    assert saved["residual_matrix"].shape == (NUM_LABELS, NUM_LABELS)
    assert saved["residual_matrix"].abs().max() > 0
    assert saved["adam.residual_matrix.step"] == 4
    assert saved["adam.residual_matrix.exp_avg_sq"].max() > 0
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["stateful_callbacks"][LOSS_ENTRY] == {
        "global_step": 4,
        **KRLoss(NUM_LABELS, label_smoothing=0.1).settings(),
    }


def test_checkpoint_with_a_truncated_matrix_is_refused(checkpoint: Path) -> None:
    path = checkpoint / RESIDUAL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(
        ValueError, match=r"residual_matrix\.safetensors must hold the state of the loss.*start training again"
    ):
        resume(checkpoint)


def test_checkpoint_without_its_matrix_is_refused(checkpoint: Path) -> None:
    (checkpoint / RESIDUAL_FILE).unlink()
    with pytest.raises(
        ValueError,
        match=r"residual_matrix\.safetensors must hold the state of the loss.*resume from another checkpoint",
    ):
        resume(checkpoint)


def test_checkpoint_for_another_number_of_classes_is_refused(checkpoint: Path) -> None:
    saved = load_file(checkpoint / RESIDUAL_FILE)
    save_file({**saved, "residual_matrix": torch.zeros(5, 5)}, checkpoint / RESIDUAL_FILE)
    with pytest.raises(ValueError, match=r"residual_matrix must be \(4, 4\), got \(5, 5\)"):
        resume(checkpoint)


def plainly_trained(folder: Path, resume: bool = False) -> None:
    args = arguments(folder, save_strategy="steps", save_steps=4)
    trainer = Trainer(model=fasttext(), args=args, train_dataset=rows(), data_collator=collate)
    trainer.train(resume_from_checkpoint=resume)


WITHOUT = "was written without KRLoss; the residual matrix starts from its initial values"


def test_checkpoint_of_plain_trainer_resumes_with_a_warning_and_initial_s(tmp_path: Path) -> None:
    plainly_trained(tmp_path)
    trainer = make_trainer(tmp_path)
    with pytest.warns(UserWarning, match=f"checkpoint-4 {WITHOUT}"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert trainer.state.global_step == 8
    assert trainer.residual_optimizer.state_dict()["state"][0]["step"] == 4
    assert matrix(trainer).abs().max() > 0
    once = matrix(trainer).clone()
    with pytest.warns(UserWarning, match=f"checkpoint-4 {WITHOUT}"):  # S of the first run is discarded
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    torch.testing.assert_close(matrix(trainer), once, rtol=0, atol=0)


def test_checkpoint_of_plain_trainer_resumed_from_krtrainer_warns_too(tmp_path: Path) -> None:
    """The plain Trainer copies the entry of KRTrainer in trainer_state.json."""
    trained(tmp_path, save_strategy="steps", save_steps=4, max_steps=4)
    plainly_trained(tmp_path, resume=True)
    trainer = make_trainer(tmp_path, num_train_epochs=3)
    with pytest.warns(UserWarning, match=f"checkpoint-8 {WITHOUT}"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert trainer.state.global_step == 12


def test_saved_model_with_trainer_state_warns_too(tmp_path: Path) -> None:
    trainer = trained(tmp_path, save_strategy="steps", save_steps=8)
    trainer.save_model(str(tmp_path / "saved"))
    trainer.args.output_dir = str(tmp_path / "saved")
    trainer.save_state()
    with pytest.warns(UserWarning, match=f"saved {WITHOUT}"):
        make_trainer(tmp_path, num_train_epochs=3).train(resume_from_checkpoint=str(tmp_path / "saved"))


def test_saving_the_matrix_creates_the_checkpoint_folder(tmp_path: Path) -> None:
    """Another process may create the folder later if weights are saved in shards."""
    criterion = KRLoss(NUM_LABELS)
    optimizer = torch.optim.Adam([criterion.residual_matrix])
    checkpoint = tmp_path / "run" / "checkpoint-2"
    save_residual_matrix(criterion, optimizer, str(checkpoint), TrainerState(stateful_callbacks=[]))
    assert load_file(checkpoint / RESIDUAL_FILE).keys() == {"residual_matrix"}


def test_matrix_resumes_with_restored_callback_states(checkpoint: Path) -> None:
    trainer = make_trainer(checkpoint.parent, restore_callback_states_from_checkpoint=True)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert trainer.state.global_step == 8
    assert trainer.residual_optimizer.state_dict()["state"][0]["step"] == 8


@pytest.mark.filterwarnings("default:mtime may not be reliable:UserWarning")  # transformers 5.0 on some file systems
def test_save_total_limit_deletes_the_matrix_with_its_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path, save_strategy="steps", save_steps=2, save_total_limit=1)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob(RESIDUAL_FILE)] == [
        f"checkpoint-8/{RESIDUAL_FILE}"
    ]


@pytest.mark.parametrize("save_only_model", [False, True])
def test_best_model_is_loaded_with_its_matrix(tmp_path: Path, save_only_model: bool) -> None:
    trainer = trained(
        tmp_path,
        save_only_model=save_only_model,
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # selects the first epoch, whose loss is the largest
        eval_dataset=rows(),
    )
    best = trainer.state.best_model_checkpoint
    assert best is not None
    assert json.loads((Path(best) / "trainer_state.json").read_text())["epoch"] == 1
    torch.testing.assert_close(matrix(trainer), load_file(Path(best) / RESIDUAL_FILE)["residual_matrix"])


def test_resuming_with_other_loss_settings_warns(tmp_path: Path) -> None:
    trained(tmp_path, save_strategy="steps", save_steps=4)
    with pytest.warns(
        UserWarning, match="was written with label_smoothing=0.1; training continues with label_smoothing=0.0"
    ):
        trained(tmp_path, loss="kr", resume=True, save_strategy="steps", save_steps=4, num_train_epochs=3)
