"""The variants of Knowledge Refinery against numbers in plain Python and against KRLoss."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.losses.kr_variants import ClassMeanKR, WeightedKR
from kr_text.losses.schedules import Truncated
from loss_cases import LABELS, P, ce, gradients, kl, logits_of, softmax, value


def test_class_mean_kr_is_cross_entropy_plus_the_divergence_from_the_running_mean() -> None:
    criterion = ClassMeanKR(3, alpha=0.5).double()
    residual = (kl([0.5, 0.5], [0.6, 0.4]) + kl([0.5, 0.5], [0.375, 0.625]) + kl([0.5, 0.5], [0.5, 0.5])) / 3
    hard = (ce([1, 0, 0], P[0]) + ce([1, 0, 0], P[1]) + ce([0, 1, 0], P[2])) / 3
    assert value(criterion, P, [0, 0, 1]) == pytest.approx(hard + 0.5 * residual, abs=1e-7)  # uniform at the start
    mean = [0.99 * 0.5 + 0.01 * (0.6 + 0.375) / 2, 0.99 * 0.5 + 0.01 * (0.4 + 0.625) / 2]
    assert criterion.class_means.tolist() == [
        pytest.approx([0.0, *mean]),
        pytest.approx([0.5, 0.0, 0.5]),
        [0.5, 0.5, 0.0],  # no row of this class
    ]
    loss = ce([1, 0, 0], P[0]) + 0.5 * kl(mean, [0.6, 0.4])
    assert value(criterion, [P[0]], [0]) == pytest.approx(loss)


def test_class_mean_kr_pulls_the_network_towards_the_mean_before_the_batch() -> None:
    criterion = ClassMeanKR(3, alpha=2.0, momentum=0.25).double()
    value(criterion, [P[1]], [0])
    mean = [0.25 * 0.5 + 0.75 * 0.375, 0.25 * 0.5 + 0.75 * 0.625]
    expected = [0.5 - 1, 0.3 + 2 * (0.6 - mean[0]), 0.2 + 2 * (0.4 - mean[1])]
    assert gradients(criterion, P[0], 0) == pytest.approx(expected)


def test_class_means_at_momentum_0_are_where_kr_converges() -> None:
    """KR converges to the mean of p_res of each class, where the gradient of `residual_matrix` is 0."""
    running, learned = ClassMeanKR(3, momentum=0.0).double(), KRLoss(3).double()
    value(running, P, [0, 0, 1])
    with torch.no_grad():
        learned.residual_matrix.copy_(running.class_means.log().clamp(min=-100))
    learned(logits_of(*P), LABELS).backward()
    assert learned.residual_matrix.grad is not None
    torch.testing.assert_close(learned.residual_matrix.grad, torch.zeros(3, 3).double(), rtol=0, atol=1e-12)


def test_weighted_kr_weights_the_residual_term_only() -> None:
    criterion = WeightedKR(3, alpha=0.5).double()
    with torch.no_grad():
        criterion.residual_matrix[0] = torch.tensor([7.0, 1.0, 2.0])
    q = softmax([1.0, 2.0])
    residual = (0.5 * kl(q, [0.6, 0.4]) + 0.8 * kl(q, [0.375, 0.625])) / 2
    update = (kl([0.6, 0.4], q) + kl([0.375, 0.625], q)) / 2
    hard = (ce([1, 0, 0], P[0]) + ce([1, 0, 0], P[1])) / 2
    assert value(criterion, P[:2], [0, 0]) == pytest.approx(hard + 0.5 * (residual + update))
    expected = [0.5 - 1, 0.3 + 0.5 * 0.5 * (0.6 - q[0]), 0.2 + 0.5 * 0.5 * (0.4 - q[1])]
    assert gradients(criterion, P[0], 0) == pytest.approx(expected)  # p_k is detached, and p in the update too


def test_weighted_kr_and_kr_give_the_residual_matrix_the_same_gradient() -> None:
    torch.manual_seed(0)
    weighted, plain = WeightedKR(3, alpha=0.5).double(), KRLoss(3, alpha=0.5).double()
    with torch.no_grad():
        weighted.residual_matrix.normal_()
        plain.residual_matrix.copy_(weighted.residual_matrix)
    for criterion in (weighted, plain):
        criterion(logits_of(*P), LABELS).backward()
    assert weighted.residual_matrix.grad is not None
    assert weighted.residual_matrix.grad.abs().max() > 0.01
    torch.testing.assert_close(weighted.residual_matrix.grad, plain.residual_matrix.grad)


@pytest.mark.parametrize("loss", [ClassMeanKR, WeightedKR])
def test_variants_of_kr_take_the_schedules_of_kr(loss: Any) -> None:
    fading, ending, never = loss(3, gamma=0.5), loss(3, alpha=Truncated(2)), loss(3, gamma=0.0)
    seen = []
    for epoch in (0, 1, 2):
        for criterion in (fading, ending, never):
            criterion.set_epoch(epoch)
        seen.append((fading.alpha, ending.alpha, never.alpha))
    assert seen == [(1.0, 1.0, 0.0), (0.5, 1.0, 0.0), (0.25, 0.0, 0.0)]


@pytest.mark.parametrize("loss", [ClassMeanKR, WeightedKR])
def test_variants_of_kr_smooth_the_hard_label(loss: Any) -> None:
    smooth = loss(3, alpha=0.0, label_smoothing=0.1)(logits_of(*P), LABELS)
    torch.testing.assert_close(smooth, F.cross_entropy(logits_of(*P), LABELS, label_smoothing=0.1))


def slowly(epoch: float) -> float:
    return 1 / (1 + epoch)


def test_settings_of_the_variants_of_kr_contain_the_schedule() -> None:
    settings = ClassMeanKR(3, gamma=0.5, label_smoothing=0.1, momentum=0.9).settings()
    schedule = "Exponential(alpha=1.0, gamma=0.5)"
    assert settings == {"num_labels": 3, "label_smoothing": 0.1, "alpha": schedule, "momentum": 0.9}
    assert WeightedKR(3, alpha=slowly).settings()["alpha"] == "slowly"
