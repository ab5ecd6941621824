import time
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from kr_text.training.checkpointed import TrainingClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> TrainingClock:
    """A TrainingClock whose time advances by one second at each reading."""
    seconds = iter(range(1000))
    monkeypatch.setattr(time, "time", lambda: float(next(seconds)))
    return TrainingClock()


def begin(clock: TrainingClock, states: Any) -> None:
    state = TrainerState(stateful_callbacks=states)
    clock.on_train_begin(TrainingArguments(use_cpu=True), state, TrainerControl())


def test_the_clock_starts_when_training_begins(clock: TrainingClock) -> None:
    assert clock.record() == 0
    begin(clock, [clock])
    assert (clock.seconds_before, clock.record(), clock.record()) == (0, 1, 2)


def test_the_clock_continues_from_the_record_of_a_checkpoint(clock: TrainingClock) -> None:
    saved = {"TrainingClock": {"args": {}, "attributes": {"record": 50.0}}}
    begin(clock, saved)
    assert (clock.seconds_before, clock.record()) == (50, 51)
    assert clock.state() == {"args": {}, "attributes": {"record": 52.0}}


def test_a_checkpoint_without_a_record_starts_the_clock_at_zero(clock: TrainingClock) -> None:
    saved: dict[str, Any] = {}
    begin(clock, saved)
    assert (clock.seconds_before, clock.record()) == (0, 1)
    assert saved.keys() == {"TrainingClock"}  # the Trainer stores the next record here
