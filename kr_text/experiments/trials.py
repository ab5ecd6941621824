"""One trial of a search: trains with given settings, and stops early if that cannot pay or takes too long."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from datasets import DatasetDict
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from kr_text.formats.overrides import parse_overrides
from kr_text.training.arguments import make_arguments
from kr_text.training.checkpointed import TrainingClock
from kr_text.training.fit import classifier_trainer
from kr_text.training.prepare import Encoded, prepare_rows
from kr_text.training.run_arguments import RunArguments

if TYPE_CHECKING:
    import optuna

PROGRAM = "kr-text tune"
TOO_SLOW = "too slow"  # outcome of a trial
CHANGE_TOKENS = ("num_frames", "char_ngram")  # settings of models that their tokenizers depend on
STEPS = 10  # parts of a training after which trials are compared
WARM_UP = 1.0  # seconds after the first step, in which loops may be compiled, until the speed of a training is known
# A trial stores nothing. It is compared by its last epoch, since the final training has no rows to choose an epoch by.
OF_TRIALS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "logging_strategy": "epoch",
    "logging_nan_inf_filter": False,
    "disable_tqdm": True,
    "report_to": "none",
}


class Stopped(Exception):  # noqa: N818  # not an error
    """A trial has been stopped; the message says why."""


class TrialRecord(TypedDict):
    """One trial, as a line of trials.jsonl.

    Attributes:
        number: Number of the trial, from 0.
        outcome: "complete", or why the trial was stopped.
        values: What was searched and given, as fields of `RunArguments` and `TrainingArguments`.
        error_rate: Validation error after the last epoch, in %; None for a stopped trial.
        nll: NLL of the validation rows after the last epoch, in nats.
        error_rates: Validation error after each epoch.
        seconds: Seconds of the trial.
        at: Seconds from the start of the search to the end of the trial.
    """

    number: int
    outcome: str
    values: dict[str, Any]
    error_rate: float | None
    nll: float | None
    error_rates: list[float]
    seconds: float
    at: float


@dataclass
class Deadline:
    """When the search has to end, and how much of the time a trial may take.

    Attributes:
        started: Time of the start, as returned by `time.time()`.
        seconds: Length of the search, including the final training.
        loading: Seconds to load the data.
        setup: Longest time to encode the rows and build a model, of the first trial of a model.
        reserved: Seconds for the final training with the best settings so far; 0 as long as there are none.
    """

    SHARE = 0.2  # of the time, for one trial

    started: float
    seconds: float
    loading: float = 0.0
    setup: float = 0.0
    reserved: float = 0.0

    def final_seconds(self, trial: float) -> float:
        """Estimated seconds of the final training and its report, for settings whose trial took `trial` seconds.

        It has more rows than the trial, loads them again, measures the test rows and saves the model.
        """
        return 1.5 * (trial + self.loading + self.setup) + 5.0

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.time() - self.started

    def left(self) -> float:
        """Seconds that are left for trials."""
        return self.seconds - self.reserved - self.elapsed()

    def allows(self, seconds: float, rest: float) -> bool:
        """Whether there is time for the rest of a trial of `seconds` in total, and for the final training after it.

        The first trial may take all the time, since there would be no model without it.
        """
        if not self.reserved:
            return rest <= self.left()
        return (
            seconds <= self.SHARE * self.seconds and self.elapsed() + rest + self.final_seconds(seconds) <= self.seconds
        )


class TrialWatch(TrainerCallback):
    """Reports the validation error to Optuna, and stops a trial that Optuna prunes, that diverges or is too slow."""

    def __init__(self, trial: "optuna.Trial", deadline: Deadline) -> None:
        self.trial, self.deadline = trial, deadline
        self.metrics: list[dict[str, float]] = []  # after each epoch
        self._began, self._first_step, self._reported = time.time(), 0.0, 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stops the trial if it will take too long."""
        if self.deadline.left() <= 0:
            raise Stopped("out of time")
        if state.global_step == 1:
            self._first_step = time.time()
        seconds = time.time() - self._first_step
        if seconds > WARM_UP:
            rest = seconds * (state.max_steps - state.global_step) / (state.global_step - 1)
            if not self.deadline.allows(time.time() - self._began + rest, rest):
                raise Stopped(TOO_SLOW)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Stops a trial whose loss is not finite, before its predictions are measured."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise Stopped("diverged")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Compares the trial with earlier ones after the same part of their training."""
        self.metrics.append({name: metrics[f"eval_{name}"] for name in ("error_rate", "nll")})
        step = STEPS * state.global_step // state.max_steps
        if step > self._reported:
            self._reported = step
            self.trial.report(self.metrics[-1]["error_rate"], step)
            if step < STEPS and self.trial.should_prune():
                raise Stopped("pruned")


@dataclass
class Trials:
    """Trains trials on rows that stay in memory, as texts and as the token ids of each model.

    Attributes:
        output_dir: Folder of the search; a trial writes nothing into it.
        deadline: When the search has to end.
        data: What `load_for` returns.
    """

    output_dir: str
    deadline: Deadline
    data: DatasetDict
    _encoded: dict[str, Encoded] = field(default_factory=dict)  # by `_tokens`

    def run(self, trial: "optuna.Trial", values: Mapping[str, Any]) -> TrialRecord:
        """Trains with the values.

        Raises:
            ValueError: The values are wrong, or do not fit the data.
        """
        began = time.time()
        run, args = make_arguments({**values, **OF_TRIALS, "output_dir": self.output_dir}, PROGRAM)
        watch = TrialWatch(trial, self.deadline)
        outcome = "complete"
        try:
            self._train(run, args, watch)
        except Stopped as reason:
            outcome = str(reason)
        last = watch.metrics[-1] if outcome == "complete" else None
        return {
            "number": trial.number,
            "outcome": outcome,
            "values": dict(values),
            "error_rate": last["error_rate"] if last else None,
            "nll": last["nll"] if last else None,
            "error_rates": [each["error_rate"] for each in watch.metrics],
            "seconds": time.time() - began,
            "at": self.deadline.elapsed(),
        }

    def _train(self, run: RunArguments, args: TrainingArguments, watch: TrialWatch) -> None:
        began, tokens = time.time(), _tokens(run)
        # Only a run that saves its settings needs the fingerprint of the data.
        prepared = prepare_rows(run, args, self.data, "", earlier=self._encoded.get(tokens))
        self._encoded[tokens] = Encoded(prepared.tokenizer, prepared.encoded)
        self.deadline.setup = max(self.deadline.setup, time.time() - began)
        trainer = classifier_trainer(run, args, prepared, TrainingClock(), None)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watch)
        trainer.train()


def _tokens(run: RunArguments) -> str:
    """A key that is equal for runs of a search that have the same tokens."""
    settings = parse_overrides(run.config_overrides, "config_overrides")
    return f"{run.model} {[settings.get(name) for name in CHANGE_TOKENS]}"
