"""The classifiers built from PyTorch's layers, with the weights of ours: peers for the benchmark and for tests."""

import math
from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kr_text.models import (
    CharCNNForSequenceClassification,
    TextRNNForSequenceClassification,
    TransformerForSequenceClassification,
)
from kr_text.models.transformer import EncoderLayer, sinusoidal_positions


def centered(x: Tensor) -> Tensor:
    """Subtracts the mean over the channels from x (batch, channels, ...)."""
    return x - x.mean(1, keepdim=True)


class OneHotCharCNN(nn.Module):
    """CharCNN with `center_channels`: `nn.Conv1d` over all frames of one-hot characters."""

    def __init__(self, model: CharCNNForSequenceClassification) -> None:
        super().__init__()
        self.num_frames, self.num_characters = model.config.num_frames, model.config.vocab_size - 2
        self.convolutions = nn.ModuleList()
        for layer in (model.characters, *model.convolutions):
            weight = cast(Tensor, layer.weight).detach().permute(2, 1, 0).contiguous()
            convolution = nn.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2])
            convolution.load_state_dict({"weight": weight, "bias": cast(Tensor, layer.bias).detach()})
            self.convolutions.append(convolution)
        width, first = model.config.num_filters, model.dense1.weight.detach()  # (frames, width, out)
        self.dense1 = nn.Linear(first.shape[0] * width, first.shape[2])
        weight = first.permute(2, 1, 0).flatten(1)  # frames last, as in the flattened output of Conv1d
        self.dense1.load_state_dict({"weight": weight, "bias": model.dense1.bias.detach()})
        self.dense2, self.classifier = deepcopy(model.dense2), deepcopy(model.classifier)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits: (batch, seq_len) -> (batch, num_labels)."""
        ids = F.pad(input_ids, (0, max(0, self.num_frames - input_ids.shape[1])))[:, : self.num_frames]
        x = F.one_hot(ids, self.num_characters + 2)[:, :, 2:].to(self.dense2.weight.dtype).transpose(1, 2)
        for convolution, pool_size in zip(self.convolutions, (3, 3, 1, 1, 1, 3), strict=True):
            x = F.relu(convolution(x))
            x = centered(F.max_pool1d(x, pool_size) if pool_size > 1 else x)
        x = centered(F.relu(self.dense1(x.flatten(1))))
        logits: Tensor = self.classifier(centered(F.relu(self.dense2(x))))
        return logits


class PackedTextRNN(nn.Module):
    """TextRNN with a packed bidirectional `nn.LSTM`; a word's contexts are the states before and after it."""

    def __init__(self, model: TextRNNForSequenceClassification) -> None:
        super().__init__()
        config = model.config
        self.embedding = deepcopy(model.embedding)
        self.lstm = nn.LSTM(config.embedding_dim, config.context_size, batch_first=True, bidirectional=True)
        backward = {f"{name}_reverse": weight for name, weight in model.right_to_left.state_dict().items()}
        self.lstm.load_state_dict({**model.left_to_right.state_dict(), **backward})
        self.hidden, self.classifier = deepcopy(model.hidden), deepcopy(model.classifier)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits: (batch, seq_len) -> (batch, num_labels)."""
        words, lengths = self.embedding(input_ids), attention_mask.sum(1)
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        seen, ahead = states.chunk(2, dim=-1)
        left, right = F.pad(seen[:, :-1], (0, 0, 1, 0)), F.pad(ahead[:, 1:], (0, 0, 0, 1))
        hidden = torch.tanh(self.hidden(torch.cat([left, words, right], dim=-1)))
        pooled = hidden.masked_fill(attention_mask[:, :, None] == 0, -1.0).amax(1)
        logits: Tensor = self.classifier(pooled)
        return logits


class TorchTransformer(nn.Module):
    """Transformer with an `nn.TransformerEncoder` over the padded batch."""

    def __init__(self, model: TransformerForSequenceClassification) -> None:
        super().__init__()
        self.embedding, self.classifier = deepcopy(model.embedding), deepcopy(model.classifier)
        layers = [torch_layer(cast(EncoderLayer, layer), model) for layer in model.layers]
        self.encoder = nn.TransformerEncoder(layers[0], len(layers), enable_nested_tensor=False)
        self.encoder.layers = nn.ModuleList(layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits: (batch, seq_len) -> (batch, num_labels)."""
        width = self.embedding.embedding_dim
        x = self.embedding(input_ids) * math.sqrt(width)
        x = x + sinusoidal_positions(x.shape[1], width, x.device)
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        keep = attention_mask[:, :, None]
        logits: Tensor = self.classifier((x * keep).sum(1) / keep.sum(1))
        return logits


def torch_layer(layer: EncoderLayer, model: TransformerForSequenceClassification) -> nn.TransformerEncoderLayer:
    """Builds PyTorch's encoder layer with the weights of ours."""
    config = model.config
    torch_layer = nn.TransformerEncoderLayer(
        config.hidden_size, config.num_attention_heads, config.intermediate_size, config.dropout, batch_first=True
    )
    names = {
        "self_attn.in_proj_": "query_key_value.",
        "self_attn.out_proj.": "attention_output.",
        "linear1.": "intermediate.",
        "linear2.": "output.",
        "norm1.": "attention_norm.",
        "norm2.": "output_norm.",
    }
    weights = layer.state_dict()
    torch_layer.load_state_dict({a + end: weights[b + end] for a, b in names.items() for end in ("weight", "bias")})
    return torch_layer


PEERS = {
    "charcnn": (OneHotCharCNN, "one-hot nn.Conv1d over 1014 frames"),
    "textrnn": (PackedTextRNN, "packed bidirectional nn.LSTM"),
    "transformer": (TorchTransformer, "nn.TransformerEncoder"),
}
