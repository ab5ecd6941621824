"""Transformer: an encoder trained from scratch, then the mean over the words.

Vaswani et al.: Attention Is All You Need (NeurIPS 2017).
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.kernels.attention import attention
from kr_text.kernels.dropout import Dropout, WordDropout
from kr_text.models.padding import left_align, zero_padding_row
from kr_text.ranges import require_at_least, require_dropout, require_token_id


class TransformerConfig(PreTrainedConfig):
    """Configuration of a Transformer classifier.

    The default is smaller than the paper's base model (6 layers of 512, 8 heads) for training from scratch on a CPU.

    Args:
        vocab_size: Number of words, including special tokens.
        hidden_size: Width of the embeddings and of every layer; a multiple of 2 * num_attention_heads.
        num_hidden_layers: Number of encoder layers.
        num_attention_heads: Number of attention heads in a layer.
        intermediate_size: Width of the feed-forward layers; 4 * hidden_size, as in the paper.
        dropout: Dropout rate of the embeddings, of each sublayer's output (both as in the paper), and of the mean.
        word_dropout: Probability that a word of a training text is replaced by the unknown word.
        pad_token_id: Id of the padding token.
        unk_token_id: Id of the unknown word.
    """

    model_type = "kr_text_transformer"

    def __init__(
        self,
        vocab_size: int = 30_000,
        hidden_size: int = 128,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 4,
        intermediate_size: int = 512,
        dropout: float = 0.1,
        word_dropout: float = 0.0,
        pad_token_id: int = 0,
        unk_token_id: int = 1,
        **kwargs: Any,
    ) -> None:
        require_at_least(1, vocab_size=vocab_size, hidden_size=hidden_size, num_hidden_layers=num_hidden_layers)
        require_at_least(1, num_attention_heads=num_attention_heads, intermediate_size=intermediate_size)
        require_dropout(dropout=dropout, word_dropout=word_dropout)
        require_token_id(vocab_size, pad_token_id=pad_token_id)
        if word_dropout:
            require_token_id(vocab_size, unk_token_id=unk_token_id)
        if hidden_size % (2 * num_attention_heads):
            raise ValueError(
                f"hidden_size must be a multiple of 2 * num_attention_heads = {2 * num_attention_heads}, "
                f"got {hidden_size}"
            )
        super().__init__(**kwargs)
        require_at_least(2, num_labels=cast(int, self.num_labels))
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.pad_token_id = pad_token_id
        self.unk_token_id = unk_token_id


def sinusoidal_positions(seq_len: int, hidden_size: int, device: torch.device) -> Tensor:
    """Sinusoidal positional encodings (Sec. 3.5): (seq_len, hidden_size), all sines before all cosines."""
    steps = torch.arange(hidden_size // 2, device=device) * (2 / hidden_size)
    angles = torch.arange(seq_len, device=device)[:, None] * torch.exp(-math.log(10_000.0) * steps)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each followed by a residual connection and a layer norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.attention_output = nn.Linear(config.hidden_size, config.hidden_size)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Encodes x (batch, seq_len, hidden_size); visible (batch, 1, 1, seq_len) is False where a word is ignored."""
        x = self.attention_norm(x + self.dropout(self.attend(x, visible)))
        feed_forward = self.output(F.relu(self.intermediate(x)))
        normed: Tensor = self.output_norm(x + self.dropout(feed_forward))
        return normed

    def attend(self, x: Tensor, visible: Tensor) -> Tensor:
        """Multi-head self-attention over the visible words."""
        batch, seq_len, _ = x.shape
        heads = self.query_key_value(x).view(batch, seq_len, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, num_heads, seq_len, head_size)
        mixed = attention(query, key, value, visible)
        output: Tensor = self.attention_output(mixed.transpose(1, 2).reshape(batch, seq_len, -1))
        return output


class TransformerForSequenceClassification(PreTrainedModel):
    """Transformer text classifier: the paper's encoder with mean pooling."""

    config_class = TransformerConfig
    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.word_dropout = WordDropout(
            config.word_dropout, pad_token_id=config.pad_token_id, unk_token_id=config.unk_token_id
        )
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, cast(int, config.num_labels))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
            zero_padding_row(module)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """Returns the table of word embeddings."""
        return self.embedding

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Classifies texts; the logits of an empty text are the bias of the linear layer.

        Args:
            input_ids: (batch, seq_len).
            attention_mask: (batch, seq_len), 1 keep, 0 pad.
            labels: (batch,), in 0..num_labels - 1; if given, `loss` is the mean cross-entropy.

        Returns:
            `logits` (batch, num_labels) and `loss`.
        """
        input_ids, lengths = left_align(input_ids, attention_mask, self.config.pad_token_id)
        seq_len, hidden_size = input_ids.shape[1], self.config.hidden_size
        keep = torch.arange(seq_len, device=input_ids.device) < lengths[:, None]  # (batch, seq_len)
        visible = (keep | (lengths == 0)[:, None])[:, None, None]  # an empty text attends to its padding
        positions = sinusoidal_positions(seq_len, hidden_size, input_ids.device)
        words = self.embedding(self.word_dropout(input_ids)) * math.sqrt(hidden_size)
        x = self.dropout(words + positions.to(words.dtype))
        for layer in self.layers:
            x = layer(x, visible)
        mean = (x * keep[:, :, None]).sum(dim=1) / lengths.clamp(min=1)[:, None]
        logits = self.classifier(self.dropout(mean))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
