"""Compiled loops for FastText: the mean embedding of a text's words and n-grams, and its gradient.

FastText is limited by reads of random rows of a large table. The loops prefetch each row well before
they use it, and make one pass over the data where PyTorch's operations make several.
"""

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kr_text.kernels.compiled_loops import Array, compiled, prefetch, trailing_zeros
from kr_text.kernels.embedding_bag import FASTTEXT_HASH
from kr_text.kernels.loop_threads import run_in_parts

AHEAD = 16  # entries between a prefetch and its use
BITS = 64  # in an element of the bit set of rows


class NgramSizes(NamedTuple):
    """Fields of `FastTextConfig` that decide the table rows of a text."""

    vocab_size: int
    num_buckets: int
    max_ngram: int
    pad_token_id: int


class Bags(NamedTuple):
    """Table rows of a batch of texts; those of text t are `rows[ends[t] * rows_per_word :][: counts[t]]`."""

    ends: Array  # (batch + 1,): index of each text's first word, then the number of words
    rows: Array  # (num_words * rows_per_word,), int32
    counts: Array  # (batch,): number of rows of each text
    rows_per_word: int  # at most: the word, the n-grams that begin with it, and its character n-grams


def mean_embedding(
    table: Tensor, words: Tensor, offsets: Tensor, sizes: NgramSizes, char_ngrams: Tensor | None, sparse: bool
) -> Tensor:
    """Averages the embeddings of each text's words and n-grams, with a gradient: (batch, width).

    Args:
        table: (num_rows, width), the rows of the words, then the rows of the n-grams.
        words: (num_words,), the texts' token ids, one text after the other.
        offsets: (batch,), index of each text's first word.
        sizes: Sizes of the vocabulary and of the n-grams.
        char_ngrams: (vocab_size, max_char_ngrams), int32: table rows of each word's character n-grams, then padding;
            None for none.
        sparse: Whether the table's gradient is sparse.

    Raises:
        IndexError: A word or an offset is out of range.
    """
    return cast(Tensor, cast(Any, _MeanEmbedding).apply(table, words, offsets, sizes, char_ngrams, sparse))


class _MeanEmbedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        words: Tensor,
        offsets: Tensor,
        sizes: NgramSizes,
        char_ngrams: Tensor | None,
        sparse: bool,
    ) -> Tensor:
        means, ctx.bags = mean_bags(table, words, offsets, sizes, char_ngrams)
        ctx.num_rows, ctx.sparse = len(table), sparse
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradient = table_gradient(ctx.bags, grad.contiguous(), ctx.num_rows)
        return gradient if ctx.sparse else gradient.to_dense(), None, None, None, None, None


def mean_bags(
    table: Tensor, words: Tensor, offsets: Tensor, sizes: NgramSizes, char_ngrams: Tensor | None = None
) -> tuple[Tensor, Bags]:
    """`mean_embedding` without a gradient, and the rows that it averaged."""
    ids = words.to(torch.int32).numpy()
    ends = np.append(offsets.numpy(), len(ids))
    if len(ids) and (ids.min() < 0 or ids.max() >= sizes.vocab_size):
        wrong = ids[(ids < 0) | (ids >= sizes.vocab_size)][0]
        raise IndexError(f"input_ids must be in 0..{sizes.vocab_size - 1}, got {wrong}")
    if ends[0] < 0 or (ends[:-1] > ends[1:]).any():
        raise IndexError(f"offsets must ascend from 0 to at most {len(ids)}, the number of words")
    subwords = np.empty((1, 0), dtype=np.int32) if char_ngrams is None else char_ngrams.numpy()
    rows_per_word = sizes.max_ngram + subwords.shape[1]
    # Zeros, because the loops also prefetch the rows of unused entries.
    rows = np.zeros(len(ids) * rows_per_word, dtype=np.int32)
    counts = np.empty(len(offsets), dtype=np.int64)
    means = torch.empty(len(offsets), table.shape[1], dtype=table.dtype)
    run_in_parts(_average, ids, ends, table.detach().numpy(), sizes, subwords, rows, counts, means.numpy())
    return means, Bags(ends, rows, counts, rows_per_word)


