"""Whole batches cut out of Arrow columns, so that no row of them becomes Python objects on the way to the model."""

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

MAX_COPY = 2**28  # bytes of ids that are brought together in memory; more stay in the file that they are mapped from
AT_ONCE = 50_000  # rows whose numbers are Python objects at a time: four times the memory


class Batches(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded rows for a `DataLoader`, which gets whole batches from it.

    A batch has `labels` (batch,), if the rows have them, and `input_ids`: (batch, seq_len), padded on the right, beside
    `attention_mask`; or `flat`, int32, one text after the other, (number of tokens,), beside `offsets` (batch,), where
    each begins.

    Args:
        rows: with the column input_ids, and labels or not.
        pad_token_id: what fills the rows of a batch.
        flat: no padding, for models that take `offsets`.
        extra: further columns of a batch, whole: arrays with an entry for each row.
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
        # The ids, perhaps in the file still.
        self.pieces: list[npt.NDArray[np.int32]] = [chunk.values.to_numpy() for chunk in ids.chunks]
        self.piece_of = np.repeat(np.arange(ids.num_chunks), [len(chunk) for chunk in ids.chunks])  # (rows,)
        self.begins = _concatenate([chunk.offsets[:-1].to_numpy() for chunk in ids.chunks])  # (rows,), in its piece
        self.lengths = _concatenate([chunk.value_lengths().to_numpy() for chunk in ids.chunks])  # (rows,)
        self.labels = rows["labels"].to_numpy() if "labels" in rows.column_names else None
        self.pad_token_id, self.flat, self.extra = pad_token_id, flat, dict(extra or {})

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One row, as its lengths are asked for."""
        if not 0 <= row < len(self):
            raise IndexError(f"row must be in 0..{len(self) - 1}, got {row}")
        begin = self.begins[row]
        return {"input_ids": self.pieces[self.piece_of[row]][begin : begin + self.lengths[row]]}

    def __getitems__(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[dict[str, Tensor]]:
        """One batch, in a list since the Trainer looks for the model's arguments in each element of one."""
        chosen = np.asarray(rows)
        lengths = self.lengths[chosen]
        ends = lengths.cumsum()
        flat = self._ids(chosen, ends - lengths, lengths)
        # The labels come first: the Trainer takes the length of what does for the number of rows.
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
        """The ids of rows, one row after the other, where `begins` says."""
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
    """Batches as the model likes them best: flat ones for FastText."""
    flat = isinstance(model, FastTextForSequenceClassification)
    return Batches(rows, cast(int, tokenizer.pad_token_id), flat=flat, extra=extra)


class ShuffledRows(torch.utils.data.Sampler[int]):
    """The rows in an order that is new in each epoch, and depends on seed and epoch alone.

    Where a batch has padding to save, it has rows of like length: those of each `WINDOW` batches of the shuffled rows
    are sorted, and the batches of all windows shuffled again.

    Args:
        rows: which rows.
        batch_size: rows that the network, on all processes, sees between two steps.
        seed: of the orders.
    """

    WINDOW = 50

    def __init__(self, rows: Batches, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed, self.epoch = rows, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """To be called before each epoch, as the Trainer does."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.rows))
        if not self.rows.flat:
            windows = np.arange(len(order)) // (self.WINDOW * self.batch_size)
            order = order[np.lexsort((self.rows.lengths[order], windows))]
            whole = len(order) - len(order) % self.batch_size
            order[:whole] = generator.permutation(order[:whole].reshape(-1, self.batch_size)).flatten()
        return chain.from_iterable(part.tolist() for part in np.split(order, range(AT_ONCE, len(order), AT_ONCE)))


def whole_batch(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The collator for `Batches`: there is nothing left to collate."""
    (batch,) = batches
    return batch
