"""Saves and restores what a loss learns (S for KR), and its optimizer, in the Trainer's checkpoints.

KRTrainer writes `residual_matrix.safetensors`, SofteningTrainer `softening_loss.safetensors`. Both hold the tensors of
the loss's `state_dict()` by their names, and Adam's moments of a parameter as `adam.PARAMETER.MOMENT`. Resuming
restores them bit for bit.
"""

import os
import warnings
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerState

from kr_text.formats.overrides import differences
from kr_text.losses.knowledge_refinery import KRLoss

RESIDUAL_FILE = "residual_matrix.safetensors"
SOFTENING_FILE = "softening_loss.safetensors"
# In trainer_state.json, with the step and the settings of the loss: that step's checkpoint must have RESIDUAL_FILE.
LOSS_ENTRY = "KRLoss"
WAY_OUT = "resume from another checkpoint, or start training again"


def save_loss(path: str, loss: nn.Module, optimizer: torch.optim.Optimizer | None, **counters: int) -> None:
    """Writes the state of a loss and of its optimizer to a file.

    Args:
        path: File to write. Its folder is created if necessary.
        loss: Loss whose `state_dict()` is saved.
        optimizer: Optimizer of the loss's parameters, None for a loss without parameters.
        counters: Numbers to save beside the tensors.
    """
    tensors: dict[str, Tensor] = loss.state_dict()
    if optimizer is not None:
        for name, parameter in loss.named_parameters():
            tensors |= {f"adam.{name}.{moment}": value for moment, value in optimizer.state[parameter].items()}
    tensors |= {name: torch.tensor(count) for name, count in counters.items()}
    os.makedirs(os.path.dirname(path), exist_ok=True)  # the Trainer creates it later if it saves sharded weights
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


def load_loss(path: str, loss: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, int]:
    """Restores what `save_loss` wrote, bit for bit.

    Returns:
        The saved counters.

    Raises:
        ValueError: The file is missing, truncated, or for a loss with other tensors.
    """
    own = loss.state_dict()
    device = next((str(value.device) for value in own.values()), "cpu")
    try:
        tensors = load_file(path, device=device)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} must hold the state of the loss, got: {error}; {WAY_OUT}") from error
    for name, value in own.items():
        got = tuple(tensors[name].shape) if name in tensors else "no such tensor"
        if got != tuple(value.shape):
            raise ValueError(f"{path}: {name} must be {tuple(value.shape)}, got {got}; {WAY_OUT}")
    loss.load_state_dict({name: tensors.pop(name) for name in own})
    if optimizer is not None:
        for name, parameter in loss.named_parameters():
            prefix = f"adam.{name}."
            moments = [entry for entry in tensors if entry.startswith(prefix)]
            optimizer.state[parameter] = {entry.removeprefix(prefix): tensors.pop(entry) for entry in moments}
    return {name: int(value) for name, value in tensors.items()}


def has_residual_matrix(checkpoint: str) -> bool:
    """Returns whether a checkpoint of KRTrainer holds a residual matrix."""
    return os.path.isfile(os.path.join(checkpoint, RESIDUAL_FILE))


def save_residual_matrix(
    criterion: KRLoss, optimizer: torch.optim.Optimizer, checkpoint: str, state: TrainerState
) -> None:
    """Saves S and its optimizer in a checkpoint of KRTrainer, and records the settings of the loss in the state.

    Args:
        criterion: Loss that owns S.
        optimizer: Optimizer of S alone.
        checkpoint: Folder of the checkpoint.
        state: State of the Trainer, which the Trainer writes to the checkpoint afterwards.
    """
    save_loss(os.path.join(checkpoint, RESIDUAL_FILE), criterion, optimizer)
    entry = {"global_step": state.global_step, **criterion.settings()}
    cast(dict[str, Any], state.stateful_callbacks)[LOSS_ENTRY] = entry


def load_residual_matrix(criterion: KRLoss, optimizer: torch.optim.Optimizer, checkpoint: str) -> bool:
    """Restores what `save_residual_matrix` wrote. Warns if the loss had other settings.

    Returns:
        False if the checkpoint was written without KRLoss, in which case nothing changes. True otherwise.

    Raises:
        ValueError: The residual matrix of the checkpoint is missing, truncated, or of another size.
    """
    # transformers 5.0 has not loaded the Trainer's state at this point.
    state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
    entries: dict[str, Any] = state.stateful_callbacks or {}
    entry = entries.get(LOSS_ENTRY) or {}
    # A plain Trainer that resumes from a checkpoint of KRTrainer copies the entry unchanged into later checkpoints.
    if not has_residual_matrix(checkpoint) and entry.get("global_step") != state.global_step:
        return False
    was, now = differences(entry, criterion.settings())
    if was:
        warnings.warn(f"{checkpoint} was written with {was}; training continues with {now}", stacklevel=2)
    load_loss(os.path.join(checkpoint, RESIDUAL_FILE), criterion, optimizer)
    return True
