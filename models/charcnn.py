"""CharCNN: six convolutions and three dense layers over the characters of a text, or one wide convolution.

Zhang, Zhao, LeCun: Character-level Convolutional Networks for Text Classification (NeurIPS 2015).
"""

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.kernels.convolution import CharConvolution, Convolution
from kr_text.kernels.cropped_frames import FrameLinear, convolve, crop, largest, max_pool
from kr_text.kernels.dropout import Dropout
from kr_text.models.padding import left_align
from kr_text.ranges import require_at_least, require_dropout

# (kernel size, pool size) of the six convolutions: Zhang 2015, Table 1.
CONVOLUTIONS = ((7, 3), (7, 3), (3, 1), (3, 1), (3, 1), (3, 3))
# A frame after the last pooling sees RECEPTIVE_FIELD characters; the next frame starts STRIDE characters later.
RECEPTIVE_FIELD, STRIDE = 123, 27

NUM_ZERO_IDS = 2  # padding and unknown characters are vectors of zeros

SIZES = {  # Zhang 2015, Tables 1 and 2
    "small": {"num_filters": 256, "dense_size": 1024, "initializer_range": 0.05},
    "large": {"num_filters": 1024, "dense_size": 2048, "initializer_range": 0.02},
}


class CharCNNConfig(PreTrainedConfig):
    """Configuration of a CharCNN classifier; `preset` gives the paper's two sizes.

    Args:
        vocab_size: Number of character ids, including 0 (padding) and 1 (not in the alphabet).
        num_frames: Number of characters read; a longer text is cut off, a shorter text is filled up with zeros.
        num_filters: Width of the convolutions.
        dense_size: Width of the first two dense layers.
        dropout: Dropout rate after each of the first two dense layers.
        initializer_range: Standard deviation of the initial weights, except for the last layer, which starts at zero.
        center_channels: Whether every layer after the first subtracts from its input the mean over the channels.
            False gives the paper's network, whose training often stays on a plateau.
        shallow: Whether the network is the first convolution, the maximum over its frames, and the classifier. It
            learns from a few thousand texts, which the paper's network memorizes (docs/recipes.md). `dense_size` then
            has no effect.
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
        shallow: bool = False,
        **kwargs: Any,
    ) -> None:
        require_at_least(NUM_ZERO_IDS + 1, vocab_size=vocab_size)
        require_at_least(CONVOLUTIONS[0][0] if shallow else RECEPTIVE_FIELD, num_frames=num_frames)
        require_at_least(1, num_filters=num_filters, dense_size=dense_size)
        require_dropout(dropout=dropout)
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
        self.shallow = shallow
        self.pad_token_id = 0

    @classmethod
    def preset(cls, size: str, **kwargs: Any) -> "CharCNNConfig":
        """Returns the config of the paper's "small" or "large" network; `kwargs` override its fields."""
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
        return cls(**{**SIZES[size], **kwargs})


class CharCNNForSequenceClassification(PreTrainedModel):
    """CharCNN text classifier. It reads texts forward; the paper reads them backward.

    The outputs of a ReLU are positive, so Adam moves all weights of a unit in the same direction. The moves add up
    over thousands of inputs: within a few hundred steps, half of the last convolution's units can be zero for every
    text, and training stays on a plateau. `center_channels` removes this common component (docs/recipes.md compares).

    The logits equal those of a network over all `num_frames` characters, but only the frames up to the end of the
    batch's longest text are computed (kernels/cropped_frames.py).
    """

    config_class = CharCNNConfig
    config: CharCNNConfig

    def __init__(self, config: CharCNNConfig) -> None:
        super().__init__(config)
        (first, _), *others = CONVOLUTIONS
        self.characters = CharConvolution(
            config.vocab_size - NUM_ZERO_IDS, config.num_filters, first, num_zero_ids=NUM_ZERO_IDS
        )
        if not config.shallow:
            self.convolutions = nn.ModuleList(
                Convolution(config.num_filters, config.num_filters, kernel_size) for kernel_size, _ in others
            )
            num_features = (config.num_frames - RECEPTIVE_FIELD) // STRIDE + 1
            self.dense1 = FrameLinear(num_features, config.num_filters, config.dense_size)
            self.dense2 = nn.Linear(config.dense_size, config.dense_size)
        width = config.num_filters if config.shallow else config.dense_size
        self.classifier = nn.Linear(width, cast(int, config.num_labels))
        self.dropout = Dropout(config.dropout)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, CharConvolution | Convolution | FrameLinear | nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            nn.init.zeros_(module.bias)
        if module is self.classifier:
            nn.init.zeros_(module.weight)

    def center(self, x: Tensor) -> Tensor:
        """Subtracts the mean over the channels from x (..., channels) if `center_channels` is set."""
        return x - x.mean(-1, keepdim=True) if self.config.center_channels else x

    def features(self, input_ids: Tensor) -> Tensor:
        """Applies the convolutions: (batch, seq_len) -> (batch, length, num_filters), cropped frames."""
        num_frames = self.config.num_frames
        x = crop(input_ids, num_frames)
        layers = [self.characters, *self.convolutions]
        for layer, (_, pool_size) in zip(layers, CONVOLUTIONS, strict=True):
            x, num_frames = convolve(layer, x, num_frames)
            x, num_frames = max_pool(x, num_frames, pool_size)
            x = self.center(F.relu(x))
        return x

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Classifies texts.

        Args:
            input_ids: (batch, seq_len), character ids.
            attention_mask: (batch, seq_len), 1 keep, 0 pad.
            labels: (batch,), in 0..num_labels - 1; if given, `loss` is the mean cross-entropy.

        Returns:
            `logits` (batch, num_labels) and `loss`.
        """
        input_ids, _ = left_align(input_ids, attention_mask, self.config.pad_token_id)
        if self.config.shallow:
            x = F.relu(largest(self.characters, crop(input_ids, self.config.num_frames), self.config.num_frames))
            x = self.center(self.dropout(x))
        else:
            x = self.center(self.dropout(F.relu(self.dense1(self.features(input_ids)))))
            x = self.center(self.dropout(F.relu(self.dense2(x))))
        logits = self.classifier(x)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
