"""What FastText and its optimizer do to the rows of a large table, in compiled loops.

PyTorch has an operation for each part of this, and each goes through memory anew; what bounds these loops is only how
fast rows are read from places all over a table, and each says ahead which ones it will need. To import this module
takes numba, the extra `fast`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kr_text.kernels.compiled_loops import compiled, in_parts, prefetch, trailing_zeros

Array = npt.NDArray[Any]

AHEAD = 16  # rows, between asking for one and using it
BITS = 64  # of a whole number


@compiled
def _hash_text(begin: int, end: int, words: Array, table: Array, config: tuple[int, int, int, int], rows: Array) -> int:
    """Puts the rows of a text where they belong; how many there are."""
    vocab_size, num_buckets, max_ngram, pad = config
    first = begin * max_ngram
    count = 0
    for place in range(begin, end):
        word = np.int64(words[place])
        if word == pad:
            continue
        rows[first + count] = word
        prefetch(table, word)
        count += 1
        hashed = word
        for next_place in range(place + 1, min(place + max_ngram, end)):
            if words[next_place] == pad:
                break
            hashed = hashed * 116_049_371 + words[next_place]  # fastText's hash; int64 wraps around
            row = vocab_size + hashed % num_buckets
            rows[first + count] = row
            prefetch(table, row)
            count += 1
    return count


@compiled
def _mean_bags(
    part: int,
    parts: int,
    words: Array,
    ends: Array,
    table: Array,
    config: tuple[int, int, int, int],
    rows: Array,
    counts: Array,
    means: Array,
) -> None:
    num_texts, width = means.shape
    low, high = num_texts * part // parts, num_texts * (part + 1) // parts
    for text in range(low, high + 1):  # the rows of a text are on their way while those before it are summed
        if text < high:
            counts[text] = _hash_text(ends[text], ends[text + 1], words, table, config, rows)
        if text > low:
            mean, count = means[text - 1], counts[text - 1]
            mean[:] = 0
            first = ends[text - 1] * config[2]
            for place in range(first, first + count):
                row = table[np.uint32(rows[place])]
                for column in range(width):
                    mean[column] += row[column]
            if count:
                for column in range(width):
                    mean[column] /= count


@compiled
def _number_rows(
    ends: Array, max_ngram: int, rows: Array, counts: Array, marks: Array, slots: Array, touched: Array
) -> int:
    """Gives each row that occurs a number, in order; how many there are."""
    for text in range(len(counts)):
        first = ends[text] * max_ngram
        for place in range(first, first + counts[text]):
            row = np.uint32(rows[place])
            marks[row // BITS] |= np.uint64(1) << np.uint64(row % BITS)
    slot = 0
    for index in range(len(marks)):
        bits = marks[index]
        while bits:
            row_of_bit = index * BITS + np.int64(trailing_zeros(bits))
            slots[row_of_bit] = slot
            touched[slot] = row_of_bit
            slot += 1
            bits &= bits - np.uint64(1)
    return slot


@compiled
def _sum_gradients(
    ends: Array, max_ngram: int, rows: Array, counts: Array, slots: Array, of_means: Array, sums: Array
) -> None:
    width = sums.shape[1]
    share = np.empty(width, of_means.dtype)
    for text in range(len(counts)):
        count = counts[text]
        for column in range(width):
            share[column] = of_means[text, column] / max(count, 1)
        first = ends[text] * max_ngram
        for place in range(first, first + count):
            if place + 2 * AHEAD < len(rows):
                prefetch(slots, rows[place + 2 * AHEAD])
                prefetch(sums, slots[np.uint32(rows[place + AHEAD])])
            row_sum = sums[np.uint32(slots[np.uint32(rows[place])])]
            for column in range(width):
                row_sum[column] += share[column]


@compiled
def _adagrad(
    part: int,
    parts: int,
    table: Array,
    squares: Array,
    rows: Array,
    gradient: Array,
    rate: Any,
    eps: Any,
    share: Any,
) -> None:
    num_rows, width = gradient.shape
    high = num_rows * (part + 1) // parts
    for index in range(num_rows * part // parts, high):
        if index + AHEAD < high:
            prefetch(table, rows[index + AHEAD])
            prefetch(squares, rows[index + AHEAD])
        row, of_row = np.uint64(rows[index]), gradient[index]
        square = of_row[0] * of_row[0]
        for column in range(1, width):
            square += of_row[column] * of_row[column]
        squares[row] += square * share
        scale = rate / np.sqrt(squares[row] + eps)
        row_of_table = table[row]
        for column in range(width):
            row_of_table[column] -= scale * of_row[column]


@compiled
def _cut(source: Array, begins: Array, lengths: Array, pieces: Array) -> None:
    end = 0
    for index in range(len(begins)):
        soon = index + AHEAD // 2
        if soon < len(begins):
            for place in range(begins[soon], begins[soon] + lengths[soon], 64 // source.itemsize):
                prefetch(source, place)
        for place in range(begins[index], begins[index] + lengths[index]):
            pieces[end] = source[place]
            end += 1


@compiled
def _ascend(rows: Array) -> bool:
    num_others = 0
    for index in range(1, len(rows)):
        num_others += rows[index - 1] >= rows[index]
    return num_others == 0


class Bags(NamedTuple):
    """Texts as rows of a table: those of text t are `rows[ends[t] * max_ngram :][: counts[t]]`."""

    ends: Array  # (batch + 1,): where each text begins in the words, and where the last one ends
    rows: Array  # (number of words * max_ngram,), int32
    counts: Array  # (batch,)
    max_ngram: int


def mean_bags(
    table: Tensor, words: Tensor, offsets: Tensor, vocab_size: int, num_buckets: int, max_ngram: int, pad_token_id: int
) -> tuple[Tensor, Bags]:
    """(batch, width): the mean over the rows of the words and n-grams of each text, 0 for an empty one.

    Args:
        table: (rows, width), the words' first and then the n-grams'.
        words: (number of words,), the texts one after the other.
        offsets: (batch,), where each text begins.
        vocab_size: rows of words.
        num_buckets: rows of n-grams.
        max_ngram: words of the longest n-gram.
        pad_token_id: what stands for no word.

    Raises:
        IndexError: words or offsets that are out of range.
    """
    ids = words.to(torch.int32).numpy()
    ends = np.append(offsets.numpy(), len(ids))
    if len(ids) and (ids.min() < 0 or ids.max() >= vocab_size):
        wrong = ids[(ids < 0) | (ids >= vocab_size)][0]
        raise IndexError(f"input_ids must be in 0..{vocab_size - 1}, got {wrong}")
    if ends[0] < 0 or (ends[:-1] > ends[1:]).any():
        raise IndexError(f"offsets must ascend from 0 to at most {len(ids)}, the number of words")
    rows = np.zeros(len(ids) * max_ngram, dtype=np.int32)  # a row too where no text has one, for what looks ahead
    counts = np.empty(len(offsets), dtype=np.int64)
    means = torch.empty(len(offsets), table.shape[1], dtype=table.dtype)
    in_parts(
        _mean_bags,
        ids,
        ends,
        table.detach().numpy(),
        (vocab_size, num_buckets, max_ngram, pad_token_id),
        rows,
        counts,
        means.numpy(),
    )
    return means, Bags(ends, rows, counts, max_ngram)


def table_gradient(bags: Bags, of_means: Tensor, num_rows: int) -> Tensor:
    """(num_rows, width), sparse: the gradient by the table, from that by the means; each row once, in order."""
    slots = np.empty(num_rows, dtype=np.int32)  # of the rows that are touched; the others are never written
    touched = np.empty(len(bags.rows), dtype=np.int64)
    marks = np.zeros(-(-num_rows // BITS), dtype=np.uint64)
    count = _number_rows(bags.ends, bags.max_ngram, bags.rows, bags.counts, marks, slots, touched)
    touched = touched[:count]
    sums = torch.zeros(len(touched), of_means.shape[1], dtype=of_means.dtype)
    _sum_gradients(bags.ends, bags.max_ngram, bags.rows, bags.counts, slots, of_means.numpy(), sums.numpy())
    shape = (num_rows, of_means.shape[1])
    return torch.sparse_coo_tensor(
        torch.from_numpy(touched)[None], sums, shape, is_coalesced=True, check_invariants=False
    )


def cut(source: Array, begins: Array, lengths: Array) -> Array:
    """Pieces of `source`, one after the other: from each of `begins`, as many as `lengths` says."""
    pieces = np.empty(int(lengths.sum()), dtype=source.dtype)
    _cut(source, begins, lengths, pieces)
    return pieces


def ascend(rows: Tensor) -> bool:
    """Whether each is greater than the one before."""
    return bool(_ascend(rows.numpy()))


def adagrad_rows(
    table: Tensor, squares: Tensor, rows: Tensor, gradient: Tensor, learning_rate: float, eps: float
) -> None:
    """A step of row-wise Adagrad, in place, on the rows (R,) of table (rows, width) and squares (rows,)."""
    number = gradient.numpy().dtype.type
    numbers = number(learning_rate), number(eps), number(1 / gradient.shape[1])
    in_parts(_adagrad, table.numpy(), squares.numpy(), rows.numpy(), gradient.numpy(), *numbers)
