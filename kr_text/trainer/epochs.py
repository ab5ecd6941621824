"""How a loss of ours follows the model's training: the epochs completed, and where its learning rate stands."""

import math
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EpochCounter(TrainerCallback):
    """Counts the epochs completed, which the Trainer tells as a fraction, in a run that resumes too.

    Attributes:
        epochs_completed: those before the one that runs.
    """

    def __init__(self) -> None:
        self.epochs_completed = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """To the epoch before that where training starts."""
        self.epochs_completed = math.floor(state.epoch or 0) - 1  # the epoch that is to begin, or to go on, is the next

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """One more is completed."""
        self.epochs_completed += 1


def share_of_peak(optimizer: torch.optim.Optimizer | None, peak: float) -> float:
    """The model's learning rate as a share of its peak; 1 without one, as for Adafactor with steps of its own.

    1 too where it is above what is noted as its peak, as by `CyclicLR`, which notes its least.

    Args:
        optimizer: the Trainer's, while it trains.
        peak: where neither a scheduler has noted it nor the optimizer.
    """
    assert optimizer is not None
    group = optimizer.param_groups[0]
    defaults = getattr(optimizer, "defaults", {})
    peak = group.get("max_lr", group.get("initial_lr", defaults.get("lr", peak)))  # the first is of OneCycleLR
    return min(1.0, float(group["lr"] / peak)) if peak and not group.get("relative_step") else 1.0
