"""Residual labels: for each class, a distribution over the other (wrong) classes."""

import torch
from torch import Tensor, nn


def residual_labels(matrix: Tensor) -> Tensor:
    """(K, K): row k is the softmax of row k of `matrix` over the wrong classes, and 0 for class k itself (Eq. 5)."""
    own_class = torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
    return matrix.detach().masked_fill(own_class, -torch.inf).softmax(dim=1)


def learned_residual_labels(matrix: nn.Parameter) -> Tensor | None:
    """The residual labels of a matrix of logits that starts at 0; None if it is frozen or never moved."""
    if not matrix.requires_grad or not matrix.any():
        return None
    return residual_labels(matrix)


def log_residual(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, K): log-softmax over the wrong classes of each row; the smallest finite number for the class of the row."""
    return logits.scatter(1, labels[:, None], torch.finfo(logits.dtype).min).log_softmax(1)
