"""Batches as rows: flattened logits and labels, checked labels and class weights, and the weight of each row."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """The rows of a batch. Ignored rows have zero logits, label 0 and weight 0."""

    logits: Tensor  # (N, K)
    labels: Tensor  # (N,), int64 in 0..K-1
    keep: Tensor | None  # (N, 1): 1 for a counted row, 0 for an ignored one; None if every row is known to count
    weights: Tensor | None  # (N, 1): class weight of a counted row, 0 for an ignored one; None if every weight is 1

    def total_weight(self) -> Tensor | int:
        """Sum of the row weights."""
        return len(self.labels) if self.weights is None else self.weights.sum()

    def sum_over_counted(self, x: Tensor) -> Tensor:
        """Sum of x (N,) over the counted rows, a scalar."""
        return x.sum() if self.keep is None else (x * self.keep.squeeze(1)).sum()


def make_rows(logits: Tensor, labels: Tensor, num_labels: int, ignore_index: int, class_weights: Tensor | None) -> Rows:
    """Flattens a batch to one row per label, and weighs the rows.

    Label values are checked on a CPU only; reading them on an accelerator would synchronize with the device.

    Args:
        logits: (..., K).
        labels: (...), in 0..K-1 or `ignore_index`.
        num_labels: K.
        ignore_index: Label of the rows to leave out.
        class_weights: (K,), or None for weights of 1.

    Raises:
        ValueError: Shapes, dtypes or label values that do not fit.
    """
    logits, labels = _flatten(logits, labels, num_labels)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    keep = None
    if not can_read(labels) or check_labels(labels, num_labels, ignore_index):
        ignored = labels == ignore_index
        keep = (~ignored).to(dtype)[:, None]
        logits, labels = logits.masked_fill(ignored[:, None], 0.0), labels.masked_fill(ignored, 0)
    if class_weights is None:
        return Rows(logits, labels, keep, weights=keep)
    weights = class_weights[labels, None]
    if keep is not None:
        weights = weights.to(keep.dtype) * keep
    return Rows(logits, labels, keep, weights.to(dtype))


def _flatten(logits: Tensor, labels: Tensor, num_labels: int) -> tuple[Tensor, Tensor]:
    """(N, K) and (N,) int64."""
    if logits.shape[-1:] != (num_labels,):
        raise ValueError(f"logits must have num_labels = {num_labels} columns, got shape {tuple(logits.shape)}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels must have shape {tuple(logits.shape[:-1])}, got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if logits.dim() != 2:
        logits, labels = logits.reshape(-1, num_labels), labels.reshape(-1)
    return logits, labels.long()


def can_read(labels: Tensor) -> bool:
    """Whether there are label values, and reading them neither synchronises with a device nor breaks a graph."""
    return labels.device.type == "cpu" and not torch.compiler.is_compiling() and labels.numel() > 0


def check_labels(labels: Tensor, num_labels: int, ignore_index: int) -> bool:
    """Whether some labels may be `ignore_index`.

    Raises:
        ValueError: A label is neither in 0..num_labels-1 nor `ignore_index`.
    """
    low, high = (bound.item() for bound in labels.aminmax())
    if low >= 0 and high < num_labels and not low <= ignore_index <= high:
        return False
    wrong = labels[(labels != ignore_index) & ((labels < 0) | (labels >= num_labels))]
    if len(wrong):
        rule = f"labels must be in 0..{num_labels - 1}, or {ignore_index} to be ignored"
        raise ValueError(f"{rule}, got {wrong[0].item()}")
    return True


def checked_weights(class_weights: Tensor | Sequence[float] | None, num_labels: int) -> Tensor | None:
    """The class weights as a tensor of floats, (num_labels,).

    Raises:
        ValueError: There is not one weight for each class, or a weight is below 0.
    """
    if class_weights is None:
        return None
    weights = torch.as_tensor(class_weights)
    weights = weights if weights.is_floating_point() else weights.float()
    if weights.shape != (num_labels,):
        raise ValueError(f"class_weights must have shape ({num_labels},), got {tuple(weights.shape)}")
    if not (weights >= 0).all():
        raise ValueError(f"class_weights must be at least 0, got {weights.min()}")
    return weights
