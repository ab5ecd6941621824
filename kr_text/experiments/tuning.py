"""Search for the model and the settings with the lowest validation error within a given time, with Optuna.

The search ends early enough to train the best settings once more, on the training and the validation rows. The test
rows are used once, to report on this model.
"""

import json
import logging
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kr_text.experiments.model_turns import ModelTurns
from kr_text.experiments.trials import PROGRAM, Deadline, TrialRecord, Trials
from kr_text.formats.whole_files import write_text
from kr_text.ranges import in_range
from kr_text.training.arguments import command_line, make_arguments, parse_values
from kr_text.training.load_data import load_for
from kr_text.training.report import Report
from kr_text.training.resume import find_start
from kr_text.training.train import train

RECIPE_FILE, TRIALS_FILE = "recipe.yaml", "trials.jsonl"
OWN_FLAGS = {  # flags of `kr-text train` that the search sets itself
    "output_dir",
    "resume",
    "overwrite",
    "resume_from_checkpoint",
    "train_on_validation",
    "metric_for_best_model",
    "load_best_model_at_end",
    "eval_strategy",
    "save_strategy",
    "max_steps",
}

logger = logging.getLogger(__name__)


def tune(
    flags: Sequence[str], output_dir: str, *, minutes: float, overwrite: bool, command: str, started: float
) -> Report:
    """Searches model and settings, trains the best on all rows but the test rows, and reports on the test rows.

    `output_dir` then holds what `kr_text.training.train.train` leaves, recipe.yaml, which `kr-text train --config`
    takes and which trains the same model, and trials.jsonl with a line for each trial. Both files are written during
    the search. Ctrl-C ends the search, not the final training.

    Args:
        flags: Flags of `kr-text train`. What they set is not searched.
        output_dir: Folder of the model.
        minutes: Time from `started` to the end of the final training.
        overwrite: Whether to replace a run in `output_dir`.
        command: Command line, for the recipe file.
        started: Time when the command was started, as returned by `time.time()`.

    Raises:
        ValueError: The arguments or the data are wrong, Optuna is missing, or no trial was complete in time.
        FileExistsError: The folder holds a run.
    """
    try:
        from kr_text.experiments.search_space import searched_models
    except ImportError as error:
        raise ValueError("tune needs the package optuna: pip install 'kr-text[tune]'") from error
    in_range("minutes", minutes, 0, open_low=True)
    given = _given(flags)
    models = searched_models(given, minutes)
    final = {"output_dir": output_dir, "overwrite": overwrite}
    run, args = make_arguments({**given, **final}, PROGRAM)
    find_start(run, args)
    began, data = time.time(), load_for(run)
    deadline = Deadline(started, 60 * minutes, loading=time.time() - began)
    trials = Trials(output_dir, deadline, data)
    best = _search(_Search(given, models, trials, command), deadline)
    logger.info("%.0f s: training the best settings on the training and the validation rows", deadline.elapsed())
    run, args = make_arguments({**_recipe(best), **final}, PROGRAM)
    argv = ["kr-text", "train", "--config", str(Path(output_dir) / RECIPE_FILE), "--output_dir", output_dir]
    return train(run, args, command=command_line(argv), started=started)


def _given(flags: Sequence[str]) -> dict[str, Any]:
    """Values by field name that are not searched."""
    given = parse_values(flags, PROGRAM)
    if own := sorted(given.keys() & OWN_FLAGS):
        raise ValueError(f"flags must leave --{', --'.join(own)} to the search, got {shlex.join(flags)}")
    return given


def _search(search: "_Search", deadline: Deadline) -> TrialRecord:
    """Runs trials until the time is up or Ctrl-C is pressed, and returns the best."""
    try:
        while deadline.left() > 0:
            search.run_trial()
    except KeyboardInterrupt:
        if search.best is None:
            raise
        logger.warning("Ctrl-C has ended the search; a second one leaves recipe.yaml and no model")
    if search.best is None:
        raise ValueError(
            f"minutes must be enough for one trial, got {deadline.seconds / 60:g}: give more, or fewer rows with "
            "--max_train_rows"
        )
    return search.best


class _Search:
    """The trials of a search, and the best so far; each trial is in trials.jsonl as soon as it ends.

    Args:
        given: Values that are not searched.
        models: Models to choose from.
        trials: Trains the trials; recipe.yaml and trials.jsonl are written to its `output_dir`.
        command: Command line, for the recipe file.
    """

    def __init__(self, given: Mapping[str, Any], models: list[str], trials: Trials, command: str) -> None:
        import optuna

        from kr_text.experiments.search_space import starts

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.given, self.models, self.trials, self.command = given, models, trials, command
        self.folder = Path(trials.output_dir)
        self.study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=given.get("seed", 0), n_startup_trials=8),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2),
        )
        self.turns = ModelTurns(models, starts(given, models), given)
        self.best: TrialRecord | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text("", self.folder / TRIALS_FILE)

    def run_trial(self) -> None:
        """Runs one trial, and keeps it if it is the best."""
        from optuna.trial import TrialState

        from kr_text.experiments.search_space import suggest

        self.study.enqueue_trial(self.turns.fixed(len(self.study.trials), self.best))
        trial = self.study.ask()
        record = self.trials.run(trial, suggest(trial, self.given, self.models))
        with (self.folder / TRIALS_FILE).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.turns.add(record)
        if record["outcome"] != "complete":
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        self.study.tell(trial, _objective(record))
        if self.best is None or _objective(record) < _objective(self.best):
            self._keep(record)

    def _keep(self, best: TrialRecord) -> None:
        self.best = best
        deadline = self.trials.deadline
        deadline.reserved = deadline.final_seconds(best["seconds"])
        write_text(_recipe_text(best, self.command), self.folder / RECIPE_FILE)
        logger.info("%4.0f s, trial %d: %s", best["at"], best["number"], describe(best))


def _objective(record: TrialRecord) -> float:
    """What the search minimizes: the validation error in %; the NLL decides between equal errors."""
    error, nll = record["error_rate"], record["nll"]
    assert error is not None
    assert nll is not None
    return error + 1e-3 * math.tanh(nll)


def describe(record: TrialRecord) -> str:
    """A trial in one line: the validation error, the model, and the settings."""
    values = dict(record["values"])
    shown = [values.pop("model"), values.pop("loss")]
    shown += [values.pop(name) for name in ("loss_overrides", "config_overrides") if name in values]
    shown += [f"{name}={value:g}" for name, value in values.items() if isinstance(value, int | float)]
    return f"validation error {record['error_rate']:.2f}% with {', '.join(shown)}"


def _recipe(best: TrialRecord) -> dict[str, Any]:
    """Values for the final training, which needs no checkpoints: it is as short as a trial."""
    return {**best["values"], "train_on_validation": True, "save_strategy": "no"}


def _recipe_text(best: TrialRecord, command: str) -> str:
    """The recipe file: how the settings were found, and the settings."""
    return (
        f"# {command}\n"
        f"# Trial {best['number']} had {best['error_rate']:.2f}% validation error, trained on the training rows only.\n"
        "# This recipe trains on the validation rows too: kr-text train --config THIS_FILE --output_dir FOLDER\n"
    ) + yaml.safe_dump(_recipe(best), sort_keys=False, allow_unicode=True)
