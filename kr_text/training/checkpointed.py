"""Callbacks whose state is stored in the Trainer's checkpoints and restored when a run resumes."""

import time
from typing import Any, cast

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState


class Checkpointed(TrainerCallback, ExportableState):
    """A callback whose record is stored in trainer_state.json.

    Use at most one callback of each subclass: records are stored under the name of the class.
    """

    def record(self) -> Any:
        """The state to store, as a JSON value."""
        raise NotImplementedError

    def restore(self, record: Any) -> None:
        """Continues from a record. Called when training begins, with the current record if there is no checkpoint."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """The record in the format of `ExportableState.state`."""
        return {"args": {}, "attributes": {"record": self.record()}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restores the record of the checkpoint that training resumes from."""
        saved = cast(dict[str, Any], state.stateful_callbacks)
        own = saved.setdefault(type(self).__name__, self.state())  # a checkpoint written by other code has no record
        self.restore(own["attributes"]["record"])


class TrainingClock(Checkpointed):
    """Measures seconds of training across interruptions.

    Attributes:
        seconds_before: Seconds of training up to the checkpoint that training resumed from.
    """

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self._began: float | None = None

    def record(self) -> float:
        """Seconds of training so far."""
        return self.seconds_before + (0.0 if self._began is None else time.time() - self._began)

    def restore(self, record: float) -> None:
        """Starts the clock at the seconds in a record."""
        self.seconds_before, self._began = record, time.time()


class EarlyStopping(Checkpointed, EarlyStoppingCallback):
    """Stops training after a number of evaluations in a row without a better metric, counted across interruptions.

    A run that is resumed after it stopped trains one step and is not evaluated again. The Trainer can then load the
    best model, as it did before.
    """

    def record(self) -> int:
        """Number of evaluations in a row without a better metric."""
        return int(self.early_stopping_patience_counter)

    def restore(self, record: int) -> None:
        """Continues with the number of evaluations in a record."""
        self.early_stopping_patience_counter = record

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restores the record of the checkpoint, and stops if the patience was at its end there."""
        super().on_train_begin(args, state, control, **kwargs)
        self._stopped_before = self.record() >= self.early_stopping_patience
        control.should_training_stop = self._stopped_before

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves out the evaluation and the checkpoint of a run that had stopped before it was resumed."""
        if self._stopped_before:
            control.should_evaluate = control.should_save = False
