"""Mean embeddings of texts with PyTorch's operations: `F.embedding_bag` for ragged rows, some of them padding."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FASTTEXT_HASH = 116_049_371  # multiplier of the fastText library's hash of n-grams


def mean_bags(table: Tensor, rows: Tensor, offsets: Tensor, padding_row: int, sparse: bool) -> Tensor:
    """Averages the table rows of each text, leaving out padding: (batch, width), 0 for a text without rows.

    `F.embedding_bag` can take means and skip padding, but its fast CPU kernel does neither.

    Args:
        table: (num_rows, width).
        rows: (num_words, rows_per_word), row numbers; `padding_row` where a word has fewer rows.
        offsets: (batch,), index of each text's first word.
        padding_row: Row number that is left out.
        sparse: Whether the table's gradient is sparse.
    """
    keep = rows != padding_row
    ends = F.pad(keep.sum(1).cumsum(0, dtype=torch.int32), (1, 0))  # (num_words + 1,): rows kept before each word
    begins = ends[offsets]  # (batch,)
    counts = torch.diff(begins, append=ends[-1:])  # (batch,)
    if table.device.type == "cpu":
        rows = rows.masked_select(keep)
        if sparse:
            total = cast(Tensor, cast(Any, _SparseBagSum).apply(table, rows, begins))
        else:
            total = F.embedding_bag(rows, table, begins, mode="sum")
    else:  # `masked_select` would wait for the device
        rows, begins = rows.flatten(), (offsets * rows.shape[1]).to(rows.dtype)
        weights = keep.flatten().to(table.dtype)
        total = F.embedding_bag(rows, table, begins, mode="sum", sparse=sparse, per_sample_weights=weights)
    return total / counts.clamp(min=1)[:, None]


class _SparseBagSum(torch.autograd.Function):
    """`F.embedding_bag` with mode "sum" and a sparse gradient that lists each row once, in ascending order.

    The sparse gradient of `F.embedding_bag` lists a row as often as the row occurs in the batch.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, begins: Tensor) -> Tensor:
        ctx.save_for_backward(rows, begins)
        ctx.shape = table.shape
        return F.embedding_bag(rows, table, begins, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        rows, begins = ctx.saved_tensors
        lengths = torch.diff(begins, append=begins.new_tensor([len(rows)]))
        bags = torch.repeat_interleave(lengths)  # the bag of each entry of `rows`
        rows, order = rows.sort()
        rows, counts = torch.unique_consecutive(rows, return_counts=True)
        begins = (counts.cumsum(0) - counts).to(bags.dtype)
        values = F.embedding_bag(bags.index_select(0, order), grad, begins, mode="sum")
        return torch.sparse_coo_tensor(rows[None], values, ctx.shape, check_invariants=False), None, None
