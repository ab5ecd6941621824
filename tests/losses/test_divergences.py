"""Divergences against torch, scipy and exact gradients in float64."""

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from kr_text.losses.divergences import js_divergence, kl_divergence, reverse_kl_divergence
from kr_text.losses.knowledge_refinery import KRLoss, wrong_classes

SCALES = [1.0, 100.0, 1e4, 1e30]


def random_logits(scale: float, num_rows: int = 60, num_classes: int = 4) -> Tensor:
    """Logits (N, C) of this scale in float32; about half of them in every second row of scale 1."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_rows, num_classes, generator=generator)
    large = torch.rand(num_rows, num_classes, generator=generator) < 0.5
    large[::2] = True
    return torch.where(large, scale * logits, logits)


def exact_gradient(logits: Tensor, label_logits: Tensor) -> Tensor:
    """Gradient of KL(p || label) by `logits` in float64, as sum_i p_i p_j (r_j - r_i) with r = log(p / label).

    The differences are taken between logits, so nothing large cancels after a multiplication.
    """
    z, s = logits.double(), label_logits.double()
    p = z.softmax(1)
    differences = (z[:, :, None] - z[:, None]) - (s[:, :, None] - s[:, None])  # (N, j, i)
    return (p[:, :, None] * p[:, None] * differences).sum(2)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("label_scale", SCALES)
def test_the_gradient_of_the_reverse_divergence_is_accurate_for_logits_of_any_scale(
    scale: float, label_scale: float
) -> None:
    logits, label_logits = random_logits(scale).requires_grad_(), random_logits(label_scale).flip(0)
    (gradient,) = torch.autograd.grad(reverse_kl_divergence(logits, label_logits).sum(), logits)
    expected = exact_gradient(logits.detach(), label_logits)
    of_row = expected.abs().amax(1)
    assert of_row.max() > 1e-3
    error = (gradient.double() - expected).abs().amax(1)
    torch.testing.assert_close(error / (of_row + 1e-6), torch.zeros_like(error), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["update", "residual"])
@pytest.mark.parametrize("scale", SCALES)
def test_as_printed_the_gradients_of_the_loss_are_accurate_for_logits_of_any_scale(name: str, scale: float) -> None:
    logits, labels = random_logits(scale, num_classes=5), torch.arange(60) % 5
    s = 20 * torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    for row, label in enumerate(labels.tolist()):  # one row at a time, or the gradients of S would add up
        criterion = KRLoss(5, divergence="as_printed")
        criterion.residual_matrix.data.copy_(s)
        z, k = logits[[row]].requires_grad_(), labels[[row]]
        wrong = wrong_classes(k, 5)
        of_network, of_label = z.detach().gather(1, wrong), s[[label]].gather(1, wrong)
        if name == "update":
            gradient = criterion.training_step(z, k)[1][[label]]
            expected = exact_gradient(of_label, of_network)
        else:
            (gradient,) = torch.autograd.grad(criterion.parts(z, k).residual, z)
            expected = exact_gradient(of_network, of_label)
        error = (gradient.gather(1, wrong).double() - expected).abs().max()
        assert error <= 1e-4 * expected.abs().max() + 1e-6


def test_the_gradient_of_the_reverse_divergence_sums_to_zero() -> None:
    logits, label_logits = random_logits(1e4).requires_grad_(), random_logits(100.0).flip(0)
    (gradient,) = torch.autograd.grad(reverse_kl_divergence(logits, label_logits).sum(), logits)
    assert (gradient.sum(1).abs() <= 1e-6 * gradient.abs().amax(1)).all()


def test_both_divergences_are_those_of_torch() -> None:
    z, s = random_logits(3.0).double(), random_logits(2.0).double().flip(0)
    log_p, log_q = z.log_softmax(1), s.log_softmax(1)
    expected = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)  # KL(p || q)
    torch.testing.assert_close(kl_divergence(log_p, log_q), expected)
    torch.testing.assert_close(reverse_kl_divergence(z, s), expected)


def test_the_gradient_of_the_reverse_divergence_is_that_of_the_plain_formula() -> None:
    z, s = random_logits(3.0).double().requires_grad_(), random_logits(2.0).double().flip(0)
    (gradient,) = torch.autograd.grad(reverse_kl_divergence(z, s).sum(), z)
    (plain,) = torch.autograd.grad(kl_divergence(z.log_softmax(1), s.log_softmax(1)).sum(), z)
    torch.testing.assert_close(gradient, plain)


def test_the_jensen_shannon_divergence_is_the_square_of_scipys_distance() -> None:
    z, s = random_logits(3.0).double(), random_logits(2.0).double().flip(0)
    expected = torch.as_tensor(jensenshannon(z.softmax(1), s.softmax(1), axis=1)) ** 2
    torch.testing.assert_close(js_divergence(z.log_softmax(1), s.log_softmax(1)), expected)
