"""Recipes that follow the data: hyper-parameters of FastText and pretrained models, and the choice of the recipe.

network_recipes.py has the other models. docs/recipes.md has the trials behind the numbers. A recipe is the same for
every loss.
"""

from dataclasses import replace
from pathlib import Path

from datasets import Dataset
from transformers import TrainingArguments

from kr_text.data.sources import HUB_DATASETS
from kr_text.training.data_size import DataSize, data_size
from kr_text.training.network_recipes import charcnn_recipe, textrnn_recipe, transformer_recipe
from kr_text.training.recipes import AUTO, BENCHMARKS, Recipe, has_bf16, recipe

CHOICES = (AUTO, BENCHMARKS, *HUB_DATASETS)
FEW_ROWS, MANY_ROWS = 20_000, 100_000


def fasttext_recipe(size: DataSize) -> Recipe:
    """Recipe of FastText: few rows need small batches, more epochs, and the parts of rare words.

    With few rows of few classes, a high rate learns single texts by heart. With many classes, a low rate learns too
    little in the same number of steps.
    """
    few, many = size.num_rows <= FEW_ROWS, size.num_rows > MANY_ROWS
    return Recipe(
        tokenizer={"vocab_size": 100_000, "min_frequency": 1, "max_length": 512},
        config={
            "embedding_dim": 20 if many else 50,
            "max_ngram": 2,
            "num_buckets": 100_000 if few else 500_000,
            "char_ngram": 0 if many else 4,
        },
        training={
            "num_train_epochs": 12 if few else 5 if many else 8,
            "per_device_train_batch_size": 64 if few else 1024 if many else 256,
            "learning_rate": min(0.2, max(0.05, (size.num_classes - 2) / 60)) if few else 0.2,
            "lr_scheduler_type": "linear",
            "optim": "adagrad",  # row-wise, see kr_text/kernels/rowwise_adagrad.py
            "max_grad_norm": 0.0,
        },
    )


def pretrained_recipe(size: DataSize) -> Recipe:
    """Recipe of pretrained models: few rows need more epochs."""
    fixed = recipe("pretrained", BENCHMARKS)
    epochs = 10 if size.num_rows <= 2_000 else 5 if size.num_rows <= FEW_ROWS else 3
    return replace(fixed, training={**fixed.training, "num_train_epochs": epochs})


COMPUTED = {
    "fasttext": fasttext_recipe,
    "textrnn": textrnn_recipe,
    "charcnn": charcnn_recipe,
    "transformer": transformer_recipe,
}


def fixed_recipe_name(choice: str, dataset: str) -> str | None:
    """Name of the recipe in recipes.yaml that a run uses; None if its recipe is computed from its data.

    Args:
        choice: The argument `recipe` of the run.
        dataset: The argument `dataset`. A benchmark by its name has its own recipe. A file or folder of that name
            may hold other data.
    """
    if choice != AUTO:
        return choice
    return dataset if dataset in HUB_DATASETS and not Path(dataset).exists() else None


def computed_recipe(model: str, rows: Dataset) -> Recipe:
    """Recipe of a model, computed from its training rows; turns bf16 off if the hardware does not support it."""
    found = COMPUTED.get(model, pretrained_recipe)(data_size(rows))
    if not found.training.get("bf16") or has_bf16():
        return found
    return replace(found, training={**found.training, "bf16": False})


def describe(size: DataSize, args: TrainingArguments, patience: int | None, name: str | None) -> str:
    """One line about the data and the settings of a run that follow from them, for the log.

    Args:
        size: Size of the training rows.
        args: Training arguments of the run.
        patience: Epochs without an improvement after which the training stops.
        name: Name of the recipe in recipes.yaml; None for a computed one.
    """
    source = "settings for data of this size" if name is None else f"recipe {name}"
    stop = f", stopped after {patience} without a lower validation error" if patience else ""
    return (
        f"{size.num_rows:,} training rows, {size.num_classes} classes of {size.smallest_class:,} rows or more, "
        f"{size.words_median:,} words in the median text; {source}: {args.num_train_epochs:g} epochs{stop}, batches of "
        f"{args.train_batch_size}, learning rate {args.learning_rate:g}"
    )
