"""One-dimensional convolutions over characters and over frames, as table lookups and matrix products.

A convolution's `weight` is (kernel_size, in_channels, out_channels), its `bias` (out_channels,).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class CharConvolution(nn.Module):
    """A convolution over one-hot characters, computed as a sum of table rows: one row per kernel position.

    Args:
        num_characters: Number of characters with a one-hot vector; their ids start at `num_zero_ids`.
        out_channels: Width of the output.
        kernel_size: Number of characters that one output frame sees.
        num_zero_ids: Number of ids, from 0 on, that stand for a vector of zeros.
    """

    def __init__(self, num_characters: int, out_channels: int, kernel_size: int, num_zero_ids: int) -> None:
        super().__init__()
        self.kernel_size, self.num_zero_ids = kernel_size, num_zero_ids
        self.weight = nn.Parameter(torch.empty(kernel_size, num_characters, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Convolves (batch, length) -> (batch, length - kernel_size + 1, out_channels)."""
        rows, table = self._lookups(input_ids)
        return F.embedding_bag(rows.flatten(0, 1), table, mode="sum").view(*rows.shape[:2], -1)

    def largest(self, input_ids: Tensor) -> Tensor:
        """Convolves (batch, length) and takes the maximum over the frames: (batch, out_channels)."""
        return cast(Tensor, cast(Any, _LargestSum).apply(*self._lookups(input_ids)))

    def _lookups(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The rows to add for each frame, (batch, length - kernel_size + 1, kernel_size), and the table of the rows."""
        first, *others = F.pad(self.weight, (0, 0, self.num_zero_ids, 0))  # each (vocab_size, out_channels)
        table = torch.stack([first + self.bias, *others])
        windows = input_ids.unfold(1, self.kernel_size, 1)
        rows = windows + torch.arange(self.kernel_size, device=input_ids.device) * table.shape[1]
        return rows, table.flatten(0, 1)


class _LargestSum(torch.autograd.Function):
    """Sums table rows for each frame and takes the maximum over the frames.

    Only the frame with the maximum has a gradient, so the gradient is cheaper than that of all frames.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor) -> Tensor:
        sums = F.embedding_bag(rows.flatten(0, 1), table, mode="sum")
        largest, frames = sums.view(*rows.shape[:2], -1).max(dim=1)  # each (batch, out_channels)
        ctx.save_for_backward(rows, frames)
        ctx.num_rows = len(table)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        rows, frames = ctx.saved_tensors
        kernel_size = rows.shape[2]
        added = rows.transpose(1, 2).gather(2, frames[:, None].expand(-1, kernel_size, -1))
        table_grad = grad.new_zeros(ctx.num_rows, grad.shape[1])
        table_grad.scatter_add_(0, added.flatten(0, 1), grad[:, None].expand_as(added).flatten(0, 1))
        return None, table_grad


class Convolution(nn.Module):
    """A convolution over frames, computed as one matrix product per kernel position.

    The frames of a batch are contiguous, so each product takes all of them at once without a copy. Windows that
    straddle two texts are computed too, and dropped.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(kernel_size, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Convolves (batch, length, in_channels) -> (batch, length - kernel_size + 1, out_channels)."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        return cast(Tensor, cast(Any, _Convolve).apply(x, weight, bias))


class _Convolve(torch.autograd.Function):
    """`Convolution`, with gradients that are accumulated in place; autograd would make a copy per kernel position."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        batch_size, length, _ = x.shape
        frames, kernel_size = x.flatten(0, 1), len(weight)
        num_windows = len(frames) - kernel_size + 1
        y = x.new_empty(len(frames), weight.shape[2])
        sums = y[:num_windows].copy_(bias)
        for position in range(kernel_size):
            sums.addmm_(frames[position : position + num_windows], weight[position])
        return y.view(batch_size, length, -1)[:, : length - kernel_size + 1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        frames, kernel_size = x.flatten(0, 1), len(weight)
        num_windows = len(frames) - kernel_size + 1
        straddling = kernel_size - 1
        window_grad = F.pad(grad, (0, 0, 0, straddling)).flatten(0, 1)[:num_windows]
        frame_grad, weight_grad = torch.zeros_like(frames), torch.empty_like(weight)
        for position in range(kernel_size):
            frame_grad[position : position + num_windows].addmm_(window_grad, weight[position].T)
            torch.mm(frames[position : position + num_windows].T, window_grad, out=weight_grad[position])
        return frame_grad.view(x.shape), weight_grad, window_grad.sum(0)
