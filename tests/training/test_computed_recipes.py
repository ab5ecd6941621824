import dataclasses
import inspect
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import TrainingArguments

import kr_text.training.computed_recipes
from kr_text.data.sources import HUB_DATASETS, load
from kr_text.models import FastTextConfig
from kr_text.training.arguments import MIN_PATIENCE, parse_training
from kr_text.training.build import recipe_for
from kr_text.training.computed_recipes import (
    FEW_ROWS,
    MANY_ROWS,
    computed_recipe,
    describe,
    fasttext_recipe,
    fixed_recipe_name,
    pretrained_recipe,
)
from kr_text.training.data_size import DataSize, data_size
from kr_text.training.network_recipes import textrnn_recipe
from kr_text.training.prepare import log_settings
from kr_text.training.recipes import Recipe, recipe
from kr_text.training.run_arguments import RunArguments

FLAGS = ["--output_dir", "same"]
SIZE = DataSize(num_rows=1000, num_classes=4, smallest_class=200, words_median=12, words_95=30, characters_95=150)


def of_rows(num_rows: int) -> DataSize:
    return dataclasses.replace(SIZE, num_rows=num_rows)


def parse(*flags: str) -> tuple[RunArguments, TrainingArguments]:
    return parse_training([*FLAGS, *flags], "kr-text train")


@pytest.fixture(scope="module")
def rows(news: Path) -> Dataset:
    return load(str(news))["train"]


# The choice of the recipe


