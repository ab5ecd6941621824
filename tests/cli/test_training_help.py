"""Help of `kr-text train` and `kr-text compare`."""

import re
from collections.abc import Callable
from dataclasses import fields

import pytest
from transformers import TrainingArguments

from kr_text.cli.help import GROUPS
from kr_text.experiments.comparison import OWN_FLAGS
from kr_text.training.flags import ALIASES
from kr_text.training.recipes import recipe
from kr_text.training.run_arguments import RunArguments

Main = Callable[..., int]
Help = Callable[..., str]


@pytest.fixture
def help_of(kr_text: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Help:
    """The printed help: help_of("train", "--model", "textrnn")."""
    monkeypatch.setenv("COLUMNS", "80")

    def help_of(command: str, *flags: str, flag: str = "--help") -> str:
        assert kr_text(command, *flags, flag) == 0
        return capsys.readouterr().out

    return help_of


def flags_in(text: str) -> list[str]:
    return re.findall(r"^  --(\w[\w-]*)", text, re.MULTILINE)


def entry(text: str, flag: str) -> str:
    """The entry of a flag, on one line."""
    (found,) = re.findall(rf"^  --{flag}\b.*(?:\n {{4,}}.*)*", text, re.MULTILINE)
    return " ".join(found.split())


def test_the_flags_come_in_groups_and_the_most_important_first(help_of: Help) -> None:
    text = help_of("train")
    titles = re.findall(r"^(\w[^\n]*):$", text, re.MULTILINE)
    assert titles == ["data", "model", "loss", "training", "help"]
    assert flags_in(text) == [*(name for names in GROUPS.values() for name in names), "help", "help-all"]
    assert flags_in(text)[0] == "dataset"
    important = ["num_train_epochs", "per_device_train_batch_size", "learning_rate", "seed", "output_dir"]
    assert {*important, "resume", "overwrite", "config"} <= set(GROUPS["training"])


def test_every_argument_of_a_run_is_in_a_group() -> None:
    shown = {name for names in GROUPS.values() for name in names}
    assert {field.name for field in fields(RunArguments)} <= shown


def test_the_last_line_says_that_all_fields_of_the_trainer_are_flags(help_of: Help) -> None:
    for command in ("train", "compare"):
        last = f"All other fields of TrainingArguments are flags: `kr-text {command} --help-all`"
        assert help_of(command).splitlines()[-1] == last


@pytest.mark.parametrize(("command", "left_out"), [("train", set()), ("compare", OWN_FLAGS)])
def test_help_all_has_every_flag_once(help_of: Help, command: str, left_out: set[str]) -> None:
    flags = flags_in(help_of(command, flag="--help-all"))
    every = {field.name for field in [*fields(RunArguments), *fields(TrainingArguments)]}
    assert every - left_out <= set(flags)
    assert len(flags) == len(set(flags))


def test_a_default_that_the_recipe_sets_is_the_default_shown(help_of: Help) -> None:
    text = help_of("train", "--recipe", "benchmarks")
    training = recipe("fasttext", "synthetic_news").training
    assert entry(text, "learning_rate").endswith("peak learning rate; default: 0.05 (recipe)")
    assert f"default: {training['num_train_epochs']} (recipe)" in entry(text, "num_train_epochs")
    assert entry(text, "max_length").endswith("default: 512 (recipe)")
    assert "default: embedding_dim=10, max_ngram=2, num_buckets=500000 (recipe)" in entry(text, "config_overrides")
    assert "are for fasttext on synthetic_news" in " ".join(text.split())


@pytest.mark.parametrize("command", ["train", "compare"])
def test_the_recipe_is_that_of_the_model_and_the_data_set_on_the_command_line(help_of: Help, command: str) -> None:
    text = help_of(command, "--model", "fasttext", "--dataset", "ag_news", "--learning_rate", "9")
    assert entry(text, "learning_rate").endswith("default: 0.3 (recipe)")
    assert entry(text, "per_device_train_batch_size").endswith("default: 2048 (recipe)")
    text = help_of(command, "--model", "textrnn", "--recipe", "ag_news")
    assert entry(text, "learning_rate").endswith("default: 0.002 (recipe)")
    assert "are for textrnn on synthetic_news" in " ".join(text.split())


@pytest.mark.parametrize("dataset", ["synthetic_news", "somewhere/ag_news.csv"])
def test_a_default_that_follows_the_data_is_said_to_be_computed(help_of: Help, dataset: str) -> None:
    text = help_of("train", "--dataset", dataset)
    for name in ("num_train_epochs", "per_device_train_batch_size", "learning_rate", "max_length", "config_overrides"):
        assert entry(text, name).endswith("default: computed from the data")
    assert "(recipe)" not in text.partition("\ndata:")[2]


def test_the_recipe_is_also_that_of_a_data_set_without_its_flag(help_of: Help) -> None:
    assert "are for fasttext on ag_news.csv" in " ".join(help_of("train", "--epochs", "2", "ag_news.csv").split())


@pytest.mark.parametrize("command", ["train", "compare"])
def test_an_alias_stands_beside_its_flag(help_of: Help, command: str) -> None:
    text = help_of(command)
    for alias, name in ALIASES.items():
        assert re.match(rf"--{name}( \w+)?, --{alias} [A-Z]+ \w+", entry(text, name))


def test_other_defaults_are_those_of_the_run_or_else_of_the_trainer(help_of: Help) -> None:
    text = help_of("train", flag="--help-all")
    assert entry(text, "metric_for_best_model").endswith("default: error_rate")  # None for the Trainer
    assert entry(text, "load_best_model_at_end").endswith("default: True")  # False for the Trainer
    assert entry(text, "seed").endswith("default: 42")
    assert entry(text, "loss").endswith("default: kr-ls")
    assert entry(text, "resume") == "--resume resume from the last checkpoint in output_dir"
    assert entry(text, "output_dir").endswith("default: runs/MODEL-DATASET-LOSS")


def test_compare_has_its_own_flags_first_and_leaves_out_those_that_differ_between_runs(help_of: Help) -> None:
    text = help_of("compare")
    assert flags_in(text)[:5] == ["losses", "seeds", "folds", "output_dir", "dataset"]
    assert flags_in(text).count("output_dir") == 1
    assert {"loss", "seed", "fold", "resume", "overwrite"} & set(flags_in(text)) == set()
