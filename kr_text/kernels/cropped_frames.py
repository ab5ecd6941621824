"""Layers that compute only the frames up to the end of the longest text in a batch.

Past the end of a text, every layer outputs the same vector in each frame. A batch of `num_frames` frames is therefore
stored as x (batch, length, ...) with length <= num_frames: the remaining frames equal the last frame of x.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kr_text.kernels.convolution import CharConvolution, Convolution


def crop(input_ids: Tensor, num_frames: int) -> Tensor:
    """Cuts (batch, seq_len) to `num_frames` characters; a shorter batch gets one character of padding, id 0."""
    x = input_ids[:, :num_frames]
    return F.pad(x, (0, 1)) if x.shape[1] < num_frames else x


def repeat_last(x: Tensor, length: int) -> Tensor:
    """Repeats the last frame of x (batch, at most length, ...) up to (batch, length, ...)."""
    missing = length - x.shape[1]
    return torch.cat([x, x[:, -1:].repeat_interleave(missing, dim=1)], dim=1) if missing > 0 else x


def convolve(layer: CharConvolution | Convolution, x: Tensor, num_frames: int) -> tuple[Tensor, int]:
    """Convolves cropped frames; returns the cropped output and its number of frames."""
    num_frames -= layer.kernel_size - 1
    length = min(x.shape[1], num_frames)
    y: Tensor = layer(repeat_last(x, length + layer.kernel_size - 1))
    return y, num_frames


def largest(layer: CharConvolution, x: Tensor, num_frames: int) -> Tensor:
    """Convolves cropped characters and takes the maximum over all frames: (batch, out_channels)."""
    length = min(x.shape[1], num_frames - layer.kernel_size + 1)
    return layer.largest(repeat_last(x, length + layer.kernel_size - 1))


def max_pool(x: Tensor, num_frames: int, pool_size: int) -> tuple[Tensor, int]:
    """Takes the maximum over each `pool_size` cropped frames; returns the cropped output and its number of frames."""
    if pool_size == 1:
        return x, num_frames
    num_frames //= pool_size
    length = min(-(-(x.shape[1] - 1) // pool_size) + 1, num_frames)
    x = repeat_last(x, length * pool_size)[:, : length * pool_size]
    return cast(Tensor, cast(Any, _MaxPool).apply(x, pool_size)), num_frames


class _MaxPool(torch.autograd.Function):
    """`F.max_pool1d` over dimension 1 of (batch, length, width); among equal frames the first gets the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pool_size: int) -> Tensor:
        best, *others = x.view(x.shape[0], -1, pool_size, x.shape[2]).unbind(2)
        kept = []  # for each further frame: whether the maximum so far remains the maximum
        for frame in others:
            kept.append(best >= frame)
            best = torch.maximum(best, frame)
        ctx.save_for_backward(*kept)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        kept = ctx.saved_tensors
        frame_grad = grad.new_empty(*grad.shape[:2], len(kept) + 1, grad.shape[2])
        for frame in reversed(range(len(kept))):
            earlier = grad * kept[frame]
            torch.sub(grad, earlier, out=frame_grad[:, :, frame + 1])
            grad = earlier
        frame_grad[:, :, 0] = grad
        return frame_grad.flatten(1, 2), None


class FrameLinear(nn.Module):
    """A dense layer over all of `num_frames` frames, given cropped ones.

    Its `weight` is (num_frames, in_features, out_features). It runs in the weight's precision under autocast too,
    since reading the weight takes longer than multiplying by it.
    """

    def __init__(self, num_frames: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_frames, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, length <= num_frames, in_features) -> (batch, out_features)."""
        with torch.autocast(x.device.type, enabled=False):
            y = cast(Any, _MultiplyFrames).apply(x.to(self.weight.dtype), self.weight)
            return cast(Tensor, y + self.bias)


class _MultiplyFrames(torch.autograd.Function):
    """`FrameLinear` without its bias, with gradients that are written in place; autograd would copy them twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        own, shared = weight.split([x.shape[1] - 1, weight.shape[0] - x.shape[1] + 1])
        last = shared.sum(0)  # the weight of the last frame of x, which stands for all that follow it
        ctx.save_for_backward(x, own, last)
        ctx.num_frames = weight.shape[0]
        return torch.addmm(x[:, -1] @ last, x[:, :-1].flatten(1), own.flatten(0, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, own, last = ctx.saved_tensors
        x_grad = torch.empty_like(x)
        x_grad[:, :-1] = (grad @ own.flatten(0, 1).T).unflatten(1, own.shape[:2])
        x_grad[:, -1] = grad @ last.T
        weight_grad = own.new_empty(ctx.num_frames, *own.shape[1:])
        torch.mm(x[:, :-1].flatten(1).T, grad, out=weight_grad[: len(own)].flatten(0, 1))
        weight_grad[len(own) :] = x[:, -1].T @ grad
        return x_grad, weight_grad
