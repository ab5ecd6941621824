"""Recipes: the hyper-parameters of each model on each data set, read from recipes.yaml beside this file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml


@dataclass(frozen=True)
class Recipe:
    """Sizes of the tokenizer, fields of the model's config, fields of `TrainingArguments`."""

    tokenizer: Mapping[str, Any]
    config: Mapping[str, Any]
    training: Mapping[str, Any]


def recipe(model: str, dataset: str, *, any_hardware: bool = False) -> Recipe:
    """The recipe of a model on a data set, without bf16 where this machine has it not.

    Args:
        model: one of the models in recipes.yaml; any other name is a pretrained model's.
        dataset: a name or a path, of which the last part counts, without its extension; unknown ones get the default.
        any_hardware: leave bf16 as the recipe has it.
    """
    recipes = _recipes()
    of_model = recipes.get(model, recipes["pretrained"])
    default, special = of_model["default"], of_model.get(Path(dataset).name.partition(".")[0], {})
    tokenizer, config, training = (
        default.get(section, {}) | special.get(section, {}) for section in ("tokenizer", "config", "training")
    )
    if training.get("bf16") and not any_hardware:
        training["bf16"] = has_bf16()
    return Recipe(tokenizer, config, training)


def recipe_names() -> list[str]:
    """The models that have recipes of their own, in the order of the paper's Table 3, and "pretrained"."""
    return list(_recipes())


@cache
def _recipes() -> dict[str, Any]:
    recipes: dict[str, Any] = yaml.safe_load(
        resources.files("kr_text.training").joinpath("recipes.yaml").read_text("utf-8")
    )
    return recipes


def has_bf16() -> bool:
    """Whether the hardware that would train computes in bf16; where it is emulated, it is slower than float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not torch.accelerator.is_available() and bool(torch.cpu._is_avx512_bf16_supported())
