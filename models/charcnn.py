"""CharCNN: six convolutions and three dense layers over the characters of a text.

Zhang, Zhao, LeCun: Character-level Convolutional Networks for Text Classification (NeurIPS 2015).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.kernels.dropout import Dropout
from kr_text.models.padding import left_align
from kr_text.ranges import require_at_least, require_dropout

# (kernel size, pool size) of the six convolutions: Zhang 2015, Table 1.
CONVOLUTIONS = ((7, 3), (7, 3), (3, 1), (3, 1), (3, 1), (3, 3))
# From those: one frame of the last pool sees RECEPTIVE_FIELD characters, and the next one starts STRIDE further on.
RECEPTIVE_FIELD, STRIDE = 123, 27

NUM_ZERO_IDS = 2  # padding, unknown

SIZES = {
    "small": {"num_filters": 256, "dense_size": 1024, "initializer_range": 0.05},
    "large": {"num_filters": 1024, "dense_size": 2048, "initializer_range": 0.02},
}


class CharCNNConfig(PreTrainedConfig):
    """Sizes of a CharCNN classifier; `CharCNNConfig.preset("small")` and `("large")` give the paper's two.

    Args:
        vocab_size: characters, with the ids 0 (padding) and 1 (not in the alphabet), which are vectors of zeros.
        num_frames: characters that are read; a longer text is cut off, a shorter one filled up with zeros.
        num_filters: width of the convolutions.
        dense_size: width of the first two dense layers.
        dropout: after each of these.
        initializer_range: deviation of the normal distribution that the weights start from; the last layer's are zeros.
        center_channels: every layer past the first reads its input less the mean over its channels, which is Zhang's
            network with weights that add up to zero over those. False: his own, which trains less surely.
    """

    model_type = "kr_text_charcnn"

    def __init__(
        self,
        vocab_size: int = 71,
        num_frames: int = 1014,
        num_filters: int = 256,
        dense_size: int = 1024,
        dropout: float = 0.5,
        initializer_range: float = 0.05,
        center_channels: bool = True,
        **kwargs: Any,
    ) -> None:
        require_at_least(NUM_ZERO_IDS + 1, vocab_size=vocab_size)
        require_at_least(RECEPTIVE_FIELD, num_frames=num_frames)
        require_at_least(1, num_filters=num_filters, dense_size=dense_size)
        require_dropout(dropout)
        if initializer_range <= 0:
            raise ValueError(f"initializer_range must be above 0, got {initializer_range}")
        super().__init__(**kwargs)
        require_at_least(2, num_labels=cast(int, self.num_labels))
        self.vocab_size = vocab_size
        self.num_frames = num_frames
        self.num_filters = num_filters
        self.dense_size = dense_size
        self.dropout = dropout
        self.initializer_range = initializer_range
        self.center_channels = center_channels
        self.pad_token_id = 0

    @classmethod
    def preset(cls, size: str, **kwargs: Any) -> "CharCNNConfig":
        """The paper's "small" or "large" sizes; `kwargs` as for the constructor."""
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
        return cls(**{**SIZES[size], **kwargs})


