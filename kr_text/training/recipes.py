"""Recipes of the benchmarks: the hyper-parameters of each model on each data set, from recipes.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml

# Values of the argument `recipe`, which also takes the name of a benchmark.
AUTO = "auto"  # computed from the data, unless the data are a benchmark
BENCHMARKS = "benchmarks"  # what all benchmarks share; a section of recipes.yaml


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a model on a data set.

    Attributes:
        tokenizer: Sizes of the tokenizer.
        config: Fields of the model's config.
        training: Fields of `TrainingArguments`.
    """

    tokenizer: Mapping[str, Any]
    config: Mapping[str, Any]
    training: Mapping[str, Any]


def recipe(model: str, dataset: str, *, any_hardware: bool = False) -> Recipe:
    """Recipe of a model on a benchmark; turns bf16 off if the hardware does not support it.

    Args:
        model: A model in recipes.yaml; any other name gets the recipe for pretrained models.
        dataset: Name or path of the data set. Only the last part counts, without its extension. A data set that
            recipes.yaml does not name gets the values that all benchmarks share.
        any_hardware: Keeps bf16 as in recipes.yaml.
    """
    recipes = _recipes()
    of_model = recipes.get(model, recipes["pretrained"])
    default, special = of_model[BENCHMARKS], of_model.get(_last_part(dataset), {})
    tokenizer, config, training = (
        default.get(section, {}) | special.get(section, {}) for section in ("tokenizer", "config", "training")
    )
    if training.get("bf16") and not any_hardware:
        training["bf16"] = has_bf16()
    return Recipe(tokenizer, config, training)


def benchmark_recipe_name(dataset: str) -> str:
    """Name of the recipe in recipes.yaml for a data set by its name or its path, whatever the folder holds."""
    name = _last_part(dataset)
    return name if any(name in of_model for of_model in _recipes().values()) else BENCHMARKS


def _last_part(dataset: str) -> str:
    """Last part of the name or path of a data set, without its extension."""
    return Path(dataset).name.partition(".")[0]


def recipe_names() -> list[str]:
    """Names of the recipes: the models in the order of the paper's Table 3, then "pretrained"."""
    return list(_recipes())


@cache
def _recipes() -> dict[str, Any]:
    recipes: dict[str, Any] = yaml.safe_load(
        resources.files("kr_text.training").joinpath("recipes.yaml").read_text("utf-8")
    )
    return recipes


def has_bf16() -> bool:
    """Whether the training hardware computes in bf16 natively. Emulated bf16 is slower than float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not torch.accelerator.is_available() and bool(torch.cpu._is_avx512_bf16_supported())
