"""Builds what a run trains with: tokenizer, model, optimizer, and the logits of a teacher."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset, DatasetDict
from safetensors import SafetensorError
from torch import Tensor
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
from kr_text.models import MODELS, CharCNNConfig, FastTextConfig, FastTextForSequenceClassification
from kr_text.ranges import in_range, require_at_least
from kr_text.text.alphabet import choose_alphabet
from kr_text.text.char_ngrams import char_ngram_table
from kr_text.text.encoding import TextEncoder, max_positions
from kr_text.text.tokenization import character_tokenizer, word_tokenizer
from kr_text.text.word_vectors import Coverage, load_word_vectors
from kr_text.training.computed_recipes import computed_recipe, fixed_recipe_name
from kr_text.training.pretrained_head import fit_head
from kr_text.training.recipes import Recipe, recipe
from kr_text.training.run_arguments import RunArguments

SINGLE_LABEL = "single_label_classification"
FIXED_BY_DATA = {"num_labels", "id2label", "label2id", "vocab_size"}

logger = logging.getLogger(__name__)


def build(
    run: RunArguments, data: DatasetDict, tokenizer: PreTrainedTokenizerFast | None = None
) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """Builds the tokenizer from the training rows and a model with random weights, or loads a pretrained pair.

    Args:
        run: Model, its settings and, if any, word vectors.
        data: Splits with the columns text and label.
        tokenizer: Tokenizer of an earlier build with the same model and rows. A pretrained model brings its own.

    Raises:
        ValueError: The model does not exist, or its settings are wrong.
    """
    classes = dict(enumerate(data["train"].features["label"].names))
    labels: dict[str, Any] = {"id2label": classes, "label2id": {name: index for index, name in classes.items()}}
    if run.model not in MODELS:
        return _pretrained(run, labels, recipe_for(run, data["train"]))
    config_class, model_class = MODELS[run.model]
    chosen = recipe_for(run, data["train"])
    config = config_class(**chosen.config, **labels)
    _override(config, run.config_overrides)
    config = config_class.from_dict(config.to_dict())  # checks the ranges of the overrides
    tokenizer = tokenizer or _tokenizer(run, config, chosen, data["train"])
    config.vocab_size = len(tokenizer)
    model = model_class(config)
    if isinstance(config, FastTextConfig) and config.char_ngram:
        sizes = config.char_ngram, config.max_char_ngrams, config.pad_token_id
        cast(Tensor, model.char_ngrams).copy_(torch.from_numpy(char_ngram_table(tokenizer.get_vocab(), *sizes)))
    if run.word_vectors:
        coverage = load_word_vectors(model, tokenizer, run.word_vectors)
        _log_coverage(coverage, run.word_vectors, tokenizer, data["train"])
    return tokenizer, model


def recipe_for(run: RunArguments, rows: Dataset) -> Recipe:
    """The recipe of a run: of a benchmark, or computed from the training rows."""
    name = fixed_recipe_name(run.recipe, run.dataset)
    return computed_recipe(run.model, rows) if name is None else recipe(run.model, name)


def _tokenizer(run: RunArguments, config: PreTrainedConfig, chosen: Recipe, rows: Dataset) -> PreTrainedTokenizerFast:
    """A tokenizer of characters for CharCNN, of the words in the training rows for the other models."""
    texts = (batch["text"].combine_chunks() for batch in rows.with_format("arrow").iter(batch_size=50_000))
    if isinstance(config, CharCNNConfig):
        max_length = min(run.max_length or config.num_frames, config.num_frames)
        return character_tokenizer(max_length=max_length, alphabet=choose_alphabet(run.alphabet, texts))
    sizes = _tokenizer_sizes(run, chosen)
    if isinstance(config, FastTextConfig):
        sizes["char_ngram"] = config.char_ngram
    return word_tokenizer(texts, **sizes)


def _tokenizer_sizes(run: RunArguments, chosen: Recipe) -> dict[str, Any]:
    """Sizes of the tokenizer from the recipe, with the run's max_length."""
    return {**chosen.tokenizer, **({"max_length": run.max_length} if run.max_length else {})}


def _log_coverage(coverage: Coverage, file: str, tokenizer: PreTrainedTokenizerFast, rows: Dataset) -> None:
    """Logs the share of the vocabulary that word vectors cover, and of the tokens of 10,000 training rows."""
    found, num_words = coverage
    ids = TextEncoder(tokenizer)(rows[:10_000]["text"])["input_ids"].combine_chunks().flatten().to_numpy()
    logger.info(
        "%s: vectors for %d of the %d words of the vocabulary (%.1f%%), %.1f%% of the tokens of the training rows",
        *(file, len(found), num_words, 100 * len(found) / num_words, 100 * np.isin(ids, list(found)).mean()),
    )


