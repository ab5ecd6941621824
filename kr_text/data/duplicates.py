"""Counts duplicate rows, contradictory labels, and texts that two splits share.

Texts are compared without regard to case, ASCII punctuation and white space: by a hash of 64 bits, so that 8 bytes are
kept for a text, not the text.
"""

import itertools
import logging
import string

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)

_BLANK = (string.punctuation + string.whitespace).encode()
_TO_BLANKS = np.array([ord(" ") if byte in _BLANK else byte for byte in range(256)], np.uint8)

# Key of report.json -> what its number counts, for the log and the report. Each is the number of rows or texts.
COUNTS = {
    "duplicate_train_rows": "rows of train repeat an earlier row of train, with the same label",
    "contradictory_train_texts": "texts of train occur with different labels",
    "validation_rows_in_train": "rows of validation have a text that train has too",
    "test_rows_in_train": "rows of test have a text that train has too",
}


def count_duplicates(splits: DatasetDict) -> dict[str, int]:
    """Counts by the keys of `COUNTS`, for the splits train, validation and test."""
    texts = {split: _hashes(rows) for split, rows in splits.items()}
    labels = splits["train"].with_format("arrow").select_columns("label")[:]["label"].to_numpy()
    in_train, number, counts = np.unique(texts["train"], return_inverse=True, return_counts=True)
    repeated = counts[number] > 1
    pairs = np.unique(np.stack([number[repeated], labels[repeated]], axis=1), axis=0)  # text and label
    return {
        "duplicate_train_rows": int(repeated.sum()) - len(pairs),
        "contradictory_train_texts": int((np.bincount(pairs[:, 0]) > 1).sum()),
        "validation_rows_in_train": int(np.isin(texts["validation"], in_train).sum()),
        "test_rows_in_train": int(np.isin(texts["test"], in_train).sum()),
    }


def log_duplicates(counts: dict[str, int], where: str) -> None:
    """Logs a line for each count above 0."""
    for name, count in counts.items():
        if count:
            logger.warning("%s: %s %s", where, f"{count:,}", COUNTS[name])


def _hashes(rows: Dataset) -> npt.NDArray[np.int64]:
    """A hash of the words of each text, (num_rows,)."""
    hashes = [np.empty(0, dtype=np.int64)]
    for batch in rows.with_format("arrow").select_columns("text").iter(batch_size=10_000):
        texts = pc.utf8_lower(batch["text"].combine_chunks()).cast(pa.large_binary())
        words = _words(texts)
        whole = texts.to_pylist() if b"" in words else words  # a text of punctuation only has no words
        hashes.append(np.array([hash(own or text) for own, text in zip(words, whole, strict=True)], np.int64))
    return np.concatenate(hashes)


def _words(texts: pa.LargeBinaryArray) -> list[bytes]:
    """The words of each text, with one blank between them. Faster than `bytes.split` for each text."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    characters = _TO_BLANKS[np.frombuffer(data, np.uint8)]
    is_word = characters != ord(" ")
    keep = is_word.copy()
    keep[:-1] |= is_word[1:]  # the last of several blanks
    kept = characters[keep].tobytes()
    ends = np.concatenate([[0], np.cumsum(keep)])[ends].tolist()
    return [kept[start:end].strip() for start, end in itertools.pairwise(ends)]
