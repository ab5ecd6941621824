import csv
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from kr_text.experiments.model_turns import ModelTurns
from kr_text.experiments.search_space import SPACES, STARTS, searched_models, starts, suggest
from kr_text.experiments.trials import Deadline, Stopped, TrialRecord, Trials, TrialWatch
from kr_text.experiments.tuning import describe, tune
from kr_text.models import MODELS
from kr_text.training.arguments import FIELDS, make_arguments, parse_training
from kr_text.training.report import Report
from kr_text.training.train import train
from training_cases import assert_same_run, report_of

Tune = Callable[..., Report]


@pytest.fixture
def tune_news(news: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """Searches on the news folder and presses Ctrl-C in the trial after `num_trials`."""

    def tune_news(folder: Path, *flags: str, num_trials: int, data: Path = news, **settings: Any) -> Report:
        run = Trials.run

        def interrupted(self: Trials, trial: optuna.Trial, values: dict[str, Any]) -> TrialRecord:
            if trial.number == num_trials:
                raise KeyboardInterrupt
            return run(self, trial, values)

        settings = {"minutes": 60.0, "overwrite": False, "command": "kr-text tune", "started": time.time(), **settings}
        with monkeypatch.context() as patch:
            patch.setattr(Trials, "run", interrupted)
            return tune(["--dataset", str(data), "--disable_tqdm", "true", *flags], str(folder), **settings)

    return tune_news


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, news: Path) -> Path:
    """Folder of a search that ended by itself; tests only read it."""
    folder = tmp_path_factory.mktemp("tune") / "tuned"
    flags = ["--dataset", str(news), "--disable_tqdm", "true"]
    tune(flags, str(folder), minutes=0.3, overwrite=False, command="kr-text tune --some flags", started=time.time())
    return folder


def trials_of(folder: Path) -> list[TrialRecord]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def best_of(folder: Path) -> TrialRecord:
    complete = [trial for trial in trials_of(folder) if trial["outcome"] == "complete"]
    return min(complete, key=lambda trial: (cast(float, trial["error_rate"]), trial["nll"]))


# A whole search


def test_a_search_leaves_the_model_its_recipe_and_the_trials(tuned: Path) -> None:
    names = {path.name for path in tuned.iterdir()}
    assert {"model.safetensors", "config.json", "report.md", "settings.json", "recipe.yaml", "trials.jsonl"} <= names
    assert not any(name.startswith("checkpoint") for name in names)
    first, *_ = trials_of(tuned)
    assert (first["number"], first["outcome"], first["values"]["model"]) == (0, "complete", "fasttext")
    assert first["error_rates"][-1] == first["error_rate"]


def test_the_model_has_the_settings_of_the_best_trial_and_all_rows(tuned: Path) -> None:
    report, best = report_of(tuned), best_of(tuned)["values"]
    assert (report["model"]["name"], report["loss"]["name"]) == (best["model"], best["loss"])
    assert report["hyper_parameters"]["learning_rate"] == best["learning_rate"]
    assert report["best_epoch"] == best["num_train_epochs"]
    rows = (report["dataset"][name] for name in ("num_train_rows", "num_validation_rows", "num_test_rows"))
    assert list(rows) == [240, 0, 60]


def test_the_recipe_trains_the_same_model_again(tuned: Path, tmp_path: Path) -> None:
    argv = ["--config", str(tuned / "recipe.yaml"), "--output_dir", str(tmp_path / "again")]
    assert report_of(tuned)["command"].startswith(f"kr-text train {' '.join(argv[:2])} --output_dir ")
    train(*parse_training(argv, "kr-text train"), command="", started=time.time())
    if not (tuned / "residual_matrix.safetensors").exists():  # the best loss may be one that learns none
        for folder in (tuned, tmp_path / "again"):
            (folder / "residual_matrix.safetensors").write_bytes((tuned / "model.safetensors").read_bytes())
    assert_same_run(tuned, tmp_path / "again")


