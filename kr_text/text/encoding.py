"""Encoding of texts as token ids, in Arrow columns throughout."""

import json
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import DatasetDict
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from kr_text import __version__
from kr_text.text.character_encoder import CharacterEncoder
from kr_text.text.tokenization import character_tokenizer, untrained_word_tokenizer
from kr_text.text.word_encoder import WordEncoder, Words

WORDS = json.loads(untrained_word_tokenizer().to_str())
CHARACTERS = json.loads(character_tokenizer(max_length=1).backend_tokenizer.to_str())
BATCH = 10_000  # texts encoded at a time
NO_LIMIT = 2**31 - 1  # tokens, if neither tokenizer nor model limits the length


def encode(data: DatasetDict, tokenizer: PreTrainedTokenizerFast) -> DatasetDict:
    """Converts the columns text and label to input_ids, labels and length (in tokens), on all cores and cached.

    Args:
        data: Splits with the columns text and label.
        tokenizer: Fast tokenizer. Texts are truncated to its `model_max_length`.
    """
    encoded = data.with_format("arrow").map(
        _encode_batch,
        batched=True,
        remove_columns=["text", "label"],
        batch_size=BATCH,
        writer_batch_size=BATCH,
        fn_kwargs={**_settings(tokenizer), "version": __version__},  # part of the cache key
        desc="tokenizing",
    )
    return encoded.with_format(None)


class TextEncoder:
    """Encoder of texts as the columns input_ids and length (in tokens), as `encode` does.

    It copies the tokenizer, so later changes to the tokenizer have no effect.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.encoder = _encoder(**_settings(tokenizer))
        self.max_length, self.truncation_side = tokenizer.model_max_length, tokenizer.truncation_side

    def __call__(self, texts: list[str]) -> pa.Table:
        """Encodes texts, one row per text."""
        return _encode(pa.array(texts, pa.string()), self.encoder, self.max_length, self.truncation_side)


def max_positions(model: PreTrainedModel) -> int:
    """Maximum number of tokens that the position embeddings of a model allow.

    In RoBERTa and models derived from it, the first position is `padding_idx + 1`.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or NO_LIMIT
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    first = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    return int(positions - max(first, default=0))


def _settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "backend": tokenizer.backend_tokenizer.to_str(),  # equal tokenizers give equal strings and so equal cache keys
        "max_length": tokenizer.model_max_length,
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": tokenizer.split_special_tokens,  # the string lacks the last two
    }


def _encode_batch(batch: pa.Table, *, version: str, **settings: Any) -> pa.Table:
    texts, encoder = batch["text"].combine_chunks(), _encoder(**settings)
    encoded = _encode(texts, encoder, settings["max_length"], settings["truncation_side"])
    return encoded.append_column("labels", batch["label"])


def _encode(
    texts: pa.Array, encoder: Tokenizer | WordEncoder | CharacterEncoder, max_length: int, truncation_side: str
) -> pa.Table:
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
    """Truncates each row to `max_length` ids, on the "right" or "left" side."""
    lengths = words.lengths
    if lengths.max(initial=0) <= max_length:
        return words
    position = np.arange(len(words.ids)) - np.repeat(lengths.cumsum() - lengths, lengths)
    keep = position < max_length if side == "right" else position >= np.repeat(lengths - max_length, lengths)
    return Words(words.ids[keep], lengths.clip(max=max_length))


@lru_cache(maxsize=1)
def _encoder(
    backend: str, max_length: int, truncation_side: str, split_special_tokens: bool
) -> Tokenizer | WordEncoder | CharacterEncoder:
    tokenizer = Tokenizer.from_str(backend)
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = split_special_tokens
    settings = json.loads(backend)
    if split_special_tokens and looks_up_words(settings):
        tokenizer.no_truncation()
        return WordEncoder(tokenizer)
    if split_special_tokens and looks_up_characters(settings):
        return CharacterEncoder(tokenizer)
    tokenizer.enable_truncation(max_length, direction=truncation_side)
    return tokenizer


def looks_up_words(backend: dict[str, Any]) -> bool:
    """Whether a tokenizer has the parts of a `word_tokenizer`, so that a `WordEncoder` gives the same ids."""
    return _is_like(WORDS, backend) and backend["model"]["type"] in ("WordLevel", "WordPiece")


def looks_up_characters(backend: dict[str, Any]) -> bool:
    """Whether a tokenizer has the parts of a `character_tokenizer`, so that a `CharacterEncoder` gives the same ids."""
    words = backend["model"]["vocab"].keys() - {token["content"] for token in backend["added_tokens"]}
    looks_up = _is_like(CHARACTERS, backend) and backend["model"]["type"] == "WordLevel"
    return looks_up and all(len(word) == 1 for word in words)


def _is_like(expected: dict[str, Any], backend: dict[str, Any]) -> bool:
    """Whether a tokenizer looks up the same parts of a text, and adds no special tokens around it."""
    added = (backend["post_processor"] or {}).get("special_tokens", {})
    same = all(backend[part] == expected[part] for part in ("normalizer", "pre_tokenizer"))
    return same and not added
