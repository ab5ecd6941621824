"""Predictions that are easy to write down, and what is worked of them in plain Python: for the tests of losses."""

import math

import torch
from torch import Tensor

from kr_text.losses.label_softening import SofteningLoss

P = [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.25, 0.5, 0.25]]  # what the network says of three texts
LABELS = torch.tensor([0, 0, 1])  # and what they are: the second is classified wrongly


def logits_of(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log().add(3.0).requires_grad_()


def softmax(values: list[float]) -> list[float]:
    exps = [math.exp(value) for value in values]
    return [value / sum(exps) for value in exps]


def ce(label: list[float], p: list[float]) -> float:
    return -sum(t * math.log(v) for t, v in zip(label, p, strict=True))


def kl(label: list[float], p: list[float]) -> float:
    return sum(t * math.log(t / v) for t, v in zip(label, p, strict=True))


def value(criterion: SofteningLoss, rows: list[list[float]], labels: list[int]) -> float:
    with torch.no_grad():
        return float(criterion(logits_of(*rows), torch.tensor(labels)))


def gradients(criterion: SofteningLoss, row: list[float], label: int) -> list[float]:
    logits = logits_of(row)
    criterion(logits, torch.tensor([label])).backward()
    assert logits.grad is not None
    return [float(entry) for entry in logits.grad[0]]
