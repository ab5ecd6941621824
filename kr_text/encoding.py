"""From texts to token ids, in Arrow from end to end."""

from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import DatasetDict
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast


def encode(data: DatasetDict, tokenizer: PreTrainedTokenizerFast) -> DatasetDict:
    """Turns the columns text, label into input_ids, labels, length (in tokens), on all cores; the result is cached.

    Args:
        data: splits with the columns text and label.
        tokenizer: a fast tokenizer; texts are cut to its `model_max_length`.
    """
    encoded = data.with_format("arrow").map(
        _encode_batch,
        batched=True,
        remove_columns=["text", "label"],
        fn_kwargs=_settings(tokenizer),
        desc="tokenizing",
    )
    return encoded.with_format(None)


def encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> pa.Table:
    """The columns input_ids and length (in tokens) of texts, as `encode` makes them."""
    return _encode(texts, **_settings(tokenizer))


def _settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "backend": tokenizer.backend_tokenizer.to_str(),  # a string, so that the cache knows the same tokenizer again
        "max_length": tokenizer.model_max_length,
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": tokenizer.split_special_tokens,  # the string has not these two
    }


def _encode_batch(batch: pa.Table, **settings: Any) -> pa.Table:
    return _encode(batch["text"].to_pylist(), **settings).append_column("labels", batch["label"])


def _encode(texts: list[str], **settings: Any) -> pa.Table:
    ids = [encoding.ids for encoding in _backend(**settings).encode_batch_fast(texts)]
    lengths = np.fromiter(map(len, ids), dtype=np.int32, count=len(ids))
    flat = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(lengths.sum()))
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    return pa.table({"input_ids": pa.ListArray.from_arrays(offsets, flat), "length": lengths})


@lru_cache(maxsize=1)
def _backend(backend: str, max_length: int, truncation_side: str, split_special_tokens: bool) -> Tokenizer:
    tokenizer = Tokenizer.from_str(backend)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, direction=truncation_side)
    tokenizer.encode_special_tokens = split_special_tokens
    return tokenizer
