"""Distillation and mutual learning: the losses by hand."""

import json
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kr_text.losses.distillation import DistillationLoss, MutualLoss
from loss_cases import kl, softmax

STUDENT, TEACHER = [2.0, 1.0, 0.0], [0.0, 3.0, -1.0]  # logits
P1, P2 = [0.5, 0.3, 0.2], [0.2, 0.7, 0.1]  # predictions


def rows_of(*logits: list[float]) -> Tensor:
    return torch.tensor(logits, dtype=torch.float64, requires_grad=True)


def log(p: list[float]) -> list[float]:
    return [math.log(value) for value in p]


def gradient(logits: Tensor) -> list[float]:
    assert logits.grad is not None
    return [float(entry) for entry in logits.grad[0]]


def test_distillation_is_cross_entropy_plus_the_divergence_between_softened_predictions() -> None:
    student = rows_of(STUDENT, [0.0, 1.0, 5.0])
    teacher = rows_of(TEACHER, [1.0, 1.0, 2.0])
    hard = -(math.log(softmax(STUDENT)[0]) + math.log(softmax([0.0, 1.0, 5.0])[2])) / 2
    of_first = kl(softmax([0.0, 1.5, -0.5]), softmax([1.0, 0.5, 0.0]))
    of_second = kl(softmax([0.5, 0.5, 1.0]), softmax([0.0, 0.5, 2.5]))
    loss = DistillationLoss(3, temperature=2.0, weight=0.25)(student, torch.tensor([0, 2]), teacher)
    assert loss.item() == pytest.approx(0.75 * hard + 0.25 * 4 * (of_first + of_second) / 2)


def test_distillation_pulls_the_student_towards_the_teacher_which_gets_no_gradient() -> None:
    student, teacher = rows_of(STUDENT), rows_of(TEACHER)
    DistillationLoss(3)(student, torch.tensor([0]), teacher).backward()
    p, soft, aim = softmax(STUDENT), softmax([0.5, 0.25, 0.0]), softmax([0.0, 0.75, -0.25])
    expected = [0.1 * (p[k] - (k == 0)) + 0.9 * 4 * (soft[k] - aim[k]) for k in range(3)]  # T = 4, and T^2 / T
    assert gradient(student) == pytest.approx(expected)
    assert teacher.grad is None


def test_with_a_teacher_equal_to_the_student_only_cross_entropy_remains() -> None:
    student, labels = rows_of(STUDENT), torch.tensor([0])
    loss = DistillationLoss(3, weight=0.9)(student, labels, student.detach().clone())
    torch.testing.assert_close(loss, 0.1 * F.cross_entropy(student, labels))
    loss.backward()
    assert gradient(student) == pytest.approx([0.1 * (p - (k == 0)) for k, p in enumerate(softmax(STUDENT))])
    student = rows_of(STUDENT)
    DistillationLoss(3, weight=1.0)(student, labels, student.detach().clone()).backward()
    assert gradient(student) == pytest.approx([0.0, 0.0, 0.0], abs=1e-15)


def test_mutual_loss_is_the_sum_of_the_losses_of_both_networks() -> None:
    first, second = rows_of(log(P1)), rows_of(log(P2))
    loss = MutualLoss(3)(first, torch.tensor([1]), second)
    assert loss.item() == pytest.approx(-math.log(0.3) + kl(P2, P1) - math.log(0.7) + kl(P1, P2))
    loss.backward()  # (p - one-hot) + (p - the other p, detached)
    assert gradient(first) == pytest.approx([2 * a - b - (k == 1) for k, (a, b) in enumerate(zip(P1, P2, strict=True))])
    assert gradient(second) == pytest.approx(
        [2 * b - a - (k == 1) for k, (a, b) in enumerate(zip(P1, P2, strict=True))]
    )


@pytest.mark.parametrize("loss", [DistillationLoss, MutualLoss])
def test_bf16_logits_are_widened_to_float32(loss: Any) -> None:
    torch.manual_seed(0)
    first, second, labels = torch.randn(5, 3).bfloat16(), torch.randn(5, 3).bfloat16(), torch.tensor([0, 1, 2, 0, 1])
    narrow, wide = loss(3)(first, labels, second), loss(3)(first.float(), labels, second.float())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, wide, rtol=0, atol=0)


def test_settings_are_json() -> None:
    settings = DistillationLoss(3, temperature=2.0, weight=0.5).settings()
    assert json.loads(json.dumps(settings)) == {"num_labels": 3, "temperature": 2.0, "weight": 0.5}
    assert DistillationLoss(3).settings() == {"num_labels": 3, "temperature": 4.0, "weight": 0.9}
    assert MutualLoss(3).settings() == {"num_labels": 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0 and finite, got 0.0"),
        ({"temperature": float("inf")}, "temperature must be above 0 and finite, got inf"),
        ({"weight": 1.5}, r"weight must be in \[0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationLoss(3, **settings)
