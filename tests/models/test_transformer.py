import math
from typing import Any

import pytest
import torch
from benchmark_peers import torch_layer
from torch import Tensor, nn

from kr_text.models.transformer import TransformerConfig, TransformerForSequenceClassification, sinusoidal_positions

TEXTS = [[3, 5, 4, 9, 2, 3, 3, 8], [6, 8, 9], [5, 1], [2]]
CPU = torch.device("cpu")


def make_model(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 12, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 5, "num_labels": 3}
    model: Any = TransformerForSequenceClassification(TransformerConfig(**{**sizes, **kwargs})).double()
    model.eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def logits_by_torch(model: Any, text: list[int]) -> Tensor:
    """Logits of one text without padding: scaled embeddings (Sec. 3.4), positions (3.5), PyTorch's layers, the mean."""
    width = model.config.hidden_size
    words = []
    for position, token in enumerate(text):
        angles = [position / 10_000 ** (2 * i / width) for i in range(width // 2)]
        signal = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles], dtype=torch.float64)
        words.append(model.embedding.weight[token] * math.sqrt(width) + signal)
    x = torch.stack(words)[None]
    for layer in model.layers:
        x = torch_layer(layer, model).double().eval()(x)
    logits: Tensor = model.classifier(x[0].mean(dim=0))
    return logits


@pytest.mark.parametrize("num_attention_heads", [1, 2, 4])
def test_logits_agree_with_pytorchs_layers(num_attention_heads: int) -> None:
    model = make_model(num_attention_heads=num_attention_heads, num_hidden_layers=3)
    rows = torch.tensor([text + [0] * (10 - len(text)) for text in TEXTS])
    expected = torch.stack([logits_by_torch(model, text) for text in TEXTS])
    torch.testing.assert_close(model(rows).logits, expected, rtol=1e-6, atol=1e-6)  # our positions are float32


def test_worked_example_of_positions() -> None:
    # Width 4 has the wavelengths 2 pi and 200 pi; sines come before cosines.
    expected = [
        [0.0, 0.0, 1.0, 1.0],
        [0.84147098, 0.00999983, 0.54030231, 0.99995000],
        [0.90929743, 0.01999867, -0.41614684, 0.99980001],
    ]
    torch.testing.assert_close(sinusoidal_positions(3, 4, CPU), torch.tensor(expected), rtol=0, atol=1e-6)


def test_positions_are_precise_far_into_a_text() -> None:
    width, position = 128, 4999
    angles = [position / 10_000 ** (2 * i / width) for i in range(width // 2)]
    expected = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    torch.testing.assert_close(sinusoidal_positions(position + 1, width, CPU)[-1], expected, rtol=0, atol=2e-3)


def test_dot_products_of_positions_depend_on_the_distance_alone() -> None:
    signal = sinusoidal_positions(40, 16, CPU).double()
    torch.testing.assert_close(signal[3] @ signal[10], signal[23] @ signal[30], rtol=0, atol=1e-5)


def test_words_never_attend_to_padding() -> None:
    model = make_model()
    masks: list[Tensor] = []
    inputs: list[Tensor] = []
    model.layers[0].register_forward_hook(lambda module, args, output: masks.append(args[1]))
    model.layers[0].register_forward_pre_hook(lambda module, args: inputs.append(args[0].requires_grad_()))
    logits = model(torch.tensor([[4, 5, 0, 0], [6, 7, 8, 9], [0, 0, 0, 0]])).logits
    # An empty text attends to its padding, which the mean skips; some kernels return NaN if nothing is visible.
    assert masks[0].flatten(1).tolist() == [[True, True, False, False], [True] * 4, [True] * 4]
    (gradient,) = torch.autograd.grad(logits.sum(), inputs[0])
    assert gradient.any(dim=2).tolist() == [[True, True, False, False], [True] * 4, [False] * 4]


def test_the_logits_of_an_empty_text_are_the_bias() -> None:
    model = make_model()
    logits = model(torch.tensor([[0, 0], [4, 5]])).logits
    assert torch.equal(logits[0], model.classifier.bias)
    assert not torch.allclose(logits[1], model.classifier.bias)


def test_word_order_matters() -> None:
    model = make_model()
    assert not torch.allclose(model(torch.tensor([[3, 5, 4]])).logits, model(torch.tensor([[5, 3, 4]])).logits)


def test_scaled_embeddings_start_at_the_scale_of_the_positions() -> None:
    torch.manual_seed(0)
    model = TransformerForSequenceClassification(TransformerConfig(vocab_size=500, hidden_size=64))
    words = model.embedding.weight[1:] * math.sqrt(64)
    assert words.std().item() == pytest.approx(1.0, rel=0.05)
    assert sinusoidal_positions(50, 64, CPU).square().mean().item() == pytest.approx(0.5)


def test_dropout_follows_the_embeddings_each_sublayer_and_the_mean() -> None:
    model = make_model(num_hidden_layers=2, dropout=0.5)
    dropped: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, args, output: dropped.append(output.dim()))
            assert module.p == 0.5
    model(torch.tensor([[3, 5, 4]]))
    assert dropped == [3, 3, 3, 3, 3, 2]


def test_bf16_changes_the_logits_slightly() -> None:
    model = make_model().float()
    words = torch.randint(2, 12, (4, 9))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(words).logits
    exact = model(words).logits
    assert not torch.equal(rounded.float(), exact)
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)


def test_word_dropout_replaces_words_in_training_only() -> None:
    """With nearly all words replaced, texts of the same length have the logits of unknown words."""
    config = TransformerConfig(vocab_size=12, word_dropout=1 - 1e-9, dropout=0.0, num_labels=3)
    torch.manual_seed(0)
    model: Any = TransformerForSequenceClassification(config)
    words, unknown = torch.tensor([[3, 5, 4, 0]]), torch.tensor([[1, 1, 1, 0]])
    model.eval()
    expected = model(unknown).logits
    assert not torch.allclose(model(words).logits, expected)
    torch.testing.assert_close(model.train()(words).logits, expected)
