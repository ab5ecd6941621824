"""The closed form against the definition, `kr_terms` with autograd, which `KRLoss.parts` runs."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kr_text.losses import KRLoss
from loss_cases import criterion_with, random_batch

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [(1, 2), (64, 5), (64, 2), (7, 40), (40, 32), (3, 3), (9, 150), (0, 4), (2, 5, 6)]


def make_criterion(num_labels: int, **settings: Any) -> KRLoss:
    criterion = KRLoss(num_labels, alpha=settings.pop("alpha", 0.7), **settings)
    torch.nn.init.normal_(criterion.residual_matrix)
    return criterion


def make_batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return (3 * torch.randn(shape)).to(dtype).requires_grad_(), torch.randint(shape[-1], shape[:-1])


def gradients(loss: Tensor, criterion: KRLoss, logits: Tensor) -> list[Tensor]:
    sources = [logits, criterion.residual_matrix]
    return list(torch.autograd.grad(loss, sources, retain_graph=True, allow_unused=True, materialize_grads=True))


def assert_equals_definition(criterion: KRLoss, logits: Tensor, labels: Tensor, num_items: int | None = None) -> None:
    """Compares values and gradients of `forward` and `training_step` with `parts`."""
    parts = criterion.parts(logits, labels, num_items)
    expected = gradients(parts.total, criterion, logits)
    total = criterion(logits, labels, num_items)
    torch.testing.assert_close(total, parts.total, equal_nan=True)
    torch.testing.assert_close(gradients(total, criterion, logits), expected)
    loss, matrix_gradient, terms = criterion.training_step(logits, labels, num_items)
    torch.testing.assert_close(loss, parts.total, equal_nan=True)
    of_logits, of_matrix = gradients(loss, criterion, logits)
    torch.testing.assert_close([of_logits, matrix_gradient], expected)
    assert not of_matrix.any()
    expected_terms = torch.stack((*parts[:3], parts.js_divergence)).detach()
    torch.testing.assert_close(terms, expected_terms if criterion.count(labels) else torch.zeros(4))
    assert not terms.requires_grad


@pytest.mark.filterwarnings("ignore:With 2 classes")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing": 0.2}, {"label_smoothing": 0.2, "smoothing": "wrong_classes"}]
)
def test_equals_the_definition_for_all_shapes_and_settings(
    shape: tuple[int, ...], ignored: bool, weighted: bool, settings: dict[str, Any]
) -> None:
    logits, labels = make_batch(shape)
    if ignored:
        labels.view(-1)[::3] = -100  # the only row of the first shape
    weights = torch.rand(shape[-1]) + 0.1 if weighted else None
    assert_equals_definition(make_criterion(shape[-1], class_weights=weights, **settings), logits, labels)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(64, 5), (7, 40)])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 2.5])
def test_equals_the_definition_in_all_precisions(dtype: torch.dtype, shape: tuple[int, int], alpha: float) -> None:
    logits, labels = make_batch(shape, dtype)
    labels[::5] = -100
    weights = torch.rand(shape[1]) + 0.1
    criterion = make_criterion(shape[1], alpha=alpha, label_smoothing=0.1, class_weights=weights)
    assert_equals_definition(criterion, logits, labels)
    assert_equals_definition(criterion, logits, labels, num_items=23)


def test_equals_the_definition_for_residual_matrices_of_other_precisions() -> None:
    logits, labels = make_batch((20, 5))
    for dtype in (torch.float64, torch.bfloat16):
        assert_equals_definition(make_criterion(5).to(dtype), logits, labels)


@pytest.mark.parametrize("scale", [100.0, 1e4, 1e30])
@pytest.mark.parametrize("shape", [(64, 5), (7, 40)])
def test_equals_the_definition_for_large_logits(scale: float, shape: tuple[int, int]) -> None:
    logits, labels = make_batch(shape)
    criterion = make_criterion(shape[1], label_smoothing=0.1)
    criterion.residual_matrix.data *= 10
    assert_equals_definition(criterion, (scale * logits).detach().requires_grad_(), labels)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("divergence", ["label_first", "as_printed"])
def test_forward_and_training_step_agree_with_parts_for_any_divisor(divergence: str, as_tensor: bool) -> None:
    logits, labels = make_batch((20, 5))
    criterion = make_criterion(5, divergence=divergence)
    num_items: Any = torch.tensor(7.0) if as_tensor else 7
    assert_equals_definition(criterion, logits, labels, num_items)


@pytest.mark.parametrize("divergence", ["label_first", "as_printed"])
def test_a_frozen_residual_matrix_still_has_a_gradient_in_training_step(divergence: str) -> None:
    logits, labels = make_batch((20, 5))
    criterion = make_criterion(5, divergence=divergence)
    expected = criterion.training_step(logits, labels)[1]
    criterion.residual_matrix.requires_grad_(False)
    assert torch.equal(criterion.training_step(logits, labels)[1], expected)
    with torch.no_grad():
        loss, gradient, _ = criterion.training_step(logits, labels)
    assert torch.equal(gradient, expected)
    assert not loss.requires_grad


@pytest.mark.parametrize("num_rows", [9, 3])  # tensors (K, N), and (N, K)
def test_a_logit_that_is_not_finite_makes_the_loss_not_finite_except_in_an_ignored_row(num_rows: int) -> None:
    logits, labels, s = random_batch(num_rows)
    labels[0] = 1
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = logits.clone()
        broken[0, 0] = value
        assert not criterion_with(s)(broken, labels).isfinite()
        ignored = labels.clone()
        ignored[0] = -100
        assert_equals_definition(criterion_with(s), broken.requires_grad_(), ignored)


def test_leaves_the_logits_unchanged() -> None:
    for shape in ((6, 4), (3, 4)):
        logits, labels = torch.randn(shape), torch.randint(4, shape[:1])
        before = logits.clone()
        KRLoss(4, label_smoothing=0.1)(logits, labels)
        assert torch.equal(logits, before)


@pytest.mark.parametrize("num_rows", [9, 3])  # tensors (K, N), and (N, K)
def test_class_weights_may_have_another_precision(num_rows: int) -> None:
    logits, labels = torch.randn(num_rows, 4, requires_grad=True), torch.randint(4, (num_rows,))
    weights = torch.rand(4, dtype=torch.float64) + 0.1
    criterion = KRLoss(4, class_weights=weights)
    expected = F.cross_entropy(logits, labels, weights.float())
    torch.testing.assert_close(criterion.parts(logits, labels).hard, expected, check_dtype=False)
    torch.testing.assert_close(criterion.training_step(logits, labels)[2][0], expected.detach(), check_dtype=False)
    criterion(logits, labels).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.float32
