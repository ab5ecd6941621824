"""TextRNN: a bidirectional recurrence gives each word a left and a right context; then max pooling over the words.

Lai, Xu, Liu, Zhao: Recurrent Convolutional Neural Networks for Text Classification (AAAI 2015).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.kernels.dropout import Dropout, WordDropout
from kr_text.kernels.recurrence import recur, reverse_rows, reversed_indices
from kr_text.models.padding import left_align, zero_padding_row
from kr_text.ranges import require_at_least, require_dropout, require_token_id

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class TextRNNConfig(PreTrainedConfig):
    """Configuration of a TextRNN classifier.

    Args:
        vocab_size: Number of words, including special tokens.
        embedding_dim: Width of the word embeddings.
        context_size: Width of the left context, and of the right context.
        hidden_size: Width of the tanh layer that is pooled over the words.
        cell: Recurrent cell, "lstm" or "gru". The paper has a plain recurrence; these cells train better.
        dropout: Dropout rate of the embeddings and of the pooled layer.
        word_dropout: Probability that a word of a training text is replaced by the unknown word.
        pad_token_id: Id of the padding token.
        unk_token_id: Id of the unknown word.
    """

    model_type = "kr_text_textrnn"

    def __init__(
        self,
        vocab_size: int = 30_000,
        embedding_dim: int = 128,
        context_size: int = 128,
        hidden_size: int = 128,
        cell: str = "lstm",
        dropout: float = 0.3,
        word_dropout: float = 0.0,
        pad_token_id: int = 0,
        unk_token_id: int = 1,
        **kwargs: Any,
    ) -> None:
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
        require_at_least(1, vocab_size=vocab_size, embedding_dim=embedding_dim)
        require_at_least(1, context_size=context_size, hidden_size=hidden_size)
        require_dropout(dropout=dropout, word_dropout=word_dropout)
        require_token_id(vocab_size, pad_token_id=pad_token_id)
        if word_dropout:
            require_token_id(vocab_size, unk_token_id=unk_token_id)
        super().__init__(**kwargs)
        require_at_least(2, num_labels=cast(int, self.num_labels))
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.context_size = context_size
        self.hidden_size = hidden_size
        self.cell = cell
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.pad_token_id = pad_token_id
        self.unk_token_id = unk_token_id


class TextRNNForSequenceClassification(PreTrainedModel):
    """TextRNN text classifier. Each direction is a recurrence over the padded batch, which is faster than packing."""

    config_class = TextRNNConfig
    config: TextRNNConfig

    def __init__(self, config: TextRNNConfig) -> None:
        super().__init__(config)
        cell = CELLS[config.cell]
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim, padding_idx=config.pad_token_id)
        self.left_to_right = cell(config.embedding_dim, config.context_size, batch_first=True)
        self.right_to_left = cell(config.embedding_dim, config.context_size, batch_first=True)
        self.hidden = nn.Linear(2 * config.context_size + config.embedding_dim, config.hidden_size)
        self.word_dropout = WordDropout(
            config.word_dropout, pad_token_id=config.pad_token_id, unk_token_id=config.unk_token_id
        )
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, cast(int, config.num_labels))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
            zero_padding_row(module)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM | nn.GRU):
            for name, parameter in module.named_parameters():
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(parameter)
                elif name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(parameter)
                else:
                    nn.init.zeros_(parameter)

    def get_input_embeddings(self) -> nn.Module:
        """Returns the table of word embeddings."""
        return self.embedding

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Classifies texts; the pooled layer of an empty text is -1.

        Args:
            input_ids: (batch, seq_len).
            attention_mask: (batch, seq_len), 1 keep, 0 pad.
            labels: (batch,), in 0..num_labels - 1; if given, `loss` is the mean cross-entropy.

        Returns:
            `logits` (batch, num_labels) and `loss`.
        """
        input_ids, lengths = left_align(input_ids, attention_mask, self.config.pad_token_id)
        words = self.dropout(self.embedding(self.word_dropout(input_ids)))  # (batch, seq_len, embedding_dim)
        indices = reversed_indices(input_ids.shape[1], lengths)
        forward_states = recur(self.left_to_right, words)  # (batch, seq_len, context_size)
        backward_states = recur(self.right_to_left, reverse_rows(words, indices))
        # Eqs. 1, 2: the left context ends with the word before, the right one starts with the word after. Shift by one.
        left = F.pad(forward_states[:, :-1], (0, 0, 1, 0))
        right = reverse_rows(F.pad(backward_states[:, :-1], (0, 0, 1, 0)), indices)
        hidden = self.hidden(torch.cat([left, words, right], dim=-1))  # Eqs. 3, 4: (batch, seq_len, hidden_size)
        padding = torch.arange(hidden.shape[1], device=hidden.device) >= lengths[:, None]
        pooled = hidden.masked_fill_(padding[:, :, None], -torch.inf).max(dim=1).values
        pooled = torch.tanh(pooled)  # Eq. 5; tanh is monotonic, so it may follow the maximum
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
