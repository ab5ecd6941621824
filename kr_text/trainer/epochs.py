"""Epoch count and learning-rate fraction for losses with parameters of their own."""

import math
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

RESIDUAL_LEARNING_RATE = 1e-2  # Adam's, for the residual matrix or whatever else a loss learns


class EpochCounter(TrainerCallback):
    """Counts the completed epochs, also in a resumed run. The Trainer itself reports epochs as a fraction.

    Attributes:
        epochs_completed: Number of epochs before the current epoch.
    """

    def __init__(self) -> None:
        self.epochs_completed = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts counting one epoch before the first."""
        self.epochs_completed = math.floor(state.epoch or 0) - 1  # on_epoch_begin follows, also in a resumed epoch

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adds one epoch."""
        self.epochs_completed += 1


def learning_rate_fraction(trainer: Trainer) -> float:
    """Returns the model's current learning rate as a fraction of its peak, in [0, 1].

    The peak is the first of these that exists: `max_lr` (set by `OneCycleLR`) and `initial_lr` (set by other
    schedulers) of the optimizer's first parameter group, the optimizer's default, and `args.learning_rate`.

    The fraction is 1 without a learning rate (a peak of 0, or Adafactor with relative steps), and where the rate
    exceeds the recorded peak: `CyclicLR` records its lowest rate as `initial_lr`.

    Args:
        trainer: A Trainer that is training, and so has an optimizer.
    """
    assert trainer.optimizer is not None
    group = trainer.optimizer.param_groups[0]
    defaults = getattr(trainer.optimizer, "defaults", {})
    peak = group.get("max_lr", group.get("initial_lr", defaults.get("lr", trainer.args.learning_rate)))
    return min(1.0, float(group["lr"] / peak)) if peak and not group.get("relative_step") else 1.0
