"""Recipes of TextRNN, Transformer and CharCNN for any data set; docs/recipes.md has the trials behind the numbers.

They are the same for every loss. `bf16` applies if the hardware supports it.
"""

import math

from kr_text.models.charcnn import RECEPTIVE_FIELD, STRIDE
from kr_text.training.data_size import DataSize
from kr_text.training.recipes import Recipe

WORDS = {"vocab_size": 40_000, "min_frequency": 1, "max_length": 256}  # for TextRNN and Transformer
MAX_FRAMES = 1014  # characters that CharCNN reads, as in its paper
MAX_SHALLOW_ROWS = 100_000  # the network of CharCNN's paper memorizes a few thousand texts
SHALLOW = {"shallow": True, "num_filters": 1024, "initializer_range": 0.1, "center_channels": True, "dropout": 0.5}
SHALLOW_TRAINING = {"learning_rate": 0.003}
DEEP = {"num_filters": 256, "dense_size": 1024, "center_channels": True}
DEEP_TRAINING = {"learning_rate": 0.0005, "weight_decay": 0.3, "max_grad_norm": 0.0, "bf16": True}


def textrnn_recipe(size: DataSize) -> Recipe:
    """Recipe of TextRNN: few rows need word dropout, and many epochs of small batches."""
    batch_size = _batch_size(size)
    return Recipe(
        tokenizer=WORDS,
        config={
            "embedding_dim": 128,
            "context_size": 128,
            "hidden_size": 256,
            "cell": "lstm",
            "dropout": 0.5,
            "word_dropout": 0.1,
        },
        training={
            "num_train_epochs": _epochs(size, batch_size, steps=1_500 + 30 * size.num_classes),
            "per_device_train_batch_size": batch_size,
            "learning_rate": 0.002,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.05,
        },
    )


def transformer_recipe(size: DataSize) -> Recipe:
    """Recipe of Transformer: as for TextRNN; it needs a longer warmup and a lower rate."""
    batch_size = _batch_size(size)
    return Recipe(
        tokenizer=WORDS,
        config={
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "dropout": 0.3,
            "word_dropout": 0.1,
        },
        training={
            "num_train_epochs": _epochs(size, batch_size, steps=1_500 + 30 * size.num_classes),
            "per_device_train_batch_size": batch_size,
            "learning_rate": 0.001,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
        },
    )


def charcnn_recipe(size: DataSize) -> Recipe:
    """Recipe of CharCNN: one wide convolution for up to `MAX_SHALLOW_ROWS` rows, the network of the paper for more."""
    batch_size = _batch_size(size)
    shallow = size.num_rows <= MAX_SHALLOW_ROWS
    return Recipe(
        tokenizer={},
        config={"num_frames": charcnn_frames(size.characters_95), **(SHALLOW if shallow else DEEP)},
        training={
            "num_train_epochs": _epochs(size, batch_size, steps=1_500 + 30 * size.num_classes),
            "per_device_train_batch_size": batch_size,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
            **(SHALLOW_TRAINING if shallow else DEEP_TRAINING),
        },
    )


def charcnn_frames(characters: int) -> int:
    """The smallest number of frames that covers a text of `characters`, up to the 1014 of the paper.

    The frames of the last layer see 123 characters each, and start 27 characters after one another. Characters that do
    not fill a last frame are not seen, so a text shorter than 123 characters is filled up to 123.
    """
    steps = math.ceil(max(0, characters - RECEPTIVE_FIELD) / STRIDE)
    return min(RECEPTIVE_FIELD + STRIDE * steps, MAX_FRAMES)


def _batch_size(size: DataSize) -> int:
    """Small data sets have few batches, and learn from more steps; large ones train faster in large batches."""
    return 32 if size.num_rows < 20_000 else 64 if size.num_rows < 100_000 else 128


def _epochs(size: DataSize, batch_size: int, steps: int) -> int:
    """Epochs for at least `steps` steps, from 4 to 40."""
    return min(max(4, math.ceil(steps * batch_size / size.num_rows)), 40)
