"""The settings that `kr-text tune` searches: their ranges for each model, and where the search starts.

A parameter of a model is named after it, such as "fasttext.learning_rate", since each model has its own range. Settings
that are not searched come from the recipe of the model.
"""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from kr_text.training.arguments import FIELDS

PRETRAINED = "pretrained"  # any other model, which is searched only if it is given
BATCH, EPOCHS, RATE = "per_device_train_batch_size", "num_train_epochs", "learning_rate"
# Fields of the model's config and of TrainingArguments.
SPACES: dict[str, dict[str, BaseDistribution]] = {
    "fasttext": {
        "embedding_dim": CategoricalDistribution([20, 50, 100]),
        "max_ngram": CategoricalDistribution([1, 2, 3]),
        "char_ngram": CategoricalDistribution([0, 4]),
        RATE: FloatDistribution(0.02, 1.0, log=True),
        BATCH: CategoricalDistribution([16, 32, 64, 128]),
        EPOCHS: IntDistribution(3, 40, log=True),
    },
    "textrnn": {
        "hidden_size": CategoricalDistribution([128, 256]),
        "dropout": CategoricalDistribution([0.3, 0.5]),
        RATE: FloatDistribution(5e-4, 5e-3, log=True),
        BATCH: CategoricalDistribution([32, 64, 128]),
        EPOCHS: IntDistribution(3, 20, log=True),
    },
    "transformer": {
        "num_hidden_layers": CategoricalDistribution([1, 2]),
        "dropout": CategoricalDistribution([0.1, 0.3]),
        RATE: FloatDistribution(2e-4, 3e-3, log=True),
        BATCH: CategoricalDistribution([32, 64]),
        EPOCHS: IntDistribution(3, 20, log=True),
    },
    "charcnn": {
        RATE: FloatDistribution(2e-4, 2e-3, log=True),
        BATCH: CategoricalDistribution([32, 64]),
        EPOCHS: IntDistribution(3, 20, log=True),
    },
    PRETRAINED: {
        RATE: FloatDistribution(1e-5, 2e-4, log=True),
        BATCH: CategoricalDistribution([16, 32]),
        EPOCHS: IntDistribution(2, 8, log=True),
    },
}
SLOW = {"charcnn": 30.0, PRETRAINED: math.inf}  # minutes from which on a model is searched
NEEDS = {"config_overrides": "model", "loss_overrides": "loss", "word_vectors": "config_overrides"}
LOSSES = CategoricalDistribution(["ce", "ls", "kr", "kr-ls"])
ALPHA = CategoricalDistribution([0.1, 0.3, 1.0])  # of kr and kr-ls; 1 is the paper's
_FASTTEXT = {"embedding_dim": 50, "max_ngram": 2, BATCH: 64, EPOCHS: 10}
# The first trials. FastText comes first, since its trials take seconds. A trial that would take too long is stopped.
STARTS: tuple[dict[str, Any], ...] = (
    {"model": "fasttext", "loss": "kr-ls", **_FASTTEXT, "char_ngram": 4, RATE: 0.2},
    {"model": "fasttext", "loss": "ce", **_FASTTEXT, "char_ngram": 4, RATE: 0.2},
    {"model": "fasttext", "loss": "kr-ls", **_FASTTEXT, "char_ngram": 0, RATE: 0.1},
    {"model": "fasttext", "loss": "ls", **_FASTTEXT, "char_ngram": 0, RATE: 0.1, "max_ngram": 1, BATCH: 16, EPOCHS: 5},
    {"model": "fasttext", "loss": "kr-ls", **_FASTTEXT, "char_ngram": 4, RATE: 0.5, "embedding_dim": 100},
    {"model": "transformer", "loss": "kr-ls", "num_hidden_layers": 2, "dropout": 0.1, RATE: 1e-3, BATCH: 64, EPOCHS: 5},
    {"model": "textrnn", "loss": "kr-ls", "hidden_size": 256, "dropout": 0.5, RATE: 2e-3, BATCH: 64, EPOCHS: 5},
)


def searched_models(given: Mapping[str, Any], minutes: float) -> list[str]:
    """The models to search: the given one, or all that the time allows.

    Raises:
        ValueError: A setting is given without the one that it depends on.
    """
    for name, needed in NEEDS.items():
        if name in given and needed not in given:
            raise ValueError(f"{name} must come with {needed}, which is searched otherwise, got {given[name]!r}")
    return [given["model"]] if "model" in given else [name for name in SPACES if minutes >= SLOW.get(name, 0)]


def starts(given: Mapping[str, Any], models: list[str]) -> list[dict[str, Any]]:
    """Parameters of the first trials, for `optuna.Study.enqueue_trial`; the sampler chooses those that are missing."""
    found = []
    for start in STARTS:
        if start["model"] in models:
            of_trial = {"model": start["model"], "loss": start["loss"]}
            own = {f"{start['model']}.{name}": value for name, value in start.items() if name not in of_trial}
            found.append({name: value for name, value in (of_trial | own).items() if name not in given})
    return found


def suggest(trial: optuna.Trial, given: Mapping[str, Any], models: list[str]) -> dict[str, Any]:
    """Values by field name, as for `make_arguments`, for one trial.

    Args:
        trial: Trial that chooses the values.
        given: Values that are not searched.
        models: Models to choose from.
    """
    model = given.get("model") or trial.suggest_categorical("model", models)
    loss = given.get("loss") or trial.suggest_categorical("loss", LOSSES.choices)
    values = {**given, "model": model, "loss": loss}
    space = model if model in SPACES else PRETRAINED
    if loss in ("kr", "kr-ls") and "loss_overrides" not in given:
        values["loss_overrides"] = f"alpha={_suggest(trial, 'alpha', ALPHA)}"
    config = []
    for name, distribution in SPACES[space].items():
        of_config = name not in FIELDS
        if name in given or (of_config and "config_overrides" in given):
            continue
        value = _suggest(trial, f"{space}.{name}", distribution)
        if of_config:
            config.append(f"{name}={value}")
        else:
            values[name] = float(value) if name == EPOCHS else value
    if config:
        values["config_overrides"] = ",".join(config)
    return values


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """A value from a distribution; a rate has three digits, so that it is the same in a recipe file."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return float(f"{trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log):.3g}")
