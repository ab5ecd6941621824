"""Epoch count for the losses: alpha follows the completed epochs."""

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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
        """Starts the count one too low: `on_epoch_begin` adds 1, also for a resumed epoch."""
        self.epochs_completed = math.floor(state.epoch or 0) - 1

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adds one epoch."""
        self.epochs_completed += 1
