"""Small batches and predictions, and their losses in plain Python, for the tests of losses."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kr_text.losses.knowledge_refinery import DIVERGENCES, KRLoss

K = 4
WEIGHTS = [0.5, 2.0, 1.0, 3.0]  # of K classes
both_divergences = pytest.mark.parametrize("divergence", DIVERGENCES)

P = [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.25, 0.5, 0.25]]  # predictions for three texts
LABELS = torch.tensor([0, 0, 1])  # labels of the three texts; the second is misclassified


def criterion_with(s: Tensor, **settings: Any) -> KRLoss:
    """A KRLoss with residual matrix `s`, in the dtype of `s`."""
    criterion = KRLoss(len(s), **settings).to(s.dtype)
    criterion.load_state_dict({"residual_matrix": s})
    return criterion


def random_batch(num_rows: int = 12, num_labels: int = K, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K), labels (N,) and S (K, K), in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_rows, num_labels, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_labels, (num_rows,), generator=generator)
    s = torch.randn(num_labels, num_labels, generator=generator, dtype=torch.float64)
    return logits, labels, s


def logits_of(*predictions: list[float]) -> Tensor:
    """Logits of predictions, in float64."""
    return torch.tensor(predictions, dtype=torch.float64).log().add(3.0).requires_grad_()


def softmax(values: list[float]) -> list[float]:
    exps = [math.exp(value) for value in values]
    return [value / sum(exps) for value in exps]


def ce(label: list[float], p: list[float]) -> float:
    """Cross-entropy of the prediction p with a label."""
    return -sum(t * math.log(v) for t, v in zip(label, p, strict=True))


def kl(label: list[float], p: list[float]) -> float:
    """KL(label || p)."""
    return sum(t * math.log(t / v) for t, v in zip(label, p, strict=True))


def value(criterion: nn.Module, predictions: list[list[float]], labels: list[int]) -> float:
    """The loss of a batch."""
    with torch.no_grad():
        return float(criterion(logits_of(*predictions), torch.tensor(labels)))


def gradients(criterion: nn.Module, prediction: list[float], label: int) -> list[float]:
    """The gradient of the loss by the logits of one row."""
    logits = logits_of(prediction)
    criterion(logits, torch.tensor([label])).backward()
    assert logits.grad is not None
    return [float(entry) for entry in logits.grad[0]]