def table_gradient(bags: Bags, mean_gradient: Tensor, num_rows: int) -> Tensor:
    """Sparse gradient of the table, (num_rows, width), from the gradient of the means, (batch, width).

    It lists each row once, in ascending order.
    """
    slots = np.empty(num_rows, dtype=np.int32)  # index of each row in the gradient; set for the rows in `bags` only
    distinct = np.empty(len(bags.rows), dtype=np.int64)
    bit_set = np.zeros(-(-num_rows // BITS), dtype=np.uint64)
    count = _number_rows(bags.ends, bags.rows_per_word, bags.rows, bags.counts, bit_set, slots, distinct)
    distinct = distinct[:count]
    sums = torch.zeros(len(distinct), mean_gradient.shape[1], dtype=mean_gradient.dtype)
    _sum_gradients(bags.ends, bags.rows_per_word, bags.rows, bags.counts, slots, mean_gradient.numpy(), sums.numpy())
    shape = (num_rows, mean_gradient.shape[1])
    return torch.sparse_coo_tensor(
        torch.from_numpy(distinct)[None], sums, shape, is_coalesced=True, check_invariants=False
    )


@compiled
def _hash_text(
    begin: int, end: int, words: Array, table: Array, sizes: NgramSizes, subwords: Array, rows: Array
) -> int:
    """Writes the table rows of a text to `rows`, prefetches them, and returns their number."""
    first = begin * (sizes.max_ngram + subwords.shape[1])
    count = 0
    for index in range(begin, end):
        word = np.int64(words[index])
        if word == sizes.pad_token_id:
            continue
        rows[first + count] = word
        prefetch(table, word)
        count += 1
        hashed = word
        for next_index in range(index + 1, min(index + sizes.max_ngram, end)):
            if words[next_index] == sizes.pad_token_id:
                break
            hashed = hashed * FASTTEXT_HASH + words[next_index]  # int64 wraps around
            row = sizes.vocab_size + hashed % sizes.num_buckets
            rows[first + count] = row
            prefetch(table, row)
            count += 1
        for column in range(subwords.shape[1]):
            row = np.int64(subwords[word, column])
            if row == sizes.pad_token_id:
                break
            rows[first + count] = row
            prefetch(table, row)
            count += 1
    return count


@compiled
def _average(
    part: int,
    num_parts: int,
    words: Array,
    ends: Array,
    table: Array,
    sizes: NgramSizes,
    subwords: Array,
    rows: Array,
    counts: Array,
    means: Array,
) -> None:
    num_texts, width = means.shape
    low, high = num_texts * part // num_parts, num_texts * (part + 1) // num_parts
    for text in range(low, high + 1):  # averages a text after it has prefetched the rows of the next one
        if text < high:
            counts[text] = _hash_text(ends[text], ends[text + 1], words, table, sizes, subwords, rows)
        if text > low:
            mean, count = means[text - 1], counts[text - 1]
            mean[:] = 0
            first = ends[text - 1] * (sizes.max_ngram + subwords.shape[1])
            for index in range(first, first + count):
                row = table[np.uint32(rows[index])]
                for column in range(width):
                    mean[column] += row[column]
            if count:
                for column in range(width):
                    mean[column] /= count


@compiled
def _number_rows(
    ends: Array, rows_per_word: int, rows: Array, counts: Array, bit_set: Array, slots: Array, distinct: Array
) -> int:
    """Numbers the distinct rows of all texts in ascending order, without a sort, and returns how many there are."""
    for text in range(len(counts)):
        first = ends[text] * rows_per_word
        for index in range(first, first + counts[text]):
            row = np.uint32(rows[index])
            bit_set[row // BITS] |= np.uint64(1) << np.uint64(row % BITS)
    slot = 0
    for index in range(len(bit_set)):
        bits = bit_set[index]
        while bits:
            row_of_bit = index * BITS + np.int64(trailing_zeros(bits))
            slots[row_of_bit] = slot
            distinct[slot] = row_of_bit
            slot += 1
            bits &= bits - np.uint64(1)
    return slot


@compiled
def _sum_gradients(
    ends: Array, rows_per_word: int, rows: Array, counts: Array, slots: Array, mean_gradient: Array, sums: Array
) -> None:
    width = sums.shape[1]
    share = np.empty(width, mean_gradient.dtype)
    for text in range(len(counts)):
        count = counts[text]
        for column in range(width):
            share[column] = mean_gradient[text, column] / max(count, 1)
        first = ends[text] * rows_per_word
        for index in range(first, first + count):
            if index + 2 * AHEAD < len(rows):
                prefetch(slots, rows[index + 2 * AHEAD])
                prefetch(sums, slots[np.uint32(rows[index + AHEAD])])
            row_sum = sums[np.uint32(slots[np.uint32(rows[index])])]
            for column in range(width):
                row_sum[column] += share[column]
