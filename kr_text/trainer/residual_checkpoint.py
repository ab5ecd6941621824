"""The residual matrix and its optimizer in the Trainer's checkpoints, from which they come back bit for bit."""

import os
import warnings
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerState

from kr_text.formats.overrides import differences
from kr_text.losses.knowledge_refinery import KRLoss

RESIDUAL_FILE = "residual_matrix.safetensors"
LOSS_ENTRY = (
    "KRLoss"  # of trainer_state.json, with the step and the settings: the checkpoint of that step must have the file
)


def has_residual_matrix(checkpoint: str) -> bool:
    """Whether the checkpoint holds one."""
    return os.path.isfile(_residual_file(checkpoint))


def save_residual_matrix(
    criterion: KRLoss, optimizer: torch.optim.Optimizer, checkpoint: str, state: TrainerState
) -> None:
    """Writes S and the moments of its optimizer to a checkpoint, and the loss's settings to the state that goes there.

    Args:
        criterion: whose matrix it is.
        optimizer: of the matrix alone.
        checkpoint: a folder.
        state: the Trainer's, which it writes last.
    """
    os.makedirs(checkpoint, exist_ok=True)  # which the Trainer leaves for later where weights are saved in shards
    matrix = criterion.residual_matrix
    moments = {f"adam.{name}": value.contiguous() for name, value in optimizer.state[matrix].items()}
    save_file({"residual_matrix": matrix.detach().contiguous(), **moments}, _residual_file(checkpoint))
    entry = {"global_step": state.global_step, **criterion.settings()}
    cast(dict[str, Any], state.stateful_callbacks)[LOSS_ENTRY] = entry


def load_residual_matrix(criterion: KRLoss, optimizer: torch.optim.Optimizer, checkpoint: str) -> bool:
    """Restores what `save_residual_matrix` wrote; warns where the loss had other settings.

    Returns:
        Whether there was anything: not so where the checkpoint was written without KRLoss.

    Raises:
        ValueError: the checkpoint has lost its matrix, or has one of another size.
    """
    path, matrix = _residual_file(checkpoint), criterion.residual_matrix
    # Read anew: transformers 5.0 has not loaded the trainer's state by now.
    state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
    entries: dict[str, Any] = state.stateful_callbacks or {}
    entry = entries.get(LOSS_ENTRY) or {}
    # Another Trainer that went on from a checkpoint of ours writes the entry again, as it was, into later ones.
    if not has_residual_matrix(checkpoint) and entry.get("global_step") != state.global_step:
        return False
    was, now = differences(entry, criterion.settings())
    if was:
        warnings.warn(f"{checkpoint} was written with {was}; training goes on with {now}", stacklevel=2)
    way_out = "resume from another checkpoint, or start anew"
    try:
        tensors = load_file(path, device=str(matrix.device))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} must hold the residual matrix, got: {error}; {way_out}") from error
    saved = tensors.pop("residual_matrix")
    if saved.shape != matrix.shape:
        expected, got = tuple(matrix.shape), tuple(saved.shape)
        raise ValueError(f"{path}: the residual matrix must be {expected}, got {got}; {way_out}")
    with torch.no_grad():
        matrix.copy_(saved)
    optimizer.state[matrix] = {name.removeprefix("adam."): value for name, value in tensors.items()}
    return True


def _residual_file(checkpoint: str) -> str:
    return os.path.join(checkpoint, RESIDUAL_FILE)
