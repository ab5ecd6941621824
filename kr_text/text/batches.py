"""Batches of token ids from Arrow columns (flat for FastText, else padded), and the order of the rows."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from kr_text.kernels.ragged import concatenate_slices, ranges
from kr_text.models import FastTextForSequenceClassification

MAX_COPY = 2**28  # bytes of ids that are copied into one array; larger columns stay memory-mapped
AT_ONCE = (
    50_000  # row numbers converted to Python ints at a time; an int takes four times the memory of an array element
)


class Batches(torch.utils.data.Dataset[dict[str, Any]]):
    """Data set of encoded rows that gives a `DataLoader` whole batches; rows never become Python objects.

    A padded batch has `input_ids` and `attention_mask`, both (batch, seq_len), padded on the right. A flat batch has
    `input_ids` (num_tokens,) int32, the texts concatenated, and `offsets` (batch,), where each text starts. Both have
    `labels` (batch,) if the rows do.

    Args:
        rows: Table with the column input_ids, and optionally labels and text_index.
        pad_token_id: Id that pads the rows of a batch.
        flat: Whether batches are flat, for models that take `offsets`, instead of padded.
        extra: Further entries of a batch: arrays with one item per row.

    Attributes:
        texts: Index of each row's text, (rows,), if the rows are windows of texts; otherwise None.
    """

    def __init__(
        self,
        rows: pa.Table,
        pad_token_id: int,
        *,
        flat: bool = False,
        extra: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        ids = rows["input_ids"]
        if ids.nbytes <= MAX_COPY:
            ids = pa.chunked_array([ids.combine_chunks()], ids.type)
        # The ids of all rows, in one array or several memory-mapped ones.
        self.pieces: list[npt.NDArray[np.int32]] = [chunk.values.to_numpy() for chunk in ids.chunks]
        self.piece_of = np.repeat(np.arange(ids.num_chunks), [len(chunk) for chunk in ids.chunks])  # (rows,)
        self.begins = _concatenate([chunk.offsets[:-1].to_numpy() for chunk in ids.chunks])  # (rows,), within the piece
        self.lengths = _concatenate([chunk.value_lengths().to_numpy() for chunk in ids.chunks])  # (rows,)
        self.labels = rows["labels"].to_numpy() if "labels" in rows.column_names else None
        self.texts: npt.NDArray[np.int64] | None = (
            rows["text_index"].to_numpy() if "text_index" in rows.column_names else None
        )
        self.pad_token_id, self.flat, self.extra = pad_token_id, flat, dict(extra or {})

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One row without padding, for callers that ask for its length."""
        if not 0 <= row < len(self):
            raise IndexError(f"row must be in 0..{len(self) - 1}, got {row}")
        begin = self.begins[row]
        return {"input_ids": self.pieces[self.piece_of[row]][begin : begin + self.lengths[row]]}

    def __getitems__(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[dict[str, Tensor]]:
        """One batch, as a list of one item, because the Trainer inspects the keys of each item."""
        chosen = np.asarray(rows)
        lengths = self.lengths[chosen]
        ends = lengths.cumsum()
        flat = self._ids(chosen, ends - lengths, lengths)
        # The labels come first: the Trainer infers the batch size from the first entry.
        batch = {} if self.labels is None else {"labels": self.labels[chosen]}
        if self.flat:
            batch |= {"input_ids": flat, "offsets": ends - lengths}
        else:
            mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
            padded = np.full(mask.shape, self.pad_token_id)
            padded[mask] = flat
            batch |= {"input_ids": padded, "attention_mask": mask.astype(np.int64)}
        batch |= {name: column[chosen] for name, column in self.extra.items()}
        return [{name: torch.from_numpy(column) for name, column in batch.items()}]

    def _ids(
        self, rows: npt.NDArray[np.int64], begins: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int32]:
        """Ids of the rows, concatenated; row i starts at `begins[i]`."""
        if len(self.pieces) == 1:
            return concatenate_slices(self.pieces[0], self.begins[rows], lengths)
        ids = np.empty(int(lengths.sum()), dtype=np.int32)
        order = np.argsort(self.piece_of[rows], kind="stable")
        places, targets = ranges(self.begins[rows[order]], lengths[order]), ranges(begins[order], lengths[order])
        pieces, firsts = np.unique(self.piece_of[rows[order]], return_index=True)
        bounds = np.concatenate([[0], lengths[order].cumsum()])[[*firsts, len(rows)]]
        for piece, begin, end in zip(pieces, bounds, bounds[1:], strict=False):
            ids[targets[begin:end]] = self.pieces[piece].take(places[begin:end])
        return ids


def _concatenate(parts: list[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    return cast(npt.NDArray[np.int64], np.concatenate([np.empty(0, np.int64), *parts], dtype=np.int64))


def batches_for(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: pa.Table,
    extra: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Batches:
    """Batches in the layout that the model expects: flat for FastText, padded for every other model.

    Args:
        model: Model that gets the batches.
        tokenizer: Tokenizer of the rows, with a padding token.
        rows: Table with the column input_ids, and optionally labels.
        extra: Further entries of a batch: arrays with one item per row.
    """
    flat = isinstance(model, FastTextForSequenceClassification)
    return Batches(rows, cast(int, tokenizer.pad_token_id), flat=flat, extra=extra)


class ShuffledRows(torch.utils.data.Sampler[int]):
    """Sampler that shuffles the rows anew in each epoch; the order depends only on the seed and the epoch.

    Padded batches get rows of similar length, which saves padding: within windows of `WINDOW` batches the shuffled rows
    are sorted by length, and the batches of all windows are shuffled.

    Args:
        rows: Batches whose rows are ordered.
        batch_size: Number of rows per optimizer step, over all processes.
        seed: Seed of the orders.
        balanced: Whether to draw as many rows from every class, see `balanced_draw`, instead of each row once.
    """

    WINDOW = 50

    def __init__(self, rows: Batches, batch_size: int, seed: int, *, balanced: bool = False) -> None:
        self.rows, self.batch_size, self.seed, self.balanced, self.epoch = rows, batch_size, seed, balanced, 0

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch that determines the order; the Trainer calls it before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.rows))
        if self.balanced:
            order = balanced_draw(cast(npt.NDArray[np.int64], self.rows.labels), order, generator)
        if not self.rows.flat:
            windows = np.arange(len(order)) // (self.WINDOW * self.batch_size)
            order = order[np.lexsort((self.rows.lengths[order], windows))]
            whole = len(order) - len(order) % self.batch_size
            order[:whole] = generator.permutation(order[:whole].reshape(-1, self.batch_size)).flatten()
        return chain.from_iterable(part.tolist() for part in np.split(order, range(AT_ONCE, len(order), AT_ONCE)))


def balanced_draw(
    labels: npt.NDArray[np.int64], order: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(N,): as many rows as there are, in random order, and as many of every class.

    Where N is no multiple of the number of classes, some classes, chosen at random, get one row more. The rows of a
    large class are drawn without replacement. Each row of a small class is drawn equally often, or once more.

    Args:
        labels: (N,), the class of each row.
        order: (N,), all rows in random order.
        generator: Source of the further random numbers.
    """
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, firsts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    slot = np.arange(len(order))
    which = generator.permutation(len(counts))[slot % len(counts)]  # class of each slot
    drawn = by_class[firsts[which] + slot // len(counts) % counts[which]]
    return cast(npt.NDArray[np.int64], generator.permutation(drawn))


def whole_batch(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collator for `Batches`, which already returns whole batches."""
    (batch,) = batches
    return batch