@pytest.mark.parametrize("name", HUB_DATASETS)
def test_a_benchmark_by_its_name_has_its_recipe(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fixed_recipe_name("auto", name) == name


@pytest.mark.parametrize("dataset", ["ag_news", "./ag_news", "data/ag_news", "ag_news.csv", "synthetic_news", "me/ag"])
def test_files_and_folders_have_a_computed_recipe_whatever_their_name(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ag_news").mkdir()
    assert fixed_recipe_name("auto", dataset) is None


@pytest.mark.parametrize("name", ["benchmarks", "yahoo_answers"])
@pytest.mark.parametrize("dataset", ["ag_news", "my.csv"])
def test_a_recipe_that_is_given_wins(name: str, dataset: str) -> None:
    assert fixed_recipe_name(name, dataset) == name


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--recipe: invalid choice: 'yelp' \(choose from"):
        parse("--recipe", "yelp")


def test_a_folder_with_the_name_of_a_benchmark_trains_as_under_another_name(tmp_path: Path, news: Path) -> None:
    seen = []
    for name in ("ag_news", "mine"):
        shutil.copytree(news, tmp_path / name)
        run, args = parse("--dataset", str(tmp_path / name))
        chosen = recipe_for(run, load(str(tmp_path / name))["train"])
        seen.append((args.to_dict(), run.early_stopping_patience, chosen))
    assert seen[0] == seen[1]
    assert seen[0][0]["learning_rate"] != recipe("fasttext", "ag_news").training["learning_rate"]


def test_flags_override_the_computed_recipe(news: Path) -> None:
    _, args = parse("--dataset", str(news), "--lr", "0.125")
    assert args.learning_rate == 0.125
    assert args.per_device_train_batch_size == fasttext_recipe(of_rows(240)).training["per_device_train_batch_size"]


def test_a_wrong_value_is_refused_before_the_data_are_read() -> None:
    with pytest.raises(ValueError, match=r"^learning_rate must be at least 0"):
        parse("--dataset", "no_such.csv", "--lr", "-1")


# The recipes


@pytest.mark.parametrize("num_rows", [10, FEW_ROWS, FEW_ROWS + 1, MANY_ROWS, MANY_ROWS + 1, 10**7])
def test_the_recipe_of_fasttext_has_fields_of_its_config_and_of_training_arguments(num_rows: int) -> None:
    found = fasttext_recipe(of_rows(num_rows))
    assert set(found.config) <= set(inspect.signature(FastTextConfig.__init__).parameters)
    config = FastTextConfig(**found.config)
    assert {name: getattr(config, name) for name in found.config} == found.config
    args = TrainingArguments(output_dir="", **found.training)
    assert {name: getattr(args, name) for name in found.training} == found.training


def test_fasttext_has_three_recipes_by_the_number_of_rows() -> None:
    numbers = [1, FEW_ROWS, FEW_ROWS + 1, MANY_ROWS, MANY_ROWS + 1, 10**7]
    few, same_few, medium, same_medium, many, same_many = (fasttext_recipe(of_rows(number)) for number in numbers)
    assert (few, medium, many) == (same_few, same_medium, same_many)
    epochs, sizes = (
        [found.training[name] for found in (few, medium, many)]
        for name in ("num_train_epochs", "per_device_train_batch_size")
    )
    assert epochs == sorted(set(epochs), reverse=True)
    assert sizes == sorted(set(sizes))
    assert few.config["char_ngram"] == medium.config["char_ngram"] > 0 == many.config["char_ngram"]


def test_pretrained_models_train_for_more_epochs_on_fewer_rows() -> None:
    shared = recipe("pretrained", "benchmarks")
    found = [pretrained_recipe(of_rows(number)) for number in (2_000, 2_001, FEW_ROWS, FEW_ROWS + 1)]
    assert [each.training["num_train_epochs"] for each in found] == [10, 5, 5, 3]
    assert all({**each.training, "num_train_epochs": 3} == shared.training for each in found)
    assert all((each.tokenizer, each.config) == (shared.tokenizer, shared.config) for each in found)


@pytest.mark.parametrize(
    ("model", "function"),
    [("fasttext", fasttext_recipe), ("textrnn", textrnn_recipe), ("some/bert", pretrained_recipe)],
)
def test_each_model_has_its_function(rows: Dataset, model: str, function: Callable[[DataSize], Recipe]) -> None:
    expected = function(data_size(rows))
    found = computed_recipe(model, rows)
    assert (found.tokenizer, found.config) == (expected.tokenizer, expected.config)
    assert {**found.training, "bf16": None} == {**expected.training, "bf16": None}


@pytest.mark.parametrize("there", [True, False])
def test_bf16_is_off_if_the_hardware_does_not_support_it(
    rows: Dataset, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(kr_text.training.computed_recipes, "has_bf16", lambda: there)
    training = {"learning_rate": 0.5, "bf16": True}
    monkeypatch.setitem(kr_text.training.computed_recipes.COMPUTED, "textrnn", lambda size: Recipe({}, {}, training))
    assert computed_recipe("textrnn", rows).training == {"learning_rate": 0.5, "bf16": there}
    assert "bf16" not in computed_recipe("fasttext", rows).training


# The patience


def patience(*flags: str) -> int | None:
    return parse(*flags)[0].early_stopping_patience


def test_the_patience_of_a_computed_recipe_is_a_third_of_its_epochs(
    news: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epochs, expected in ((12, 4), (11, MIN_PATIENCE), (5, MIN_PATIENCE), (40, 13)):
        computed = Recipe({}, {}, {"num_train_epochs": epochs})
        monkeypatch.setattr("kr_text.training.arguments.computed_recipe", lambda *_, computed=computed: computed)
        assert patience("--dataset", str(news)) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--epochs", "12"], None),
        (["--train_on_validation"], None),
        (["--recipe", "benchmarks"], None),
        (["--early_stopping_patience", "7"], 7),
        (["--early_stopping_patience", "0"], 0),
        (["--epochs", "12", "--early_stopping_patience", "7"], 7),
    ],
)
def test_otherwise_the_patience_is_the_given_one(news: Path, flags: list[str], expected: int | None) -> None:
    assert patience("--dataset", str(news), *flags) == expected


# The line in the log


def arguments(**fields: Any) -> TrainingArguments:
    values = {"num_train_epochs": 12.0, "per_device_train_batch_size": 64, "learning_rate": 0.2, "use_cpu": True}
    return TrainingArguments(output_dir="", **{**values, **fields})


def test_the_line_of_a_computed_recipe_has_the_size_of_the_data_and_the_settings() -> None:
    size = dataclasses.replace(SIZE, num_rows=12_345, smallest_class=1_200)
    assert describe(size, arguments(), 4, None) == (
        "12,345 training rows, 4 classes of 1,200 rows or more, 12 words in the median text; settings for data of this "
        "size: 12 epochs, stopped after 4 without a lower validation error, batches of 64, learning rate 0.2"
    )


@pytest.mark.parametrize("none", [None, 0])
def test_the_line_of_a_recipe_with_a_name_has_the_name(none: int | None) -> None:
    assert describe(SIZE, arguments(num_train_epochs=2.5), none, "ag_news") == (
        "1,000 training rows, 4 classes of 200 rows or more, 12 words in the median text; recipe ag_news: 2.5 epochs, "
        "batches of 64, learning rate 0.2"
    )


@pytest.mark.parametrize(
    ("name", "source"), [("auto", "settings for data of this size"), ("yahoo_answers", "recipe yahoo_answers")]
)
def test_a_run_logs_its_settings_in_one_line(
    rows: Dataset, news: Path, caplog: pytest.LogCaptureFixture, name: str, source: str
) -> None:
    run, args = parse("--dataset", str(news), "--recipe", name)
    caplog.clear()
    caplog.set_level(logging.INFO, logger="kr_text")
    log_settings(run, args, rows)
    (line,) = caplog.messages
    assert line.startswith(f"{len(rows)} training rows, 6 classes of ")
    assert f"; {source}: " in line


def test_train_logs_the_settings(train_small: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kr_text")
    train_small(tmp_path)
    (line,) = [message for message in caplog.messages if "settings for data of this size" in message]
    assert line.endswith(": 3 epochs, batches of 16, learning rate 0.05")
