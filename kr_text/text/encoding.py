"""From texts to token ids, in Arrow from end to end."""

import json
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import DatasetDict
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from kr_text import __version__
from kr_text.text.character_encoder import CharacterEncoder
from kr_text.text.word_encoder import WordEncoder, Words

CHARACTERS = {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": False}
BATCH = 10_000  # texts, whose words are looked up together


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
        batch_size=BATCH,
        writer_batch_size=BATCH,
        fn_kwargs={**_settings(tokenizer), "version": __version__},  # else the cache would outlive a change of it
        desc="tokenizing",
    )
    return encoded.with_format(None)


def encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> pa.Table:
    """The columns input_ids and length (in tokens) of texts, as `encode` makes them."""
    return _encode(pa.array(texts, pa.string()), **_settings(tokenizer))


def _settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "backend": tokenizer.backend_tokenizer.to_str(),  # a string, so that the cache knows the same tokenizer again
        "max_length": tokenizer.model_max_length,
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": tokenizer.split_special_tokens,  # the string has not these two
    }


def _encode_batch(batch: pa.Table, *, version: str, **settings: Any) -> pa.Table:
    return _encode(batch["text"].combine_chunks(), **settings).append_column("labels", batch["label"])


def _encode(
    texts: pa.Array, *, backend: str, max_length: int, truncation_side: str, split_special_tokens: bool
) -> pa.Table:
    encoder = _encoder(backend, max_length, truncation_side, split_special_tokens)
    if isinstance(encoder, WordEncoder | CharacterEncoder):
        words = truncate(encoder(texts), max_length, truncation_side)
    else:
        ids = [encoding.ids for encoding in encoder.encode_batch_fast(texts.to_pylist())]
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        words = Words(np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(lengths.sum())), lengths)
    offsets = np.concatenate([[0], words.lengths.cumsum()]).astype(np.int32)
    return pa.table(
        {"input_ids": pa.ListArray.from_arrays(offsets, words.ids), "length": words.lengths.astype(np.int32)}
    )


def truncate(words: Words, max_length: int, side: str) -> Words:
    """Cuts each row to `max_length` ids, at its "right" or "left"."""
    lengths = words.lengths
    if lengths.max(initial=0) <= max_length:
        return words
    from_begin = np.arange(len(words.ids)) - np.repeat(lengths.cumsum() - lengths, lengths)
    keep = from_begin < max_length if side == "right" else from_begin >= np.repeat(lengths - max_length, lengths)
    return Words(words.ids[keep], lengths.clip(max=max_length))


@lru_cache(maxsize=1)
def _encoder(
    backend: str, max_length: int, truncation_side: str, split_special_tokens: bool
) -> Tokenizer | WordEncoder | CharacterEncoder:
    tokenizer = Tokenizer.from_str(backend)
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = split_special_tokens
    settings = json.loads(backend)
    if split_special_tokens and splits_at_blanks(settings):
        tokenizer.no_truncation()
        return WordEncoder(tokenizer)
    if split_special_tokens and looks_up_characters(settings):
        return CharacterEncoder(tokenizer)
    tokenizer.enable_truncation(max_length, direction=truncation_side)
    return tokenizer


def splits_at_blanks(backend: dict[str, Any]) -> bool:
    """Whether a tokenizer is like those of `word_tokenizer`, for which a text is its pieces between blanks."""
    return _parts(backend) == ["BertNormalizer", "BertPreTokenizer", "WordLevel", {}]


def looks_up_characters(backend: dict[str, Any]) -> bool:
    """Whether a tokenizer is like those of `character_tokenizer`."""
    special = {token["content"] for token in backend["added_tokens"]}
    return (
        _parts(backend) == ["Lowercase", "Split", "WordLevel", {}]
        and backend["pre_tokenizer"] == CHARACTERS
        and all(len(token) == 1 and token.isascii() for token in backend["model"]["vocab"].keys() - special)
    )


def _parts(backend: dict[str, Any]) -> list[Any]:
    parts = [(backend[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    return [*parts, (backend["post_processor"] or {}).get("special_tokens", {})]  # that are put around a text
