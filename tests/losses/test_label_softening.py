"""The label-softening losses against numbers in plain Python."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kr_text.losses.kr_variants import KR_VARIANTS, ClassMeanKR, WeightedKR
from kr_text.losses.label_softening import (
    SOFTENING_LOSSES,
    ConfidencePenalty,
    LabelConfusion,
    LabelSmoothingPlusPlus,
    OnlineLabelSmoothing,
    TeacherFreeKD,
)
from kr_text.losses.softening_loss import SofteningLoss
from loss_cases import LABELS, P, ce, gradients, kl, logits_of, softmax, value

LOSSES = {**SOFTENING_LOSSES, **KR_VARIANTS}


def make(name: str) -> SofteningLoss:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_features": 2} if name == "lcm" else {}
    return LOSSES[name](3, **settings)


def call(criterion: SofteningLoss, logits: Tensor, labels: Tensor = LABELS) -> Tensor:
    features = [torch.linspace(-1, 1, 2 * len(labels)).view(-1, 2)] if criterion.needs_features else []
    loss: Tensor = criterion(logits, labels, *features)
    return loss


def test_online_smoothing_has_uniform_soft_labels_in_the_first_epoch() -> None:
    hard = (ce([1, 0, 0], P[0]) + ce([1, 0, 0], P[1]) + ce([0, 1, 0], P[2])) / 3
    soft = sum(ce([1 / 3] * 3, p) for p in P) / 3
    assert value(OnlineLabelSmoothing(3), P, [0, 0, 1]) == pytest.approx(0.5 * hard + 0.5 * soft, abs=1e-7)
    assert value(OnlineLabelSmoothing(3, alpha=0.7), P, [0, 0, 1]) == pytest.approx(0.7 * hard + 0.3 * soft, abs=1e-7)


def test_soft_labels_of_online_smoothing_are_means_of_the_correct_predictions_of_the_last_epoch() -> None:
    criterion = OnlineLabelSmoothing(3)
    value(criterion, P, [0, 0, 1])
    value(criterion, [[0.7, 0.1, 0.2]], [0])
    criterion.end_epoch()
    expected = [[0.6, 0.2, 0.2], [0.25, 0.5, 0.25], [1 / 3, 1 / 3, 1 / 3]]  # class 2 has no row
    torch.testing.assert_close(criterion.soft_labels, torch.tensor(expected))
    loss = 0.5 * ce([0, 1, 0], P[0]) + 0.5 * ce([0.25, 0.5, 0.25], P[0])
    assert value(criterion, [P[0]], [1]) == pytest.approx(loss, abs=1e-7)


def test_online_smoothing_resets_its_counts_after_each_epoch() -> None:
    criterion = OnlineLabelSmoothing(3)
    value(criterion, P, [0, 0, 1])
    criterion.end_epoch()
    value(criterion, [[0.8, 0.1, 0.1]], [0])
    torch.testing.assert_close(criterion.soft_labels[0], torch.tensor(P[0]))  # from the epoch before
    criterion.end_epoch()
    expected = [[0.8, 0.1, 0.1], [1 / 3] * 3, [1 / 3] * 3]
    torch.testing.assert_close(criterion.soft_labels, torch.tensor(expected))


def test_online_smoothing_has_the_gradient_of_the_mixed_label() -> None:
    criterion = OnlineLabelSmoothing(3, alpha=0.25)
    value(criterion, [[0.6, 0.3, 0.1]], [0])
    criterion.end_epoch()
    label = [0.25 + 0.75 * 0.6, 0.75 * 0.3, 0.75 * 0.1]
    expected = [p - y for p, y in zip(P[0], label, strict=True)]
    assert gradients(criterion, P[0], 0) == pytest.approx(expected, abs=1e-7)


def test_label_smoothing_plus_plus_is_the_mean_of_both_cross_entropies() -> None:
    criterion = LabelSmoothingPlusPlus(3).double()
    y = [0.9, 0.05, 0.05]
    assert value(criterion, [P[0]], [0]) == pytest.approx((ce(y, P[0]) + ce(P[0], y)) / 2)
    with torch.no_grad():
        criterion.c_matrix[1] = torch.tensor([1.0, 5.0, 2.0])  # the entry of the class itself is unused
    c = softmax([1.0, 2.0])
    y = [0.1 * c[0], 0.9, 0.1 * c[1]]
    assert value(criterion, [P[0]], [1]) == pytest.approx((ce(y, P[0]) + ce(P[0], y)) / 2)


def test_label_smoothing_plus_plus_has_one_cross_entropy_for_the_network_and_one_for_the_label() -> None:
    criterion = LabelSmoothingPlusPlus(3, alpha=0.2).double()
    with torch.no_grad():
        criterion.c_matrix[0] = torch.tensor([5.0, 1.0, 2.0])
    c = softmax([1.0, 2.0])
    of_network = [(0.5 - 0.8) / 2, (0.3 - 0.2 * c[0]) / 2, (0.2 - 0.2 * c[1]) / 2]  # (p - y) / 2
    assert gradients(criterion, P[0], 0) == pytest.approx(of_network)
    assert criterion.c_matrix.grad is not None
    of_label = [0.0, (c[0] * 0.5 - 0.3) / 2, (c[1] * 0.5 - 0.2) / 2]  # (c * (1 - p_k) - p) / 2
    assert criterion.c_matrix.grad[0].tolist() == pytest.approx(of_label)
    assert criterion.c_matrix.grad[1:].eq(0).all()


def test_confidence_penalty_subtracts_the_entropy() -> None:
    hard = (ce([1, 0, 0], P[0]) + ce([1, 0, 0], P[1]) + ce([0, 1, 0], P[2])) / 3
    entropy = sum(ce(p, p) for p in P) / 3
    assert value(ConfidencePenalty(3), P, [0, 0, 1]) == pytest.approx(hard - 0.1 * entropy)
    assert value(ConfidencePenalty(3, beta=2.0), P, [0, 0, 1]) == pytest.approx(hard - 2.0 * entropy)


def test_confidence_penalty_has_the_gradient_of_the_paper() -> None:
    entropy = ce(P[0], P[0])
    of_entropy = [p * (-math.log(p) - entropy) for p in P[0]]
    expected = [p - t - 0.5 * h for p, t, h in zip(P[0], [1, 0, 0], of_entropy, strict=True)]
    assert gradients(ConfidencePenalty(3, beta=0.5), P[0], 0) == pytest.approx(expected)


def test_teacher_free_distillation_softens_the_teacher_only() -> None:
    teacher = softmax([0.005 / 20, 0.99 / 20, 0.005 / 20])
    loss = 0.9 * ce([0, 1, 0], P[2]) + 0.1 * kl(teacher, P[2])
    assert value(TeacherFreeKD(3), [P[2]], [1]) == pytest.approx(loss, abs=1e-7)
    teacher = softmax([0.4, 0.05, 0.05])
    loss = 0.4 * ce([1, 0, 0], P[0]) + 0.6 * kl(teacher, P[0])
    criterion = TeacherFreeKD(3, alpha=0.6, tau=2.0, correct=0.8)
    assert value(criterion, [P[0]], [0]) == pytest.approx(loss, abs=1e-7)
    label = [0.4 + 0.6 * teacher[0], 0.6 * teacher[1], 0.6 * teacher[2]]
    expected = [p - y for p, y in zip(P[0], label, strict=True)]
    assert gradients(criterion, P[0], 0) == pytest.approx(expected, abs=1e-7)


def test_label_confusion_softens_the_label_by_the_similarity_of_text_and_classes() -> None:
    criterion = LabelConfusion(3, num_features=1, alpha=2.0).double()
    with torch.no_grad():
        criterion.label_embedding.copy_(torch.tensor([[0.5], [1.0], [-1.0]]))
        criterion.label_layer.weight.fill_(2.0)
        criterion.label_layer.bias.fill_(0.1)
        criterion.confusion_layer.weight.copy_(torch.eye(3))
        criterion.confusion_layer.bias.copy_(torch.tensor([0.0, 0.3, 0.0]))
    near = [1.5 * math.tanh(2.0 * e + 0.1) for e in (0.5, 1.0, -1.0)]
    confusion = softmax([near[0], near[1] + 0.3, near[2]])
    label = softmax([confusion[0] + 2.0, confusion[1], confusion[2]])
    loss = criterion(logits_of(P[1]), torch.tensor([0]), torch.tensor([[1.5]], dtype=torch.float64))
    assert loss.item() == pytest.approx(kl(label, P[1]))


def test_label_confusion_has_the_alpha_of_the_paper() -> None:
    assert LabelConfusion(3, num_features=2).settings()["alpha"] == 4.0


def test_gradients_of_label_confusion_also_flow_through_the_label() -> None:
    torch.manual_seed(0)
    criterion = LabelConfusion(3, num_features=2, alpha=1.0).double()
    features = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def loss(logits: Tensor, features: Tensor, *parameters: Tensor) -> Any:
        return criterion(logits, LABELS, features)

    assert torch.autograd.gradcheck(loss, (logits_of(*P), features, *criterion.parameters()))
    criterion(logits_of(*P), LABELS, features).backward()
    for tensor in (features, *criterion.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_settings_are_json_and_recreate_the_loss(name: str) -> None:
    criterion = make(name)
    settings = json.loads(json.dumps(criterion.settings()))
    assert settings["num_labels"] == 3
    if not name.startswith("kr-"):  # their schedule is text
        assert LOSSES[name](**settings).settings() == criterion.settings()
    assert all(f"{key}=" in repr(criterion) for key in settings)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_have_finite_losses_and_gradients(name: str) -> None:
    criterion = make(name)
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    for _ in range(2):
        loss = call(criterion, logits, torch.tensor([1, 0]))
        loss.backward()
        criterion.end_epoch()
        assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (logits, *criterion.parameters()))


@pytest.mark.parametrize("name", LOSSES)
def test_bf16_logits_are_widened_to_float32(name: str) -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    narrow, wide = call(make(name), logits), call(make(name), logits.float())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, wide, rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loaded_state_continues_like_the_saved_loss(name: str) -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    first, second = make(name), make(name)
    call(first, logits)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.linspace(0, 1, parameter.numel()).view_as(parameter))
    second.load_state_dict(first.state_dict())
    for criterion in (first, second):
        criterion.end_epoch()
    torch.testing.assert_close(call(second, logits), call(first, logits), rtol=0, atol=0)


@pytest.mark.parametrize("loss", [OnlineLabelSmoothing, ClassMeanKR])
def test_nothing_is_counted_in_eval_mode(loss: Any) -> None:
    criterion = loss(3).eval()
    before = {name: tensor.clone() for name, tensor in criterion.state_dict().items()}
    call(criterion, logits_of(*P))
    criterion.end_epoch()
    torch.testing.assert_close(dict(criterion.state_dict()), before)


@pytest.mark.parametrize(
    ("loss", "settings", "message"),
    [
        (ConfidencePenalty, {"num_labels": 1}, "num_labels must be at least 2, got 1"),
        (OnlineLabelSmoothing, {"alpha": 1.1}, r"alpha must be in \[0, 1\], got 1.1"),
        (LabelSmoothingPlusPlus, {"alpha": 0.0}, r"alpha must be in \(0, 1\), got 0.0"),
        (LabelSmoothingPlusPlus, {"alpha": 1.0}, r"alpha must be in \(0, 1\), got 1.0"),
        (ConfidencePenalty, {"beta": -0.1}, "beta must be at least 0 and finite, got -0.1"),
        (ConfidencePenalty, {"beta": float("inf")}, "beta must be at least 0 and finite, got inf"),
        (TeacherFreeKD, {"alpha": float("nan")}, r"alpha must be in \[0, 1\], got nan"),
        (TeacherFreeKD, {"tau": 0.0}, "tau must be above 0 and finite, got 0.0"),
        (TeacherFreeKD, {"correct": 1.2}, r"correct must be in \[0, 1\], got 1.2"),
        (LabelConfusion, {"num_features": 0}, "num_features must be at least 1, got 0"),
        (LabelConfusion, {"num_features": 2, "alpha": -1.0}, "alpha must be at least 0 and finite, got -1.0"),
        (ClassMeanKR, {"momentum": 1.5}, r"momentum must be in \[0, 1\], got 1.5"),
        (ClassMeanKR, {"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        (WeightedKR, {"alpha": -1.0}, "alpha must be at least 0 and finite, got -1.0"),
        (WeightedKR, {"alpha": lambda epoch: -1.0}, "alpha in epoch 0 must be at least 0 and finite, got -1.0"),
        (WeightedKR, {"gamma": 2.0}, r"gamma must be in \[0, 1\], got 2.0"),
    ],
)
def test_settings_out_of_range_are_refused(loss: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(**{"num_labels": 3, **settings})
