"""Padding and empty texts in all four classifiers."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from kr_text.models.padding import left_align
from model_cases import TEXTS, logits_one_by_one, make_model, make_random_model, padded


def test_left_align_keeps_the_order_of_tokens() -> None:
    input_ids, lengths = left_align(torch.tensor([[0, 5, 0, 6], [7, 8, 9, 4]]), None, 0)
    assert input_ids.tolist() == [[5, 6, 0, 0], [7, 8, 9, 4]]
    assert lengths.tolist() == [2, 4]


def test_a_padding_id_under_the_mask_is_a_token() -> None:
    input_ids, lengths = left_align(torch.tensor([[3, 0, 5]]), torch.tensor([[0, 1, 1]]), 0)
    assert input_ids.tolist() == [[0, 5, 0]]
    assert lengths.tolist() == [2]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("seq_len", [11, 12, 40, 200])
def test_padding_does_not_change_the_logits(exact_model: PreTrainedModel, side: str, seq_len: int) -> None:
    logits = exact_model(**padded(TEXTS, seq_len, side)).logits
    torch.testing.assert_close(logits, logits_one_by_one(exact_model), rtol=0, atol=1e-10)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_padding_id_is_padding_without_a_mask(exact_model: PreTrainedModel, side: str) -> None:
    logits = exact_model(padded(TEXTS, 15, side)["input_ids"]).logits
    torch.testing.assert_close(logits, logits_one_by_one(exact_model), rtol=0, atol=1e-10)


def test_masked_tokens_do_not_change_the_logits(exact_model: PreTrainedModel) -> None:
    masked = exact_model(torch.tensor([[8, 7, 3, 8, 9, 8]]), attention_mask=torch.tensor([[0, 1, 1, 0, 1, 0]]))
    torch.testing.assert_close(masked.logits, logits_one_by_one(exact_model, [[7, 3, 9]]), rtol=0, atol=1e-10)


def test_the_padding_row_starts_at_zero_and_is_never_read(model_name: str) -> None:
    if model_name == "charcnn":  # it has no embedding table
        return
    assert not make_model(model_name).get_input_embeddings().weight[0].any()
    model: Any = make_random_model(model_name)
    before = model(**padded(TEXTS, 15, "right")).logits
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = 1000.0
    assert torch.equal(model(**padded(TEXTS, 15, "right")).logits, before)


@pytest.mark.parametrize("seq_len", [0, 1, 7])
def test_a_batch_of_empty_texts_has_the_logits_of_an_empty_text(exact_model: PreTrainedModel, seq_len: int) -> None:
    zeros = torch.zeros(2, seq_len, dtype=torch.long)
    expected = logits_one_by_one(exact_model, [[], []])
    assert expected.isfinite().all()
    torch.testing.assert_close(exact_model(zeros).logits, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(exact_model(zeros, attention_mask=zeros).logits, expected, rtol=0, atol=1e-10)


def test_empty_texts_have_finite_gradients(model: PreTrainedModel) -> None:
    model(torch.zeros(2, 0, dtype=torch.long), labels=torch.tensor([0, 1])).loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
