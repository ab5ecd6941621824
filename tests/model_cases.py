"""Tiny models and texts that the tests of all four classifiers share."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kr_text.models import MODELS

SIZES: dict[str, dict[str, Any]] = {
    "fasttext": {"embedding_dim": 6, "max_ngram": 3, "num_buckets": 50},
    "textrnn": {"embedding_dim": 6, "context_size": 5, "hidden_size": 7},
    "charcnn": {"num_frames": 150, "num_filters": 16, "dense_size": 32},
    "transformer": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
}
TEXTS = [[7, 3, 3, 9, 12, 5, 7, 3, 4, 6, 28], [5, 9], [29], []]


def make_model(model_name: str, **kwargs: Any) -> Any:
    config_class, model_class = MODELS[model_name]
    return model_class(config_class(**{"vocab_size": 30, "num_labels": 3, **SIZES[model_name], **kwargs}))


def make_random_model(model_name: str, **kwargs: Any) -> Any:
    """A model in eval mode, with weights large enough that every token changes the logits."""
    torch.manual_seed(0)
    model = make_model(model_name, **kwargs).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def logits_one_by_one(model: PreTrainedModel, texts: list[list[int]] = TEXTS) -> Tensor:
    """Logits of each text in a batch of one, without padding or mask."""
    return torch.cat([model(torch.tensor([text], dtype=torch.long)).logits for text in texts])


def padded(texts: list[list[int]], seq_len: int, side: str) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` (texts, seq_len), with padding on the "left" or the "right"."""
    rows, masks = [], []
    for text in texts:
        blank = [0] * (seq_len - len(text))
        rows.append(text + blank if side == "right" else blank + text)
        masks.append([int(token != 0) for token in rows[-1]])
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}
