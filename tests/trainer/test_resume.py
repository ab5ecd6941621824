"""Checkpoints of KRTrainer: what a run that was stopped goes on with."""

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
    """Four steps make an epoch, or two where gradients are accumulated: checkpoints lie in and between them."""
    loss = KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5)
    settings = checkpointed(gradient_accumulation_steps=accumulation, **settings)
    return trained(folder, bert(dropout=0.1), loss=loss, **settings)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of a run that was killed at its fifth step, with as many micro-batches in a step."""

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
def test_run_that_was_killed_and_resumed_equals_the_uninterrupted_one(
    tmp_path: Path, killed: Callable[[int], Path], step: int, accumulation: int
) -> None:
    whole = with_dropout(tmp_path / "whole", accumulation)
    last = f"checkpoint-{step}"
    shutil.copytree(killed(accumulation) / last, tmp_path / "killed" / last)
    resumed = with_dropout(tmp_path / "killed", accumulation, resume=True)
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    torch.testing.assert_close(matrix(resumed), matrix(whole), rtol=0, atol=0)
    of_matrix = [trainer.residual_optimizer.state_dict()["state"] for trainer in (resumed, whole)]
    torch.testing.assert_close(of_matrix[0], of_matrix[1], rtol=0, atol=0)
    assert resumed.optimizer is not None
    assert whole.optimizer is not None
    torch.testing.assert_close(resumed.optimizer.state_dict(), whole.optimizer.state_dict(), rtol=0, atol=0)
    assert numbers(resumed)[:-1] == numbers(whole)[:-1]  # the last line is the mean since the start of the process
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
    assert saved["adam.step"] == 4
    assert saved["adam.exp_avg_sq"].max() > 0
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["stateful_callbacks"][LOSS_ENTRY] == {
        "global_step": 4,
        **KRLoss(NUM_LABELS, label_smoothing=0.1).settings(),
    }


def test_checkpoint_with_a_truncated_matrix_is_refused(checkpoint: Path) -> None:
    path = checkpoint / RESIDUAL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"residual_matrix\.safetensors must hold the residual matrix.*start anew"):
        resume(checkpoint)


def test_checkpoint_without_its_matrix_is_refused(checkpoint: Path) -> None:
    (checkpoint / RESIDUAL_FILE).unlink()
    with pytest.raises(ValueError, match=r"must hold the residual matrix.*resume from another checkpoint"):
        resume(checkpoint)


def test_checkpoint_of_another_number_of_classes_is_refused(checkpoint: Path) -> None:
    saved = load_file(checkpoint / RESIDUAL_FILE)
    save_file({**saved, "residual_matrix": torch.zeros(5, 5)}, checkpoint / RESIDUAL_FILE)
    with pytest.raises(ValueError, match=r"must be \(4, 4\), got \(5, 5\)"):
        resume(checkpoint)


def plainly_trained(folder: Path, resume: bool = False) -> None:
    args = arguments(folder, save_strategy="steps", save_steps=4)
    trainer = Trainer(model=fasttext(), args=args, train_dataset=rows(), data_collator=collate)
    trainer.train(resume_from_checkpoint=resume)


WITHOUT = "was written without KRLoss.* starts anew"


def test_checkpoint_of_plain_trainer_is_resumed_with_a_warning_and_s_anew(tmp_path: Path) -> None:
    plainly_trained(tmp_path)
    trainer = make_trainer(tmp_path)
    with pytest.warns(UserWarning, match=f"checkpoint-4 {WITHOUT}"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert trainer.state.global_step == 8
    assert trainer.residual_optimizer.state_dict()["state"][0]["step"] == 4
    assert matrix(trainer).abs().max() > 0
    once = matrix(trainer).clone()
    with pytest.warns(UserWarning, match=f"checkpoint-4 {WITHOUT}"):  # what it has learned since has no part
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    torch.testing.assert_close(matrix(trainer), once, rtol=0, atol=0)


def test_checkpoint_of_plain_trainer_that_went_on_from_ours_is_resumed_alike(tmp_path: Path) -> None:
    """Its trainer_state.json has the entry of ours still."""
    trained(tmp_path, save_strategy="steps", save_steps=4, max_steps=4)
    plainly_trained(tmp_path, resume=True)
    trainer = make_trainer(tmp_path, num_train_epochs=3)
    with pytest.warns(UserWarning, match=f"checkpoint-8 {WITHOUT}"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert trainer.state.global_step == 12


def test_model_that_was_saved_with_its_state_is_resumed_alike(tmp_path: Path) -> None:
    trainer = trained(tmp_path, save_strategy="steps", save_steps=8)
    trainer.save_model(str(tmp_path / "saved"))
    trainer.args.output_dir = str(tmp_path / "saved")
    trainer.save_state()
    with pytest.warns(UserWarning, match=f"saved {WITHOUT}"):
        make_trainer(tmp_path, num_train_epochs=3).train(resume_from_checkpoint=str(tmp_path / "saved"))


def test_matrix_does_not_wait_for_the_folder_of_its_checkpoint(tmp_path: Path) -> None:
    """Which another process may make later, where weights are saved in shards."""
    criterion = KRLoss(NUM_LABELS)
    optimizer = torch.optim.Adam([criterion.residual_matrix])
    checkpoint = tmp_path / "run" / "checkpoint-2"
    save_residual_matrix(criterion, optimizer, str(checkpoint), TrainerState(stateful_callbacks=[]))
    assert load_file(checkpoint / RESIDUAL_FILE).keys() == {"residual_matrix"}


def test_callback_states_can_be_restored_beside_the_matrix(checkpoint: Path) -> None:
    trainer = make_trainer(checkpoint.parent, restore_callback_states_from_checkpoint=True)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert trainer.state.global_step == 8
    assert trainer.residual_optimizer.state_dict()["state"][0]["step"] == 8


@pytest.mark.filterwarnings("default:mtime may not be reliable:UserWarning")  # on some file systems, transformers 5.0
def test_deleted_checkpoints_take_their_matrix_along(tmp_path: Path) -> None:
    trained(tmp_path, save_strategy="steps", save_steps=2, save_total_limit=1)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob(RESIDUAL_FILE)] == [
        f"checkpoint-8/{RESIDUAL_FILE}"
    ]


@pytest.mark.parametrize("save_only_model", [False, True])
def test_best_model_comes_with_its_matrix(tmp_path: Path, save_only_model: bool) -> None:
    trainer = trained(
        tmp_path,
        save_only_model=save_only_model,
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # the first epoch, whose loss is the largest
        eval_dataset=rows(),
    )
    best = trainer.state.best_model_checkpoint
    assert best is not None
    assert json.loads((Path(best) / "trainer_state.json").read_text())["epoch"] == 1
    torch.testing.assert_close(matrix(trainer), load_file(Path(best) / RESIDUAL_FILE)["residual_matrix"])


def test_going_on_with_other_settings_of_the_loss_says_so(tmp_path: Path) -> None:
    trained(tmp_path, save_strategy="steps", save_steps=4)
    with pytest.warns(
        UserWarning, match="was written with label_smoothing=0.1; training goes on with label_smoothing=0.0"
    ):
        trained(tmp_path, loss="kr", resume=True, save_strategy="steps", save_steps=4, num_train_epochs=3)
