from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kr_text.models.textrnn import TextRNNConfig, TextRNNForSequenceClassification

CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}
TEXTS = [[3, 5, 4, 9, 2, 3, 3, 8], [6, 8, 9], [5, 1], [2]]


def make_model(cell: str, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    config = TextRNNConfig(
        vocab_size=12, embedding_dim=4, context_size=3, hidden_size=6, cell=cell, num_labels=3, **kwargs
    )
    model: Any = TextRNNForSequenceClassification(config).double()
    model.eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def contexts(cell_name: str, layer: nn.Module, words: list[Tensor]) -> list[Tensor]:
    """State of the recurrence before each word: Eqs. 1 and 2 of Lai 2015, word by word."""
    cell = CELLS[cell_name](4, 3).double()
    cell.load_state_dict({key.removesuffix("_l0"): weight for key, weight in layer.state_dict().items()})
    states, state = [], None
    hidden = torch.zeros(1, 3, dtype=torch.float64)
    for word in words:
        states.append(hidden[0])
        if cell_name == "lstm":
            state = cell(word[None], state)
            hidden = state[0]
        else:
            hidden = cell(word[None], hidden)
    return states


def logits_word_by_word(model: Any, text: list[int]) -> Tensor:
    cell = model.config.cell
    words = [model.embedding.weight[token] for token in text]
    left = contexts(cell, model.left_to_right, words)
    right = contexts(cell, model.right_to_left, words[::-1])[::-1]
    hidden = [
        torch.tanh(model.hidden.weight @ torch.cat([left[i], words[i], right[i]]) + model.hidden.bias)  # Eqs. 3, 4
        for i in range(len(words))
    ]
    pooled = torch.stack([max(h[j] for h in hidden) for j in range(6)])  # Eq. 5
    logits: Tensor = model.classifier.weight @ pooled + model.classifier.bias
    return logits


@pytest.mark.parametrize("cell", CELLS)
def test_logits_agree_with_a_word_by_word_reference(cell: str) -> None:
    model = make_model(cell)
    rows = torch.tensor([text + [0] * (8 - len(text)) for text in TEXTS])
    expected = torch.stack([logits_word_by_word(model, text) for text in TEXTS])
    torch.testing.assert_close(model(rows).logits, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_the_contexts_of_a_word_exclude_the_word_itself(cell: str) -> None:
    model = make_model(cell)
    with torch.no_grad():
        model.hidden.weight[:, 3:7] = 0.0  # [left context; word; right context]
    one, two = model(torch.tensor([[4]])).logits, model(torch.tensor([[7]])).logits
    assert torch.equal(one, two)
    assert not torch.allclose(model(torch.tensor([[4, 2]])).logits, model(torch.tensor([[7, 2]])).logits)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("side", "words_seen"), [("left", [0, 1]), ("right", [3, 4])])
def test_a_context_depends_on_the_words_of_its_side_alone(cell: str, side: str, words_seen: list[int]) -> None:
    """Gradient of the tanh layer at the middle one of five words."""
    model = make_model(cell)
    with torch.no_grad():
        model.hidden.weight[:, 3:7] = 0.0
        model.hidden.weight[:, 7 : 10 if side == "left" else 7] = 0.0
        model.hidden.weight[:, 0 : 0 if side == "left" else 3] = 0.0
    words: list[Tensor] = []
    hidden: list[Tensor] = []
    model.embedding.register_forward_hook(lambda module, args, output: words.append(output.requires_grad_()))
    model.hidden.register_forward_hook(lambda module, args, output: hidden.append(output))
    model(torch.tensor([[2, 3, 4, 5, 6]]))
    (gradient,) = torch.autograd.grad(hidden[0][0, 2].sum(), words[0])
    assert gradient[0].any(dim=1).nonzero().flatten().tolist() == words_seen


def test_the_pooled_layer_of_an_empty_text_is_minus_one() -> None:
    model = make_model("lstm")
    lowest = torch.full((6,), -1.0, dtype=torch.float64)
    torch.testing.assert_close(model(torch.zeros(1, 0, dtype=torch.long)).logits[0], model.classifier(lowest))


def test_a_context_reaches_across_the_text() -> None:
    model = make_model("gru")
    first = torch.tensor([[4, 2, 2, 2, 2, 2, 2, 5]])
    swapped = torch.tensor([[5, 2, 2, 2, 2, 2, 2, 4]])
    assert not torch.allclose(model(first).logits, model(swapped).logits)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_weights_start_orthogonal_and_biases_at_zero(cell: str) -> None:
    torch.manual_seed(0)
    model = TextRNNForSequenceClassification(
        TextRNNConfig(vocab_size=12, embedding_dim=4, context_size=3, hidden_size=6, cell=cell)
    )
    for layer in (model.left_to_right, model.right_to_left):
        torch.testing.assert_close(layer.weight_hh_l0.T @ layer.weight_hh_l0, torch.eye(3))
        assert not layer.bias_ih_l0.any()
        assert not layer.bias_hh_l0.any()


def test_dropout_follows_the_embeddings_and_the_pooled_layer() -> None:
    model = make_model("lstm", dropout=0.25)
    dropped: list[tuple[int, ...]] = []
    model.dropout.register_forward_hook(lambda module, args, output: dropped.append(tuple(output.shape)))
    model(torch.tensor([[3, 5, 4]]))
    assert model.dropout.p == 0.25
    assert dropped == [(1, 3, 4), (1, 6)]


def test_word_dropout_replaces_words_in_training_only() -> None:
    """With nearly all words replaced, texts of the same length have the logits of unknown words."""
    config = TextRNNConfig(vocab_size=12, word_dropout=1 - 1e-9, dropout=0.0, num_labels=3)
    torch.manual_seed(0)
    model: Any = TextRNNForSequenceClassification(config)
    words, unknown = torch.tensor([[3, 5, 4, 0]]), torch.tensor([[1, 1, 1, 0]])
    model.eval()
    expected = model(unknown).logits
    assert not torch.allclose(model(words).logits, expected)
    torch.testing.assert_close(model.train()(words).logits, expected)