def _pretrained(
    run: RunArguments, labels: dict[str, Any], chosen: Recipe
) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    if run.word_vectors:
        raise ValueError(f"word_vectors must be left out for a pretrained model such as {run.model}")
    with _clear_errors(run.model):
        saved = AutoConfig.from_pretrained(run.model).id2label
        config = AutoConfig.from_pretrained(run.model, **labels)
        tokenizer = cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(run.model))
    if tokenizer.get_vocab().keys() <= set(tokenizer.all_special_tokens):
        raise ValueError(
            f"model must have a tokenizer with a vocabulary, got {run.model}, whose tokenizer files are missing"
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(f"model must have a tokenizer with a padding token, got {run.model}, whose tokenizer has none")
    if config.problem_type not in (None, SINGLE_LABEL):
        logger.info("%s: its problem type is set from %s to %s", run.model, config.problem_type, SINGLE_LABEL)
        config.problem_type = SINGLE_LABEL
    _override(config, run.config_overrides)
    with _clear_errors(run.model):
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            run.model,
            config=config,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,  # half precision, as in some checkpoints, would round small steps to 0
            output_loading_info=True,
        )
    fresh = [*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])]
    fit_head(model, list(labels["label2id"]), [str(saved[index]) for index in sorted(saved)], fresh)
    most = min(tokenizer.model_max_length, max_positions(model))
    tokenizer.model_max_length = min(_tokenizer_sizes(run, chosen)["max_length"], most)
    return tokenizer, model


def stride_for(run: RunArguments, tokenizer: PreTrainedTokenizerFast) -> int | None:
    """Number of tokens that neighbouring windows of a long text share; None if long texts are truncated.

    Raises:
        ValueError: The windows would not advance.
    """
    if run.long_texts == "truncate":
        return None
    max_length, special = tokenizer.model_max_length, tokenizer.num_special_tokens_to_add()
    require_at_least(special + 1, **{"max_length of windows": max_length})
    most = max_length - special - 1
    return min(max_length // 4, most) if run.stride is None else int(in_range("stride", run.stride, 0, most))


@contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    """Re-raises errors from loading a pretrained model as a one-line ValueError."""
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
        raise ValueError(
            f"config_overrides must not set {' or '.join(sorted(fixed))}, which the data determine, got {overrides!r}"
        )
    try:
        config.update_from_string(overrides)
    except (TypeError, ValueError) as error:
        known = ", ".join(sorted(config.to_diff_dict()))
        raise ValueError(
            f"config_overrides must be FIELD=VALUE,FIELD=VALUE,... with fields of {type(config).__name__} ({known}), "
            f"got {overrides!r}: {error}"
        ) from error


def make_optimizer(model: torch.nn.Module, args: TrainingArguments) -> torch.optim.Optimizer | None:
    """Row-wise Adagrad for FastText with --optim adagrad; otherwise None, for the Trainer's optimizer.

    On a CPU without clipping, the gradient of FastText's table is sparse. On an accelerator it is dense, since sorting
    the rows of a sparse gradient would synchronize with the device.

    Raises:
        ValueError: An argument is set that this optimizer does not support.
    """
    fasttexts = [part for part in model.modules() if isinstance(part, FastTextForSequenceClassification)]
    if not fasttexts or args.optim != OptimizerNames.ADAGRAD:
        return None
    if args.weight_decay or args.optim_args:
        raise ValueError(
            f"weight_decay must be 0 and optim_args left out with FastText's adagrad, got {args.weight_decay} and "
            f"{args.optim_args}; choose another optim such as adamw_torch"
        )
    for fasttext in fasttexts:  # torch cannot clip a sparse gradient
        fasttext.embedding.sparse = args.device.type == "cpu" and not args.max_grad_norm
    return RowwiseAdagrad(model.parameters(), lr=args.learning_rate)


def teacher_logits(teacher: str, rows: Dataset) -> npt.NDArray[np.float32]:
    """(N, K): log-probabilities of a saved classifier for texts, which serve as its logits.

    Args:
        teacher: Folder or id of the classifier.
        rows: Rows with the columns text and label.

    Raises:
        ValueError: The classes of the classifier differ from those of the rows.
    """
    probabilities = class_probabilities(Classifier(teacher), rows)
    logits: npt.NDArray[np.float32] = np.log(probabilities.clip(min=1e-12)).astype(np.float32)
    return logits
