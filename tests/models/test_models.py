"""Forward and backward passes of all four classifiers."""

import torch
from transformers import PreTrainedModel

from model_cases import TEXTS, logits_one_by_one, make_model, make_random_model, padded


def test_logits_have_the_shape_texts_by_labels(model: PreTrainedModel) -> None:
    output = model(**padded(TEXTS, 11, "right"))
    assert output.logits.shape == (4, 3)
    assert output.loss is None


def test_different_texts_have_different_logits(model: PreTrainedModel) -> None:
    logits = logits_one_by_one(model, [*TEXTS, [9, 5], [6]])
    distances = (logits[:, None] - logits).abs().amax(dim=2) + torch.eye(len(logits))
    assert distances.min() > 1e-3


def test_the_loss_is_the_mean_cross_entropy(exact_model: PreTrainedModel) -> None:
    labels = torch.tensor([2, 0, 1, 1])
    output = exact_model(**padded(TEXTS, 11, "right"), labels=labels)
    probabilities = output.logits.softmax(dim=1)
    expected = -sum(probabilities[row, label].log() for row, label in enumerate(labels)) / 4
    torch.testing.assert_close(output.loss, expected)


def test_every_parameter_gets_a_gradient(model: PreTrainedModel) -> None:
    model.train()
    torch.manual_seed(0)
    model(**padded(TEXTS, 11, "right"), labels=torch.tensor([2, 0, 1, 1])).loss.backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_the_gradient_of_a_row_does_not_depend_on_the_other_rows(exact_model: PreTrainedModel) -> None:
    exact_model(**padded(TEXTS, 11, "right")).logits[1].sum().backward()
    batched = {key: parameter.grad for key, parameter in exact_model.named_parameters()}
    exact_model.zero_grad()
    exact_model(torch.tensor([TEXTS[1]])).logits.sum().backward()
    for key, parameter in exact_model.named_parameters():
        torch.testing.assert_close(batched[key], parameter.grad, rtol=0, atol=1e-10, msg=key)


def test_dropout_is_active_in_training_only(model_name: str) -> None:
    model, inputs = make_random_model(model_name), padded(TEXTS, 11, "right")
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    has_dropout = model_name != "fasttext"
    assert torch.equal(model(**inputs).logits, model(**inputs).logits) != has_dropout


def test_the_same_seed_gives_the_same_weights(model_name: str) -> None:
    torch.manual_seed(1)
    first = make_model(model_name).state_dict()
    torch.manual_seed(1)
    second = make_model(model_name).state_dict()
    torch.manual_seed(2)
    third = make_model(model_name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], third[key]) for key in first)


def test_bf16_autocast_changes_the_logits_slightly(model: PreTrainedModel) -> None:
    inputs, labels = padded(TEXTS, 11, "right"), torch.tensor([2, 0, 1, 1])
    expected = model(**inputs).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs, labels=labels)
    output.loss.backward()
    scale = expected.abs().max().item()
    torch.testing.assert_close(output.logits.float(), expected, rtol=0, atol=0.05 * scale)


def test_bf16_weights_change_the_logits_slightly(model: PreTrainedModel) -> None:
    inputs = padded(TEXTS, 11, "right")
    expected = model(**inputs).logits
    logits = model.bfloat16()(**inputs).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.1 * expected.abs().max().item())


def test_a_very_long_text_has_finite_logits(model: PreTrainedModel) -> None:
    assert logits_one_by_one(model, [TEXTS[0] * 300]).isfinite().all()
