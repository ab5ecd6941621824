"""Handwritten gradients against the gradients of the same networks from PyTorch's layers."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmark_peers import PEERS
from torch import Tensor

from kr_text.models import MODELS

SIZES: dict[str, dict[str, Any]] = {
    "charcnn": {"vocab_size": 12, "num_frames": 200, "num_filters": 4, "dense_size": 5, "initializer_range": 0.3},
    "textrnn": {"vocab_size": 12, "embedding_dim": 4, "context_size": 3, "hidden_size": 5},
    "transformer": {"vocab_size": 12, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 6},
}
LENGTHS = {"charcnn": [200, 150, 20, 3], "textrnn": [9, 5, 2, 1], "transformer": [9, 5, 2, 1]}


def gradients(name: str, model: Any) -> dict[str, Tensor]:
    """Gradients of the model, by the peer's parameter names and in the peer's shapes."""
    if name == "charcnn":
        layers = (model.characters, *model.convolutions)
        ours = {
            f"convolutions.{index}.weight": layer.weight.grad.permute(2, 1, 0) for index, layer in enumerate(layers)
        }
        ours |= {f"convolutions.{index}.bias": layer.bias.grad for index, layer in enumerate(layers)}
        return ours | {
            "dense1.weight": model.dense1.weight.grad.permute(2, 1, 0).flatten(1),
            "dense1.bias": model.dense1.bias.grad,
            "dense2.weight": model.dense2.weight.grad,
        }
    ours = {"embedding.weight": model.embedding.weight.grad, "classifier.weight": model.classifier.weight.grad}
    if name == "textrnn":
        for cell, end in ((model.left_to_right, ""), (model.right_to_left, "_reverse")):
            ours |= {f"lstm.{weight}{end}": value.grad for weight, value in cell.named_parameters()}
        return ours | {"hidden.weight": model.hidden.weight.grad}
    return ours | {
        "encoder.layers.0.self_attn.in_proj_weight": model.layers[0].query_key_value.weight.grad,
        "encoder.layers.1.norm2.weight": model.layers[1].output_norm.weight.grad,
    }


@pytest.mark.parametrize("name", PEERS)
def test_gradients_equal_pytorchs(name: str) -> None:
    torch.manual_seed(0)
    config_class, model_class = MODELS[name]
    sizes = {**SIZES[name], "dropout": 0.0, "num_labels": 3}
    model: Any = model_class(config_class(**sizes)).double()
    torch.nn.init.normal_(model.classifier.weight)  # CharCNN's classifier starts at zero
    peer = PEERS[name][0](model).double()
    lengths = torch.tensor(LENGTHS[name])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    inputs = {"input_ids": torch.randint(2, 12, mask.shape) * mask, "attention_mask": mask}
    labels = torch.tensor([0, 1, 2, 0])
    logits = model(**inputs).logits
    F.cross_entropy(logits, labels).backward()
    their_logits = peer(**inputs)
    F.cross_entropy(their_logits, labels).backward()
    torch.testing.assert_close(their_logits.to(logits.dtype), logits, rtol=1e-5, atol=1e-6)
    expected = {name: parameter.grad for name, parameter in peer.named_parameters()}
    for weight, gradient in gradients(name, model).items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, expected[weight], rtol=1e-4, atol=1e-6)
