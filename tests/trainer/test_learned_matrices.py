"""Checkpoints with every loss: a resumed run equals an uninterrupted run, and the learned matrix is in the file."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertForSequenceClassification, set_seed

from kr_text.losses import LOSSES, NAMES, make_loss
from kr_text.trainer import KRTrainer, MutualPair, SofteningTrainer
from kr_text.trainer.residual_checkpoint import RESIDUAL_FILE, SOFTENING_FILE
from trainer_cases import NUM_LABELS, arguments, bert, bert_config, collate, rows, weights

FILES = (RESIDUAL_FILE, SOFTENING_FILE)
LEARNING = {"kr", "kr-ls", "kr-weighted", "ls++"}


def make_model(name: str) -> Any:
    first = bert(dropout=0.1)
    return first if name != "dml" else MutualPair(first, BertForSequenceClassification(bert_config(dropout=0.1)))


def make_trainer(folder: Path, name: str) -> Any:
    """Returns a trainer of two epochs of four steps, which saves a checkpoint after step 3."""
    args = arguments(folder, save_strategy="steps", save_steps=3)
    teacher_logits = torch.randn(32, NUM_LABELS, generator=torch.Generator().manual_seed(0)).tolist()
    data = rows().add_column("teacher_logits", teacher_logits) if name == "kd" else rows()
    model = make_model(name)
    set_seed(0)
    loss: Any = make_loss(name, model, NUM_LABELS, {})
    trainer: Any = KRTrainer if name in LOSSES else SofteningTrainer
    return trainer(model=model, args=args, train_dataset=data, data_collator=collate, loss=loss or "ce")


def learned_matrix(loss: Any) -> Tensor | None:
    """Returns the matrix of logits that a loss learns; cross-entropy has no loss object and learns none."""
    matrix: Tensor | None = None if loss is None else loss.learned_matrix()
    return matrix


def state(loss: nn.Module | None) -> dict[str, Tensor]:
    return {} if loss is None else dict(loss.state_dict())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Returns the trainer of a finished run, for the name of a loss."""

    @cache
    def run(name: str) -> Any:
        trainer = make_trainer(tmp_path_factory.mktemp("uninterrupted"), name)
        trainer.train()
        return trainer

    return run


@pytest.mark.parametrize("name", NAMES)
def test_resumed_run_equals_uninterrupted_run(tmp_path: Path, uninterrupted: Callable[[str], Any], name: str) -> None:
    whole = uninterrupted(name)
    shutil.copytree(Path(whole.args.output_dir) / "checkpoint-3", tmp_path / "checkpoint-3")
    resumed = make_trainer(tmp_path, name)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step == 8
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    torch.testing.assert_close(state(resumed.criterion), state(whole.criterion), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_holds_the_learned_matrix(uninterrupted: Callable[[str], Any], name: str) -> None:
    trainer = uninterrupted(name)
    matrix = learned_matrix(trainer.criterion)
    assert (matrix is not None and bool(matrix.any())) == (name in LEARNING)
    if matrix is not None:
        file = RESIDUAL_FILE if name in LOSSES else SOFTENING_FILE
        saved = load_file(Path(trainer.args.output_dir) / "checkpoint-8" / file)
        assert [entry for entry, tensor in saved.items() if torch.equal(tensor, matrix)] != []


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"ce"}))
def test_checkpoint_with_a_truncated_loss_is_refused(
    tmp_path: Path, uninterrupted: Callable[[str], Any], name: str
) -> None:
    shutil.copytree(Path(uninterrupted(name).args.output_dir) / "checkpoint-3", tmp_path / "checkpoint-3")
    (path,) = [tmp_path / "checkpoint-3" / file for file in FILES if (tmp_path / "checkpoint-3" / file).is_file()]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{path.name} must hold the state of the loss.*resume from another"):
        make_trainer(tmp_path, name).train(resume_from_checkpoint=True)
