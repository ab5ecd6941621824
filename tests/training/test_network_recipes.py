import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from transformers import TrainingArguments

from kr_text.models import MODELS
from kr_text.text.tokenization import word_tokenizer
from kr_text.training.data_size import DataSize
from kr_text.training.network_recipes import charcnn_frames, charcnn_recipe, textrnn_recipe, transformer_recipe
from kr_text.training.recipes import Recipe, recipe

RECIPES: dict[str, Callable[[DataSize], Recipe]] = {
    "textrnn": textrnn_recipe,
    "transformer": transformer_recipe,
    "charcnn": charcnn_recipe,
}
COMMANDS = DataSize(
    num_rows=8964, num_classes=64, smallest_class=31, words_median=6, words_95=12, characters_95=60
)  # short texts, many classes
NEWS = DataSize(
    num_rows=1348, num_classes=5, smallest_class=210, words_median=334, words_95=740, characters_95=4429
)  # few long texts
LARGE = DataSize(
    num_rows=1_000_000, num_classes=10, smallest_class=90_000, words_median=60, words_95=200, characters_95=1200
)
TINY = DataSize(num_rows=4, num_classes=2, smallest_class=2, words_median=1, words_95=1, characters_95=1)
SIZES = pytest.mark.parametrize("size", [COMMANDS, NEWS, LARGE, TINY], ids=["commands", "news", "large", "tiny"])
NETWORKS = pytest.mark.parametrize("model", RECIPES)


def steps(found: Recipe, size: DataSize) -> float:
    """Optimizer steps of a run."""
    training = found.training
    return float(training["num_train_epochs"] * size.num_rows / training["per_device_train_batch_size"])


@SIZES
@NETWORKS
def test_a_recipe_has_fields_of_the_config_and_of_training_arguments(model: str, size: DataSize) -> None:
    found = RECIPES[model](size)
    config_class, _ = MODELS[model]
    assert set(found.config) <= set(inspect.signature(config_class.__init__).parameters)
    config: Any = config_class(**found.config)
    assert {name: getattr(config, name) for name in found.config} == found.config
    assert set(found.training) <= {field.name for field in dataclasses.fields(TrainingArguments)}
    TrainingArguments(**{**found.training, "bf16": False})


@SIZES
@pytest.mark.parametrize("model", ["textrnn", "transformer"])
def test_the_word_tokenizer_accepts_the_sizes(model: str, size: DataSize) -> None:
    sizes = RECIPES[model](size).tokenizer
    assert word_tokenizer([["a text"]], **sizes).model_max_length == sizes["max_length"]


@NETWORKS
def test_few_rows_train_for_more_epochs(model: str) -> None:
    epochs = [RECIPES[model](size).training["num_train_epochs"] for size in (NEWS, COMMANDS, LARGE)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[-1]


@NETWORKS
def test_more_classes_train_for_more_steps(model: str) -> None:
    two, many = (dataclasses.replace(COMMANDS, num_classes=number) for number in (2, 64))
    assert steps(RECIPES[model](two), two) < steps(RECIPES[model](many), many)


@NETWORKS
def test_the_number_of_epochs_is_bounded(model: str) -> None:
    assert RECIPES[model](TINY).training["num_train_epochs"] == 40
    assert RECIPES[model](LARGE).training["num_train_epochs"] == 4


@pytest.mark.parametrize(
    ("characters", "frames"),
    [(1, 123), (60, 123), (123, 123), (124, 150), (150, 150), (151, 177), (231, 231), (1014, 1014), (4429, 1014)],
)
def test_the_frames_are_the_fewest_that_cover_a_text(characters: int, frames: int) -> None:
    assert charcnn_frames(characters) == frames


def test_charcnn_reads_the_95th_percentile_of_the_lengths() -> None:
    assert charcnn_recipe(COMMANDS).config["num_frames"] == 123
    assert charcnn_recipe(NEWS).config["num_frames"] == 1014


def test_charcnn_has_the_network_and_the_training_of_the_paper_for_many_rows_only() -> None:
    own = recipe("charcnn", "any")
    assert charcnn_recipe(COMMANDS).config["shallow"]
    many = charcnn_recipe(LARGE)
    assert "shallow" not in many.config
    assert own.config.items() <= many.config.items()
    same = ("learning_rate", "weight_decay", "max_grad_norm")
    assert {name: many.training[name] for name in same} == {name: own.training[name] for name in same}
