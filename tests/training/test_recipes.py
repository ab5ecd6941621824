import dataclasses
import inspect
from importlib import resources
from typing import Any

import pytest
import yaml
from transformers import TrainingArguments

import kr_text.training.recipes
from kr_text.data.sources import HUB_DATASETS
from kr_text.losses.by_name import LOSSES
from kr_text.models import MODELS
from kr_text.text.tokenization import word_tokenizer
from kr_text.training.arguments import parse_training
from kr_text.training.computed_recipes import CHOICES
from kr_text.training.recipes import recipe

RECIPES: dict[str, Any] = yaml.safe_load(resources.files("kr_text.training").joinpath("recipes.yaml").read_text())
PAIRS = [(model, dataset) for model, of_model in RECIPES.items() for dataset in of_model]


def test_every_model_has_a_recipe_and_pretrained_models_share_one() -> None:
    assert set(RECIPES) == {*MODELS, "pretrained"}
    assert all("benchmarks" in of_model for of_model in RECIPES.values())


def test_the_recipes_are_those_of_the_benchmarks_by_their_names() -> None:
    names = {dataset for of_model in RECIPES.values() for dataset in of_model}
    assert names == {"benchmarks", *HUB_DATASETS}
    assert set(CHOICES) == {"auto", *names}


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_a_recipe_has_no_unknown_sections(model: str, dataset: str) -> None:
    assert set(RECIPES[model][dataset]) <= {"tokenizer", "config", "training"}


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_the_tokenizer_accepts_the_sizes_of_the_recipe(model: str, dataset: str) -> None:
    sizes = recipe(model, dataset).tokenizer
    if model in ("charcnn", "pretrained"):  # no word tokenizer is built
        assert set(sizes) <= {"max_length"}
    else:
        assert set(sizes) == {"vocab_size", "min_frequency", "max_length"}
        assert word_tokenizer([["a text"]], **sizes).model_max_length == sizes["max_length"]


@pytest.mark.parametrize(("model", "dataset"), [pair for pair in PAIRS if pair[0] in MODELS])
def test_the_config_has_the_fields_of_the_recipe(model: str, dataset: str) -> None:
    fields = recipe(model, dataset).config
    config_class, _ = MODELS[model]
    assert set(fields) <= set(inspect.signature(config_class.__init__).parameters)
    config_class(**fields)


def test_the_recipe_of_pretrained_models_changes_no_config() -> None:
    assert all(not recipe("some/bert", dataset).config for dataset in RECIPES["pretrained"])


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_training_arguments_have_the_values_of_the_recipe(model: str, dataset: str) -> None:
    values = recipe(model, dataset).training
    assert set(values) <= {field.name for field in dataclasses.fields(TrainingArguments)}
    _, args = parse_training(["--model", model, "--recipe", dataset], "kr-text train")
    assert {name: getattr(args, name) for name in values} == values


@pytest.mark.parametrize("model", [*MODELS, "some/bert"])
def test_training_arguments_are_the_same_for_every_loss(model: str) -> None:
    seen = []
    for loss in LOSSES:
        _, args = parse_training(["--model", model, "--loss", loss, "--output_dir", "same"], "kr-text train")
        seen.append(args.to_dict())
    assert all(args == seen[0] for args in seen)


@pytest.mark.parametrize("there", [True, False])
def test_bf16_is_off_if_the_hardware_does_not_support_it(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(kr_text.training.recipes, "has_bf16", lambda: there)
    assert RECIPES["textrnn"]["benchmarks"]["training"]["bf16"]
    assert recipe("textrnn", "ag_news").training["bf16"] == there
    assert "bf16" not in recipe("fasttext", "ag_news").training


@pytest.fixture
def special(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes with special values of FastText for ag_news."""
    text = "\n".join(
        [
            "fasttext:",
            "  benchmarks:",
            "    tokenizer: {vocab_size: 10}",
            "    training: {learning_rate: 0.1, num_train_epochs: 5}",
            "  ag_news:",
            "    training: {learning_rate: 0.2}",
            "pretrained:",
            "  benchmarks:",
            "    training: {learning_rate: 0.3}",
        ]
    )
    monkeypatch.setattr(kr_text.training.recipes, "_recipes", lambda: yaml.safe_load(text))


@pytest.mark.usefixtures("special")
@pytest.mark.parametrize("dataset", ["ag_news", "data/ag_news", "/data/ag_news/", "ag_news.csv", "x/ag_news.csv.gz"])
def test_the_last_part_of_a_path_selects_the_recipe(dataset: str) -> None:
    special = recipe("fasttext", dataset)
    assert special.training == {"learning_rate": 0.2, "num_train_epochs": 5}
    assert special.tokenizer == {"vocab_size": 10}
    assert special.config == {}


@pytest.mark.usefixtures("special")
@pytest.mark.parametrize("dataset", ["yelp", "ag_news/other", "my_ag_news", "benchmarks"])
def test_unknown_data_sets_get_what_all_benchmarks_share(dataset: str) -> None:
    assert recipe("fasttext", dataset).training == {"learning_rate": 0.1, "num_train_epochs": 5}


@pytest.mark.usefixtures("special")
@pytest.mark.parametrize("model", ["some/bert", "bert", "runs/fasttext", "pretrained"])
def test_unknown_models_get_the_recipe_for_pretrained_models(model: str) -> None:
    assert recipe(model, "ag_news").training == {"learning_rate": 0.3}
