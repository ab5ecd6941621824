"""Recipes: the hyper-parameters of each model on each data set, read from recipes.yaml beside this file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Recipe:
    """Sizes of the tokenizer, fields of the model's config, fields of `TrainingArguments`."""

    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def recipe(model: str, dataset: str) -> Recipe:
    """The recipe of a model on a data set.

    Args:
        model: one of the models in recipes.yaml; any other name is a pretrained model's.
        dataset: a name or a path, of which the last part counts, without its extension; unknown ones get the default.
    """
    recipes = yaml.safe_load(resources.files("kr_text").joinpath("recipes.yaml").read_text(encoding="utf-8"))
    of_model = recipes.get(model, recipes["pretrained"])
    default, special = of_model["default"], of_model.get(Path(dataset).name.partition(".")[0], {})
    sections = {name: default.get(name, {}) | special.get(name, {}) for name in ("tokenizer", "config", "training")}
    return Recipe(**sections)
