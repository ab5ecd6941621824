"""Batches as rows: layouts, ignored rows, row weights and divisors."""

import math
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kr_text.losses import KRLoss
from loss_cases import WEIGHTS, K, both_divergences, criterion_with, random_batch


def test_one_row_without_a_batch_dimension() -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(s)
    assert criterion(logits[0], labels[0]) == criterion(logits[:1], labels[:1])


@pytest.mark.parametrize("num_rows", [3, 0])
def test_without_counted_labels_the_loss_is_nan_as_in_torch(num_rows: int) -> None:
    logits, labels = torch.zeros(num_rows, K), torch.full((num_rows,), -100)
    assert F.cross_entropy(logits, labels).isnan()
    assert KRLoss(K)(logits, labels).isnan()
    assert KRLoss(K)(logits, labels, num_items=5) == 0  # adds nothing to an accumulated batch


@both_divergences
@pytest.mark.parametrize("method", ["forward", "parts", "training_step"])
def test_without_counted_labels_all_gradients_are_0_as_in_torch(divergence: str, method: str) -> None:
    criterion = KRLoss(K, divergence=divergence)
    logits = torch.zeros(3, K, requires_grad=True)
    result = getattr(criterion, method)(logits, torch.full((3,), -100))
    loss = result if isinstance(result, Tensor) else result.total if method == "parts" else result[0]
    loss.backward()
    assert loss.isnan()
    assert torch.equal(cast(Tensor, logits.grad), torch.zeros(3, K))
    of_matrix = result[1] if method == "training_step" else criterion.residual_matrix.grad
    assert torch.equal(cast(Tensor, of_matrix), torch.zeros(K, K))


def test_counting_refuses_a_label_out_of_range() -> None:
    criterion = KRLoss(K, class_weights=torch.ones(K))
    with pytest.raises(ValueError, match=rf"labels must be in 0\.\.{K - 1}, or -100 to be ignored, got {K}"):
        criterion.count(torch.tensor([0, K]))


@both_divergences
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("weights", [None, torch.tensor(WEIGHTS)])
def test_a_logit_that_is_not_finite_in_an_ignored_row_changes_nothing(
    divergence: str, value: float, weights: Tensor | None
) -> None:
    logits, labels, s = random_batch()
    labels[0] = -100
    criterion = criterion_with(s, divergence=divergence, class_weights=weights)
    expected = criterion.parts(logits, labels)
    logits[0] = value
    parts = criterion.parts(logits.requires_grad_(), labels)
    assert parts == expected
    for total in (parts.total, criterion(logits, labels)):
        (gradient,) = torch.autograd.grad(total, logits)
        assert (gradient[0] == 0).all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("weights", [None, torch.tensor(WEIGHTS).double()])
def test_micro_batches_divided_by_the_total_count_add_up_to_the_whole_batch(weights: Tensor | None) -> None:
    logits, labels, s = random_batch()
    labels[[1, 2, 8]] = -100
    criterion = criterion_with(s, label_smoothing=0.1, class_weights=weights)
    num_items = criterion.count(labels)
    assert num_items == (9 if weights is None else weights[labels[labels != -100]].sum())
    assert criterion.count(labels.view(3, 4)) == num_items
    whole = criterion.parts(logits, labels)
    split = [criterion.parts(logits[rows], labels[rows], num_items) for rows in (slice(0, 3), slice(3, 12))]
    torch.testing.assert_close(torch.stack(split[0]) + torch.stack(split[1]), torch.stack(whole))
    js_divergences = [
        criterion.parts(logits[rows], labels[rows], num_items).js_divergence for rows in ([0, 1], range(2, 12))
    ]
    torch.testing.assert_close(sum(js_divergences), criterion.parts(logits, labels).js_divergence)


def test_num_items_may_be_an_integer() -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(s)
    torch.testing.assert_close(criterion(logits, labels, 24), criterion(logits, labels) / 2)
    torch.testing.assert_close(
        criterion.parts(logits, labels, 24).js_divergence, criterion.parts(logits, labels).js_divergence / 2
    )


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 4]), r"labels must be in 0\.\.3, or -100 to be ignored, got 4"),
        (torch.zeros(2, 4), torch.tensor([-1, 0]), r"labels must be in 0\.\.3, or -100 to be ignored, got -1"),
        (torch.zeros(1, 2, 4), torch.tensor([[-100, 9]]), r"labels must be in 0\.\.3, or -100 to be ignored, got 9"),
        (torch.zeros(2, 5), torch.tensor([0, 1]), r"logits must have num_labels = 4 columns, got shape \(2, 5\)"),
        (torch.zeros(4, 1), torch.tensor([0]), r"logits must have num_labels = 4 columns, got shape \(4, 1\)"),
        (torch.tensor(0.0), torch.tensor(0), r"logits must have num_labels = 4 columns, got shape \(\)"),
        (torch.zeros(2, 4), torch.tensor([0]), r"labels must have shape \(2,\), got \(1,\)"),
        (torch.zeros(2, 4), torch.tensor([[0], [1]]), r"labels must have shape \(2,\), got \(2, 1\)"),
        (torch.zeros(2, 3, 4), torch.tensor([0] * 6), r"labels must have shape \(2, 3\), got \(6,\)"),
        (torch.zeros(2, 4), torch.tensor([0.0, 1.0]), r"labels must be integers, got torch\.float32"),
        (torch.zeros(2, 4), torch.tensor([False, True]), r"labels must be integers, got torch\.bool"),
    ],
)
def test_wrong_batches_are_refused(logits: Tensor, labels: Tensor, message: str) -> None:
    criterion = KRLoss(4)
    for method in (criterion, criterion.parts):
        with pytest.raises(ValueError, match=f"^{message}$"):
            method(logits, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_may_have_any_integer_dtype(dtype: torch.dtype) -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(s, class_weights=torch.tensor(WEIGHTS))
    assert criterion(logits, labels.to(dtype)) == criterion(logits, labels)
    assert criterion.count(labels.to(dtype)) == torch.tensor(WEIGHTS)[labels].sum()