class CharConvolution(nn.Module):
    """A convolution over one-hot characters, whose products are sums of rows of a table: one row a place and character.

    The ids below `NUM_ZERO_IDS` are vectors of zeros.
    """

    def __init__(self, num_characters: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(kernel_size, num_characters, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, length) -> (batch, length - kernel_size + 1, out_channels)."""
        first, *others = F.pad(self.weight, (0, 0, NUM_ZERO_IDS, 0))  # each (vocab_size, out_channels)
        table = torch.stack([first + self.bias, *others])
        windows = input_ids.unfold(1, self.kernel_size, 1)  # (batch, length - kernel_size + 1, kernel_size)
        rows = windows + torch.arange(self.kernel_size, device=input_ids.device) * table.shape[1]
        x = F.embedding_bag(rows.flatten(0, 1), table.flatten(0, 1), mode="sum")
        return x.view(*windows.shape[:2], -1)


class Convolution(nn.Module):
    """A convolution over frames (batch, length, in_channels): one matrix product for each place of the kernel.

    The frames of a batch lie one after the other, so that a product takes all of them, unmoved and at once; those that
    straddle two rows are dropped at the end.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(kernel_size, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, in_channels) -> (batch, length - kernel_size + 1, out_channels)."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        return cast(Tensor, cast(Any, _Convolve).apply(x, weight, bias))


class _Convolve(torch.autograd.Function):
    """`Convolution`, with gradients that are added up where they belong: autograd would make a copy for each place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        batch_size, length, _ = x.shape
        frames, kernel_size = x.flatten(0, 1), len(weight)
        num_windows = len(frames) - kernel_size + 1
        y = x.new_empty(len(frames), weight.shape[2])
        sums = y[:num_windows].copy_(bias)
        for place in range(kernel_size):
            sums.addmm_(frames[place : place + num_windows], weight[place])
        return y.view(batch_size, length, -1)[:, : length - kernel_size + 1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        frames, kernel_size = x.flatten(0, 1), len(weight)
        num_windows = len(frames) - kernel_size + 1
        straddling = kernel_size - 1
        of_windows = F.pad(grad, (0, 0, 0, straddling)).flatten(0, 1)[:num_windows]
        of_frames, of_weight = torch.zeros_like(frames), torch.empty_like(weight)
        for place in range(kernel_size):
            of_frames[place : place + num_windows].addmm_(of_windows, weight[place].T)
            torch.mm(frames[place : place + num_windows].T, of_windows, out=of_weight[place])
        return of_frames.view(x.shape), of_weight, of_windows.sum(0)


class FrameLinear(nn.Module):
    """A dense layer over `num_frames` frames, of which the first are given and the others equal the last of these.

    It computes in its weights' precision under autocast too: to read them takes longer than to multiply.
    """

    def __init__(self, num_frames: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_frames, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, at most num_frames, in_features) -> (batch, out_features)."""
        with torch.autocast(x.device.type, enabled=False):
            y = cast(Any, _MultiplyFrames).apply(x.to(self.weight.dtype), self.weight)
            return cast(Tensor, y + self.bias)


class _MultiplyFrames(torch.autograd.Function):
    """`FrameLinear` without bias, with a gradient that is written where it belongs: autograd would copy it twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        own, others = weight.split([x.shape[1] - 1, weight.shape[0] - x.shape[1] + 1])
        repeated = others.sum(0)
        ctx.save_for_backward(x, own, repeated)
        ctx.num_frames = weight.shape[0]
        return torch.addmm(x[:, -1] @ repeated, x[:, :-1].flatten(1), own.flatten(0, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, own, repeated = ctx.saved_tensors
        of_x = torch.empty_like(x)
        of_x[:, :-1] = (grad @ own.flatten(0, 1).T).unflatten(1, own.shape[:2])
        of_x[:, -1] = grad @ repeated.T
        of_weight = own.new_empty(ctx.num_frames, *own.shape[1:])
        torch.mm(x[:, :-1].flatten(1).T, grad, out=of_weight[: len(own)].flatten(0, 1))
        of_weight[len(own) :] = x[:, -1].T @ grad
        return of_x, of_weight


def repeat_last(x: Tensor, length: int) -> Tensor:
    """(batch, at most length, ...) -> (batch, length, ...): the last frame again and again."""
    missing = length - x.shape[1]
    return torch.cat([x, x[:, -1:].repeat_interleave(missing, dim=1)], dim=1) if missing > 0 else x


def max_pool(x: Tensor, pool_size: int) -> Tensor:
    """(batch, length, width) -> (batch, length / pool_size, width)."""
    return cast(Tensor, cast(Any, _MaxPool).apply(x, pool_size))


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pool_size: int) -> Tensor:
        best, *others = x.view(x.shape[0], -1, pool_size, x.shape[2]).unbind(2)
        stays = []  # whether the best so far is that of one frame more
        for frame in others:
            stays.append(best >= frame)
            best = torch.maximum(best, frame)
        ctx.save_for_backward(*stays)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        stays = ctx.saved_tensors
        of_frames = grad.new_empty(*grad.shape[:2], len(stays) + 1, grad.shape[2])
        for frame in reversed(range(len(stays))):
            before = grad * stays[frame]
            torch.sub(grad, before, out=of_frames[:, :, frame + 1])
            grad = before
        of_frames[:, :, 0] = grad
        return of_frames.flatten(1, 2), None


class CharCNNForSequenceClassification(PreTrainedModel):
    """Zhang's character-level classifier, which reads forward (the paper reads backward).

    What a ReLU gives is positive, so one step of Adam moves all the weights of a unit the same way, and their small
    moves add up over thousands of inputs: within a few hundred steps half of the last convolution's units can be zero
    for every text, and training stays on a plateau. `center_channels` takes that common part away (docs/recipes.md has
    the comparison).

    Past the end of a text every layer's output is one constant vector. A layer computes the frames up to the first of
    these, which stands for the others, so the logits are those of all `num_frames` at the cost of the batch's longest
    text.
    """

    config_class = CharCNNConfig
    config: CharCNNConfig

    def __init__(self, config: CharCNNConfig) -> None:
        super().__init__(config)
        (first, _), *others = CONVOLUTIONS
        self.characters = CharConvolution(config.vocab_size - NUM_ZERO_IDS, config.num_filters, first)
        self.convolutions = nn.ModuleList(
            Convolution(config.num_filters, config.num_filters, kernel_size) for kernel_size, _ in others
        )
        num_features = (config.num_frames - RECEPTIVE_FIELD) // STRIDE + 1
        self.dense1 = FrameLinear(num_features, config.num_filters, config.dense_size)
        self.dense2 = nn.Linear(config.dense_size, config.dense_size)
        self.classifier = nn.Linear(config.dense_size, cast(int, config.num_labels))
        self.dropout = Dropout(config.dropout)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, CharConvolution | Convolution | FrameLinear | nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            nn.init.zeros_(module.bias)
        if module is self.classifier:
            nn.init.zeros_(module.weight)

    def center(self, x: Tensor) -> Tensor:
        """(..., channels), less the mean over these where the config asks for it."""
        return x - x.mean(-1, keepdim=True) if self.config.center_channels else x

    def features(self, input_ids: Tensor) -> Tensor:
        """The convolutions: (batch, seq_len) -> (batch, frames of the text and one more at most, num_filters)."""
        num_frames = (
            self.config.num_frames
        )  # of the layer at hand; `x` holds the first of them, the others equal its last
        x = input_ids[:, :num_frames]
        if x.shape[1] < num_frames:
            x = F.pad(x, (0, 1))
        for convolution, (kernel_size, pool_size) in zip(
            [self.characters, *self.convolutions], CONVOLUTIONS, strict=True
        ):
            num_frames -= kernel_size - 1
            length = min(x.shape[1], num_frames)
            x = convolution(repeat_last(x, length + kernel_size - 1))
            if pool_size > 1:
                num_frames //= pool_size
                length = min(-(-(length - 1) // pool_size) + 1, num_frames)
                x = max_pool(repeat_last(x, length * pool_size)[:, : length * pool_size], pool_size)
            x = self.center(F.relu(x))
        return x

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Classifies texts.

        Args:
            input_ids: (batch, seq_len), ids of characters.
            attention_mask: (batch, seq_len), 1 keep, 0 pad.
            labels: (batch,), in 0..num_labels - 1; if given, `loss` is their mean cross-entropy.

        Returns:
            `logits` (batch, num_labels) and `loss`.
        """
        input_ids, _ = left_align(input_ids, attention_mask, self.config.pad_token_id)
        x = self.center(self.dropout(F.relu(self.dense1(self.features(input_ids)))))
        x = self.center(self.dropout(F.relu(self.dense2(x))))
        logits = self.classifier(x)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
