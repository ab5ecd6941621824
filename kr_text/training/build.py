"""What a run trains: its tokenizer, its model, the optimizer, and what a teacher says."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset, DatasetDict
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainingArguments,
)
from transformers.training_args import OptimizerNames

from kr_text.classifier import Classifier, class_probabilities
from kr_text.kernels.rowwise_adagrad import RowwiseAdagrad
from kr_text.models import MODELS, CharCNNConfig, FastTextForSequenceClassification
from kr_text.text.tokenization import character_tokenizer, word_tokenizer
from kr_text.text.word_vectors import load_word_vectors
from kr_text.training.arguments import RunArguments
from kr_text.training.recipes import recipe

FIXED_BY_DATA = {"num_labels", "id2label", "label2id", "vocab_size"}


def build(run: RunArguments, data: DatasetDict) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """The tokenizer, built from the training rows or loaded, and the model, at random or pretrained."""
    sizes = recipe(run.model, run.dataset)
    tokenizer_sizes = {**sizes.tokenizer, **({"max_length": run.max_length} if run.max_length else {})}
    names = data["train"].features["label"].names
    classes = dict(enumerate(names))
    labels: dict[str, Any] = {"id2label": classes, "label2id": {name: index for index, name in classes.items()}}
    if run.model not in MODELS:
        return _pretrained(run, labels, tokenizer_sizes["max_length"])
    config_class, model_class = MODELS[run.model]
    config = config_class(**sizes.config, **labels)
    _override(config, run.config_overrides)
    config = config_class.from_dict(config.to_dict())  # checks the ranges of what was overridden
    if isinstance(config, CharCNNConfig):
        tokenizer = character_tokenizer(max_length=run.max_length or config.num_frames)
    else:
        batches = (
            batch["text"].combine_chunks() for batch in data["train"].with_format("arrow").iter(batch_size=50_000)
        )
        tokenizer = word_tokenizer(batches, **tokenizer_sizes)
    config.vocab_size = len(tokenizer)
    model = model_class(config)
    if run.word_vectors:
        load_word_vectors(model, tokenizer, run.word_vectors)
    return tokenizer, model


def _pretrained(
    run: RunArguments, labels: dict[str, Any], max_length: int
) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    if run.word_vectors:
        raise ValueError(f"word_vectors must be left out with a pretrained model, {run.model}: it has its own")
    with _pretrained_in(run.model):
        config = AutoConfig.from_pretrained(run.model, **labels)
        tokenizer = cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(run.model))
    if tokenizer.pad_token_id is None:
        raise ValueError(f"model must have a tokenizer with a padding token, and that of {run.model} has none")
    _override(config, run.config_overrides)
    with _pretrained_in(run.model):
        model = AutoModelForSequenceClassification.from_pretrained(
            run.model,
            config=config,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,  # in the half precision of some checkpoints small steps are rounded away
        )
    tokenizer.model_max_length = min(max_length, tokenizer.model_max_length)
    return tokenizer, model


@contextmanager
def _pretrained_in(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"model must be one of {', '.join(MODELS)}, or a pretrained model's folder or id, got {name!r}: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _override(config: PreTrainedConfig, overrides: str | None) -> None:
    if not overrides:
        return
    if fixed := FIXED_BY_DATA & {part.partition("=")[0].strip() for part in overrides.split(",")}:
        raise ValueError(f"config_overrides must leave {' and '.join(sorted(fixed))} to the data, got {overrides!r}")
    try:
        config.update_from_string(overrides)
    except (TypeError, ValueError) as error:
        known = ", ".join(sorted(config.to_diff_dict()))
        raise ValueError(
            f"config_overrides must be FIELD=VALUE,FIELD=VALUE,... with fields of {type(config).__name__} ({known}), "
            f"got {overrides!r}: {error}"
        ) from error


def make_optimizer(model: torch.nn.Module, args: TrainingArguments) -> torch.optim.Optimizer | None:
    """The optimizer for FastText's large table under --optim adagrad; None, the Trainer's own, for all else.

    On a CPU the table's gradient is sparse. Elsewhere to sort its rows would wait for the queue.

    Raises:
        ValueError: arguments that this optimizer does not heed.
    """
    fasttexts = [part for part in model.modules() if isinstance(part, FastTextForSequenceClassification)]
    if not fasttexts or args.optim != OptimizerNames.ADAGRAD:
        return None
    if args.weight_decay or args.optim_args:
        raise ValueError(
            f"weight_decay must be 0 and optim_args left out with FastText's adagrad, got {args.weight_decay} and "
            f"{args.optim_args}; choose another optim, as adamw_torch"
        )
    for fasttext in fasttexts:  # torch has no norm of a sparse gradient
        fasttext.embedding.sparse = args.device.type == "cpu" and not args.max_grad_norm
    return RowwiseAdagrad(model.parameters(), lr=args.learning_rate)


def teacher_logits(teacher: str, rows: Dataset) -> npt.NDArray[np.float32]:
    """(N, K): the log-probabilities that a saved classifier gives to texts, which are logits too.

    Raises:
        ValueError: it has other classes than the rows.
    """
    probabilities = class_probabilities(Classifier(teacher), rows)
    logits: npt.NDArray[np.float32] = np.log(probabilities.clip(min=1e-12)).astype(np.float32)
    return logits
