"""TextRNN: a bidirectional recurrence gives each word its left and right context; then max over time.

Lai, Xu, Liu, Zhao: Recurrent Convolutional Neural Networks for Text Classification (AAAI 2015).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text.kernels.dropout import Dropout
from kr_text.models.padding import left_align, zero_padding_row
from kr_text.ranges import require_at_least, require_dropout, require_token_id

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class TextRNNConfig(PreTrainedConfig):
    """Sizes of a TextRNN classifier.

    Args:
        vocab_size: words, with the special tokens.
        embedding_dim: width of the word embeddings.
        context_size: width of the left and of the right context, each.
        hidden_size: width of the tanh layer that is pooled over time.
        cell: "lstm" or "gru" (the paper has a plain recurrence; these train better).
        dropout: on the embeddings and on the pooled layer.
        pad_token_id: the id that stands for no word.
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
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
        require_at_least(1, vocab_size=vocab_size, embedding_dim=embedding_dim)
        require_at_least(1, context_size=context_size, hidden_size=hidden_size)
        require_dropout(dropout)
        require_token_id(vocab_size, pad_token_id=pad_token_id)
        super().__init__(**kwargs)
        require_at_least(2, num_labels=cast(int, self.num_labels))
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.context_size = context_size
        self.hidden_size = hidden_size
        self.cell = cell
        self.dropout = dropout
        self.pad_token_id = pad_token_id


def reversed_places(seq_len: int, lengths: Tensor) -> Tensor:
    """Where `reverse_rows` takes each step from: row i's first `lengths[i]` in reverse, its padding from where it is.

    Returns:
        (batch * seq_len,), places in the steps of all rows, one row after the other.
    """
    steps = torch.arange(seq_len, device=lengths.device).expand(len(lengths), seq_len)
    last = lengths[:, None] - 1
    begins = torch.arange(len(lengths), device=lengths.device)[:, None] * seq_len
    return (begins + torch.where(steps <= last, last - steps, steps)).flatten()


def reverse_rows(x: Tensor, places: Tensor) -> Tensor:
    """(batch, seq_len, width) in the order of `reversed_places`; its own inverse."""
    return cast(Tensor, cast(Any, _Reverse).apply(x, places))


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return x.flatten(0, 1).index_select(0, places).view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return reverse_rows(grad, places), None  # as it is its own inverse


def recur(cell: nn.Module, x: Tensor) -> Tensor:
    """(batch, seq_len, width) -> (batch, seq_len, context_size); in float32 where a CPU has no bf16 for an LSTM."""
    if x.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, cell(x)[0])
    return cast(Tensor, cell(x)[0])


class TextRNNForSequenceClassification(PreTrainedModel):
    """Lai's recurrent classifier. Two one-way recurrences on plain padded batches: no packing, the fused kernels."""

    config_class = TextRNNConfig
    config: TextRNNConfig

    def __init__(self, config: TextRNNConfig) -> None:
        super().__init__(config)
        cell = CELLS[config.cell]
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim, padding_idx=config.pad_token_id)
        self.left_to_right = cell(config.embedding_dim, config.context_size, batch_first=True)
        self.right_to_left = cell(config.embedding_dim, config.context_size, batch_first=True)
        self.hidden = nn.Linear(2 * config.context_size + config.embedding_dim, config.hidden_size)
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
        """The word table."""
        return self.embedding

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Classifies texts.

        Args:
            input_ids: (batch, seq_len).
            attention_mask: (batch, seq_len), 1 keep, 0 pad.
            labels: (batch,), in 0..num_labels - 1; if given, `loss` is their mean cross-entropy.

        Returns:
            `logits` (batch, num_labels) and `loss`.
        """
        input_ids, lengths = left_align(input_ids, attention_mask, self.config.pad_token_id)
        words = self.dropout(self.embedding(input_ids))  # (batch, seq_len, embedding_dim)
        places = reversed_places(input_ids.shape[1], lengths)
        seen = recur(self.left_to_right, words)
        ahead = recur(self.right_to_left, reverse_rows(words, places))
        # A word's left context ends with the word before it, and its right context with the one after it: shift by one.
        left = F.pad(seen[:, :-1], (0, 0, 1, 0))
        right = reverse_rows(F.pad(ahead[:, :-1], (0, 0, 1, 0)), places)
        hidden = self.hidden(torch.cat([left, words, right], dim=-1))  # (batch, seq_len, hidden_size)
        padding = torch.arange(hidden.shape[1], device=hidden.device) >= lengths[:, None]
        pooled = hidden.masked_fill_(padding[:, :, None], -torch.inf).max(dim=1).values
        pooled = torch.tanh(pooled)  # of the maximum, which is the maximum of the tanh
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