def test_the_recipe_says_how_it_was_found(tuned: Path) -> None:
    best, text = best_of(tuned), (tuned / "recipe.yaml").read_text()
    assert text.startswith("# kr-text tune --some flags\n")
    assert f"# Trial {best['number']} had {best['error_rate']:.2f}% validation error" in text


# Ctrl-C


def test_ctrl_c_trains_the_best_so_far(tmp_path: Path, tune_news: Tune) -> None:
    report = tune_news(tmp_path / "tuned", num_trials=2)
    assert [trial["number"] for trial in trials_of(tmp_path / "tuned")] == [0, 1]
    assert report["hyper_parameters"]["learning_rate"] == best_of(tmp_path / "tuned")["values"]["learning_rate"]
    assert (tmp_path / "tuned" / "model.safetensors").exists()


def test_ctrl_c_in_the_first_trial_leaves_no_model(tmp_path: Path, tune_news: Tune) -> None:
    with pytest.raises(KeyboardInterrupt):
        tune_news(tmp_path, num_trials=0)
    assert [path.name for path in tmp_path.iterdir()] == ["trials.jsonl"]


def test_a_stop_in_the_final_training_leaves_the_recipe(
    tmp_path: Path, tune_news: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kr_text.experiments.tuning.train", stop)
    with pytest.raises(KeyboardInterrupt):
        tune_news(tmp_path, num_trials=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "trials.jsonl"]


# What the search depends on


def test_the_search_does_not_depend_on_the_test_rows(tmp_path: Path, tune_news: Tune, news: Path) -> None:
    other = tmp_path / "tiny_news"
    other.mkdir()
    (other / "train.csv").write_text((news / "train.csv").read_text())
    with (news / "test.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (other / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *([row[0][::-1], rows[0][1]] for row in rows)])
    found = []
    for data in (news, other):
        tune_news(tmp_path / data.parent.name, num_trials=2, data=data)
        trials = trials_of(tmp_path / data.parent.name)
        found.append([(trial["error_rates"], trial["nll"], trial["values"]["learning_rate"]) for trial in trials])
    assert found[0] == found[1]


def test_flags_of_a_training_run_are_not_searched(tmp_path: Path, tune_news: Tune) -> None:
    flags = [
        "--model",
        "transformer",
        "--loss",
        "kr",
        "--config_overrides",
        "hidden_size=16",
        "--learning_rate",
        "1e-3",
    ]
    report = tune_news(tmp_path, *flags, "--seed", "7", num_trials=1)
    (trial,) = trials_of(tmp_path)
    assert {"num_train_epochs", "per_device_train_batch_size", "loss_overrides"} <= trial["values"].keys()
    assert trial["values"]["config_overrides"] == "hidden_size=16"
    assert (report["model"]["name"], report["loss"]["name"], report["seed"]) == ("transformer", "kr", 7)
    assert report["hyper_parameters"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("flags", "settings", "message"),
    [
        (["--output_dir", "x", "--resume"], {}, "flags must leave --output_dir, --resume to the search, got --dataset"),
        (
            ["--config_overrides", "max_ngram=1"],
            {},
            "config_overrides must come with model, which is searched otherwise",
        ),
        (["--loss_overrides", "alpha=1"], {}, "loss_overrides must come with loss, which is searched otherwise"),
        (["--word_vectors", "glove.txt"], {}, "word_vectors must come with config_overrides, which is searched"),
        (["--learning_rate", "-1"], {}, "learning_rate must be"),
        ([], {"minutes": 0.0}, "minutes must be"),
        ([], {"minutes": math.nan}, "minutes must be"),
        ([], {"minutes": 1e-6}, "minutes must be enough for one trial, got 1e-06: give more, or fewer rows"),
        (["--dataset", "missing/data"], {}, "missing/data"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, tune_news: Tune, flags: list[str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        tune_news(tmp_path / "new", *flags, num_trials=1, **settings)
    assert not (tmp_path / "new").exists() or settings == {"minutes": 1e-6}


def test_a_folder_with_a_run_is_refused_unless_it_is_overwritten(
    tmp_path: Path, tune_news: Tune, run_folder: Path
) -> None:
    (tmp_path / "report.json").write_text((run_folder / "report.json").read_text())
    with pytest.raises(FileExistsError, match="holds a run already"):
        tune_news(tmp_path, num_trials=1)
    assert not (tmp_path / "trials.jsonl").exists()
    assert tune_news(tmp_path, num_trials=1, overwrite=True) == report_of(tmp_path)


def test_without_optuna_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "kr_text.experiments.search_space")
    with pytest.raises(ValueError, match=r"tune needs the package optuna: pip install 'kr-text\[tune\]'"):
        tune([], str(tmp_path), minutes=1, overwrite=False, command="", started=time.time())


# The search space


def test_every_searched_setting_is_one_of_the_model_or_of_the_training() -> None:
    for model, space in SPACES.items():
        config = MODELS[model][0]().to_dict() if model in MODELS else {}
        assert [name for name in space if name not in FIELDS and name not in config] == []


def test_every_start_lies_in_the_search_space() -> None:
    for start in STARTS:
        for name, value in start.items():
            if name not in ("model", "loss"):
                distribution = SPACES[start["model"]][name]
                assert distribution._contains(distribution.to_internal_repr(value)), name


def test_the_first_trials_have_the_settings_of_the_starts() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for params in starts({}, list(SPACES)):
        study.enqueue_trial(params)
    for start in STARTS:
        values = suggest(study.ask(), {}, list(SPACES))
        assert (values["model"], values["loss"]) == (start["model"], start["loss"])
        overrides = values["config_overrides"].split(",")
        for name in start.keys() - {"model", "loss"}:
            assert values.get(name) == start[name] or f"{name}={start[name]}" in overrides
        make_arguments({**values, "output_dir": "x"}, "kr-text tune")


def test_alpha_is_searched_for_kr_only() -> None:
    for loss in ("ce", "ls", "kr", "kr-ls"):
        values = suggest(optuna.create_study().ask(), {"loss": loss}, ["fasttext"])
        assert values.get("loss_overrides", "").startswith("alpha=") == loss.startswith("kr")


def test_charcnn_is_searched_only_with_much_time_and_a_pretrained_model_only_if_given() -> None:
    assert searched_models({}, 5) == ["fasttext", "textrnn", "transformer"]
    assert searched_models({}, 60) == ["fasttext", "textrnn", "transformer", "charcnn"]
    assert searched_models({"model": "owner/name"}, 5) == ["owner/name"]
    assert suggest(optuna.create_study().ask(), {"model": "owner/name"}, ["owner/name"])["learning_rate"] <= 2e-4


# Turns of the models


def record_of(model: str, outcome: str = "complete") -> TrialRecord:
    return cast(TrialRecord, {"values": {"model": model}, "outcome": outcome})


def test_after_the_starts_the_best_model_gets_two_of_three_trials_and_the_others_the_third_in_turn() -> None:
    turns = ModelTurns(["a", "b", "c"], [{"model": "b", "x": 1}], {})
    assert turns.fixed(0, None) == {"model": "b", "x": 1}
    chosen = [turns.fixed(number, record_of("b"))["model"] for number in range(1, 9)]
    assert chosen == ["b", "a", "b", "b", "c", "b", "b", "a"]
    assert turns.fixed(1, None) == {"model": "a"}


def test_a_model_that_is_too_slow_twice_gets_no_more_trials_unless_it_is_the_best() -> None:
    turns = ModelTurns(["a", "b"], [], {})
    for outcome in ("too slow", "pruned", "too slow"):
        assert [turns.fixed(number, record_of("a"))["model"] for number in (3, 4, 5)] == ["a", "a", "b"]
        turns.add(record_of("b", outcome))
    assert [turns.fixed(number, record_of("a"))["model"] for number in (3, 4, 5)] == ["a", "a", "a"]
    assert turns.fixed(3, record_of("b")) == {"model": "b"}


def test_a_given_model_is_not_chosen() -> None:
    assert ModelTurns(["a"], [], {"model": "a"}).fixed(5, record_of("a")) == {}


# When a trial is stopped

ARGS = cast(TrainingArguments, None)
CONTROL = TrainerControl()


class Clock:
    """A clock that tests set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("kr_text.experiments.trials.time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def state(step: int, max_steps: int = 100) -> TrainerState:
    return TrainerState(global_step=step, max_steps=max_steps)


def test_time_is_left_for_the_final_training(clock: Clock) -> None:
    deadline = Deadline(0.0, 300, loading=1, setup=3)
    assert deadline.final_seconds(6) == 20
    deadline.reserved = 20
    clock.now = 279
    assert deadline.left() == 1
    clock.now = 280
    with pytest.raises(Stopped, match="out of time"):
        TrialWatch(optuna.create_study().ask(), deadline).on_step_end(ARGS, state(1), CONTROL)


def test_a_trial_may_take_a_fifth_of_the_time(clock: Clock) -> None:
    deadline = Deadline(0.0, 300, reserved=10)
    assert deadline.allows(60, rest=60)
    assert not deadline.allows(61, rest=60)
    clock.now = 200
    assert deadline.allows(30, rest=30)  # the final training takes 50 s
    assert not deadline.allows(39, rest=39)  # 63.5 s


def test_the_first_trial_may_take_all_the_time(clock: Clock) -> None:
    deadline = Deadline(0.0, 300)
    assert deadline.allows(299, rest=299)
    assert not deadline.allows(301, rest=301)


def test_a_slow_trial_is_stopped_after_a_second_and_not_for_its_first_step(clock: Clock) -> None:
    """The first step takes 20 s, each other step 0.5 s, and 100 steps are too many for 60 s."""
    watch = TrialWatch(optuna.create_study().ask(), Deadline(0.0, 300, reserved=10))
    clock.now = 20
    watch.on_step_end(ARGS, state(1), CONTROL)
    clock.now = 21
    watch.on_step_end(ARGS, state(3, max_steps=75), CONTROL)
    clock.now = 21.5
    watch.on_step_end(ARGS, state(4, max_steps=75), CONTROL)  # 57 s
    with pytest.raises(Stopped, match="too slow"):
        watch.on_step_end(ARGS, state(4), CONTROL)


def test_a_trial_whose_loss_is_not_finite_is_stopped() -> None:
    watch = TrialWatch(optuna.create_study().ask(), Deadline(0.0, 1))
    watch.on_log(ARGS, state(1), CONTROL, logs={"loss": 2.0})
    with pytest.raises(Stopped, match="diverged"):
        watch.on_log(ARGS, state(1), CONTROL, logs={"loss": math.nan})


def test_a_trial_that_is_worse_than_most_after_the_same_part_is_pruned() -> None:
    """Ten epochs with 20% error after half of them, then a trial with two epochs and 60% error after the first."""
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0))
    good = TrialWatch(study.ask(), Deadline(0.0, 1))
    for epoch in range(1, 11):
        good.on_evaluate(ARGS, state(10 * epoch), CONTROL, metrics={"eval_error_rate": 20.0, "eval_nll": 1.0})
    study.tell(good.trial, 20.0)
    bad = TrialWatch(study.ask(), Deadline(0.0, 1))
    with pytest.raises(Stopped, match="pruned"):
        bad.on_evaluate(ARGS, state(50), CONTROL, metrics={"eval_error_rate": 60.0, "eval_nll": 1.0})


def test_a_trial_is_described_in_one_line() -> None:
    values: dict[str, Any] = {"dataset": "my/data", "model": "fasttext", "loss": "kr", "loss_overrides": "alpha=0.3"}
    values |= {"config_overrides": "max_ngram=2", "learning_rate": 0.125, "num_train_epochs": 10.0}
    record = cast(TrialRecord, {"values": values, "error_rate": 12.3456})
    assert describe(record) == (
        "validation error 12.35% with fasttext, kr, alpha=0.3, max_ngram=2, learning_rate=0.125, num_train_epochs=10"
    )
