"""Windows: a text longer than the model reads becomes several overlapping rows, whose predictions are averaged."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from kr_text.kernels.ragged import Ints, ranges
from kr_text.text.word_encoder import Words

Floats = npt.NDArray[np.float64]


class Windows(NamedTuple):
    """Windows of several texts, in the order of the texts.

    Attributes:
        rows: Token ids of each window.
        texts: Index of the text of each window, (num_windows,).
    """

    rows: Words
    texts: Ints


def split_into_windows(words: Words, max_length: int, stride: int) -> Windows:
    """Splits each text into windows of `max_length` ids; the last window of a text may be shorter.

    A text of at most `max_length` ids, even an empty one, is one window.

    Args:
        words: Token ids of each text.
        max_length: Maximum number of ids in a window.
        stride: Number of ids that neighbouring windows share, less than `max_length`.
    """
    lengths, step = words.lengths, max_length - stride
    counts = 1 + -(-(lengths - max_length).clip(min=0) // step)
    texts = np.repeat(np.arange(len(lengths)), counts)
    starts = step * (np.arange(len(texts)) - np.repeat(counts.cumsum() - counts, counts))  # within the text
    window_lengths = (lengths[texts] - starts).clip(max=max_length)
    begins = (lengths.cumsum() - lengths)[texts] + starts
    return Windows(Words(words.ids.take(ranges(begins, window_lengths)), window_lengths), texts)


def mean_probabilities(probabilities: Floats, texts: Ints) -> Floats:
    """Class probabilities of texts, (N, K): the means over their windows.

    Args:
        probabilities: Class probabilities of the windows, (W, K).
        texts: Index of the text of each window, (W,), in 0..N - 1. Each text has a window; windows may have any order.
    """
    order, starts = _groups(texts)
    sums = np.add.reduceat(probabilities[order], starts, axis=0)
    return np.asarray(sums / np.bincount(texts)[:, None])


def text_logits(logits: Floats, texts: Ints) -> Floats:
    """Logs of the probabilities that `mean_probabilities` gives, (N, K), computed without underflow.

    Args:
        logits: Logits of the windows, (W, K).
        texts: As for `mean_probabilities`.
    """
    order, starts = _groups(texts)
    sums = np.logaddexp.reduceat(log_softmax(logits[order], axis=1), starts, axis=0)
    return np.asarray(sums - np.log(np.bincount(texts))[:, None])


def text_labels(labels: npt.NDArray[np.int64], texts: Ints) -> npt.NDArray[np.int64]:
    """Labels of texts, (N,), from the labels of their windows (W,)."""
    order, starts = _groups(texts)
    return labels[order][starts]


def _groups(texts: Ints) -> tuple[Ints, Ints]:
    """Order that puts the windows of a text next to each other, and where each text then starts."""
    order = np.argsort(texts, kind="stable")
    return order, np.flatnonzero(np.diff(texts[order], prepend=-1))


def long_texts_note(counts: Mapping[str, tuple[int, int]], max_length: int, window_stride: int | None) -> str:
    """Says how many texts are longer than the model reads, and how they are read; an empty string if none is.

    Args:
        counts: Number of long texts and number of all texts, by the name of a split or an empty name.
        max_length: Number of tokens that the model reads at a time.
        window_stride: Number of tokens that neighbouring windows share; None if texts are truncated.
    """
    parts = [f"{long:,} of {texts:,} {name}".strip() for name, (long, texts) in counts.items() if long]
    if not parts:
        return ""
    how = "truncated" if window_stride is None else f"read in windows that share {window_stride:,} tokens"
    return f"{', '.join(parts)} texts are longer than {max_length:,} tokens: {how}"
