"""CharCNN: six convolutions and three dense layers over the characters of a text.

Zhang, Zhao, LeCun: Character-level Convolutional Networks for Text Classification (NeurIPS 2015).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.models.padding import left_align
from kr_text.models.ranges import require_at_least, require_dropout

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
        initializer_range: deviation of the normal distribution that the weights start from.
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
        self.pad_token_id = 0

    @classmethod
    def preset(cls, size: str, **kwargs: Any) -> "CharCNNConfig":
        """The paper's "small" or "large" sizes; `kwargs` as for the constructor."""
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
        return cls(**{**SIZES[size], **kwargs})


class CharCNNForSequenceClassification(PreTrainedModel):
    """Zhang's character-level classifier, which reads forward (the paper reads backward).

    Past the end of a text every layer's output is one constant vector, so only the text is computed: the convolutions
    run up to the first frame that sees nothing but padding, and that frame is repeated up to the full width. The logits
    are those of all `num_frames`, at the cost of the longest text in the batch.
    """

    config_class = CharCNNConfig
    config: CharCNNConfig

    def __init__(self, config: CharCNNConfig) -> None:
        super().__init__(config)
        widths = [config.vocab_size - NUM_ZERO_IDS] + [config.num_filters] * len(CONVOLUTIONS)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width_in, width_out, kernel_size)
            for width_in, width_out, (kernel_size, _) in zip(widths, widths[1:], CONVOLUTIONS, strict=False)
        )
        self.num_features = (config.num_frames - RECEPTIVE_FIELD) // STRIDE + 1
        self.dense1 = nn.Linear(self.num_features * config.num_filters, config.dense_size)
        self.dense2 = nn.Linear(config.dense_size, config.dense_size)
        self.classifier = nn.Linear(config.dense_size, cast(int, config.num_labels))
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def one_hot(self, input_ids: Tensor) -> Tensor:
        """(batch, alphabet size, length): as many characters as the frames up to the first that sees only padding."""
        first_padding = -(-input_ids.shape[1] // STRIDE)
        length = (min(first_padding, self.num_features - 1)) * STRIDE + RECEPTIVE_FIELD
        ids = F.pad(input_ids[:, :length], (0, max(0, length - input_ids.shape[1])))
        vectors = torch.eye(self.config.vocab_size, device=ids.device, dtype=self.dense1.weight.dtype)[:, NUM_ZERO_IDS:]
        return F.embedding(ids, vectors).transpose(1, 2)

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
        x = self.one_hot(input_ids)  # (batch, alphabet size, num_frames or less)
        for convolution, (_, pool_size) in zip(self.convolutions, CONVOLUTIONS, strict=True):
            x = F.relu(convolution(x))
            if pool_size > 1:
                x = F.max_pool1d(x, pool_size)
        missing = self.num_features - x.shape[2]
        x = torch.cat([x, x[:, :, -1:].expand(-1, -1, missing)], dim=2)  # (batch, num_filters, num_features)
        x = self.dropout(F.relu(self.dense1(x.flatten(1))))
        x = self.dropout(F.relu(self.dense2(x)))
        logits = self.classifier(x)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
