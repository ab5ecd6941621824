"""Recurrences over padded batches in both directions."""

from typing import Any, cast

import torch
from torch import Tensor, nn


def recur(cell: nn.Module, x: Tensor) -> Tensor:
    """Runs an LSTM or a GRU: (batch, seq_len, width) -> (batch, seq_len, hidden_size).

    Runs in float32 under autocast on a CPU that has no bf16 for recurrences.
    """
    if x.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, cell(x)[0])
    return cast(Tensor, cell(x)[0])


def reversed_indices(seq_len: int, lengths: Tensor) -> Tensor:
    """Indices for `reverse_rows`: the first `lengths[i]` steps of row i are reversed, its padding stays.

    Returns:
        (batch * seq_len,), indices into the steps of all rows, one row after the other.
    """
    steps = torch.arange(seq_len, device=lengths.device).expand(len(lengths), seq_len)
    last = lengths[:, None] - 1
    begins = torch.arange(len(lengths), device=lengths.device)[:, None] * seq_len
    return (begins + torch.where(steps <= last, last - steps, steps)).flatten()


def reverse_rows(x: Tensor, indices: Tensor) -> Tensor:
    """Permutes the steps of x (batch, seq_len, width) by `reversed_indices`; applied twice, it returns x."""
    return cast(Tensor, cast(Any, _ReverseRows).apply(x, indices))


class _ReverseRows(torch.autograd.Function):
    """A permutation that is its own inverse, and so its own gradient.

    Autograd would scatter-add into a tensor of zeros.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        return x.flatten(0, 1).index_select(0, indices).view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (indices,) = ctx.saved_tensors
        return reverse_rows(grad, indices), None
