"""Callbacks that keep what they know in the Trainer's checkpoints, so that a run that goes on knows what was before."""

import time
from typing import Any, cast

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState


class Checkpointed(TrainerCallback, ExportableState):
    """A callback whose record is in each checkpoint's trainer_state.json; one of a class in each Trainer."""

    def record(self) -> Any:
        """What it knows so far, as JSON can hold it."""
        raise NotImplementedError

    def restore(self, record: Any) -> None:
        """Takes the record of a checkpoint when training begins, or its own where there is no checkpoint."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """As `ExportableState.state`."""
        return {"args": {}, "attributes": {"record": self.record()}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Reads the record of the checkpoint that training goes on from, if it has one."""
        saved = cast(dict[str, Any], state.stateful_callbacks)
        own = saved.setdefault(type(self).__name__, self.state())  # the checkpoint may be written without it
        self.restore(own["attributes"]["record"])


class TrainingClock(Checkpointed):
    """Seconds of training, with those up to the checkpoint that it goes on from.

    Attributes:
        seconds_before: those up to that checkpoint.
    """

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self._began: float | None = None

    def record(self) -> float:
        """All seconds so far."""
        return self.seconds_before + (0.0 if self._began is None else time.time() - self._began)

    def restore(self, record: float) -> None:
        """Starts at a record."""
        self.seconds_before, self._began = record, time.time()
