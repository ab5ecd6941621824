"""Encoding of texts as token ids, in Arrow columns throughout."""

import json
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import DatasetDict
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from kr_text import __version__
from kr_text.kernels.ragged import Ints
from kr_text.models.tokenizer import window_stride
from kr_text.text.character_encoder import CharacterEncoder
from kr_text.text.tokenization import character_tokenizer, untrained_word_tokenizer
from kr_text.text.windows import Windows, split_into_windows
from kr_text.text.word_encoder import WordEncoder, Words

WORDS = json.loads(untrained_word_tokenizer().to_str())
CHARACTERS = json.loads(character_tokenizer(max_length=1).backend_tokenizer.to_str())
BATCH = 10_000  # texts encoded at a time
NO_LIMIT = 2**31 - 1  # tokens, if neither tokenizer nor model limits the length

Encoder = Tokenizer | WordEncoder | CharacterEncoder


def encode(data: DatasetDict, tokenizer: PreTrainedTokenizerFast) -> DatasetDict:
    """Converts the columns text and label to input_ids, labels, length and is_long, on all cores and cached.

    length is the number of input_ids. is_long marks the first row of each text that is longer than the
    `model_max_length` of the tokenizer. Such a text is truncated; if the tokenizer is for windows, it becomes
    several rows instead, and the column text_index tells which rows are of one text.

    Args:
        data: Splits with the columns text and label.
        tokenizer: Fast tokenizer.
    """
    encoded = data.with_format("arrow").map(
        _encode_batch,
        batched=True,
        with_indices=True,
        remove_columns=["text", "label"],
        batch_size=BATCH,
        writer_batch_size=BATCH,
        fn_kwargs={**_settings(tokenizer), "version": __version__},  # part of the cache key
        desc="tokenizing",
    )
    return encoded.with_format(None)


class TextEncoder:
    """Encoder of texts as the columns of `encode`, without labels.

    It copies the tokenizer, so later changes to the tokenizer have no effect.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.settings = _settings(tokenizer)
        self.encoder = _encoder(**self.settings)

    def __call__(self, texts: list[str]) -> pa.Table:
        """Encodes texts, one row per text or window."""
        return _encode(pa.array(texts, pa.string()), self.encoder, self.settings)[0]


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
        "window_stride": window_stride(tokenizer),
    }


def _encode_batch(batch: pa.Table, indices: list[int], *, version: str, **settings: Any) -> pa.Table:
    encoded, texts = _encode(batch["text"].combine_chunks(), _encoder(**settings), settings)
    if "text_index" in encoded.column_names:
        place = encoded.column_names.index("text_index")
        encoded = encoded.set_column(place, "text_index", pa.array(np.asarray(indices)[texts]))
    return encoded.append_column("labels", batch["label"].take(texts))


def _encode(texts: pa.Array, encoder: Encoder, settings: dict[str, Any]) -> tuple[pa.Table, Ints]:
    """The columns of `encode` without labels, and the index of each row's text."""
    max_length, stride = settings["max_length"], settings["window_stride"]
    if isinstance(encoder, Tokenizer):
        (words, index), is_long = _encode_with_overflow(texts, encoder, max_length, windows=stride is not None)
    else:
        whole = encoder(texts)
        is_long = whole.lengths > max_length
        if stride is None:
            words, index = truncate(whole, max_length, settings["truncation_side"]), np.arange(len(texts))
        else:
            words, index = split_into_windows(whole, max_length, stride)
    offsets = np.concatenate([[0], words.lengths.cumsum()]).astype(np.int32)
    columns = {"input_ids": pa.ListArray.from_arrays(offsets, words.ids), "length": words.lengths.astype(np.int32)}
    columns["is_long"] = is_long[index] & (np.diff(index, prepend=-1) > 0)
    return pa.table(columns if stride is None else {**columns, "text_index": index}), index


def _encode_with_overflow(
    texts: pa.Array, tokenizer: Tokenizer, max_length: int, *, windows: bool
) -> tuple[Windows, npt.NDArray[np.bool_]]:
    """Encodes with a tokenizer that truncates, and that keeps what it cuts off as further windows.

    Returns:
        The windows, only the first of each text unless `windows`, and whether each text is longer than `max_length`.
    """
    ids, counts, is_long = [], [], []
    for encoding in tokenizer.encode_batch_fast(texts.to_pylist()):
        further = encoding.overflowing if len(encoding.ids) >= max_length else []
        is_long.append(bool(further))
        rows = [encoding.ids, *(each.ids for each in further)] if windows else [encoding.ids]
        ids += rows
        counts.append(len(rows))
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    words = Words(np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(lengths.sum())), lengths)
    return Windows(words, np.repeat(np.arange(len(counts)), counts)), np.array(is_long, dtype=bool)


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
    backend: str, max_length: int, truncation_side: str, split_special_tokens: bool, window_stride: int | None
) -> Encoder:
    tokenizer = Tokenizer.from_str(backend)
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = split_special_tokens
    settings = json.loads(backend)
    if split_special_tokens and looks_up_words(settings):
        tokenizer.no_truncation()
        return WordEncoder(tokenizer)
    if split_special_tokens and looks_up_characters(settings):
        return CharacterEncoder(tokenizer)
    if window_stride is None:
        tokenizer.enable_truncation(max_length, direction=truncation_side)
    else:
        tokenizer.enable_truncation(max_length, stride=window_stride)
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
