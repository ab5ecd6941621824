"""Knowledge Refinery: classification against a hard label and a residual label that is learned on the way.

Ding et al.: Knowledge Refinery: Learning from Decoupled Label (AAAI 2021). Equation numbers are the paper's;
docs/paper.md says how its slips are read. PyTorch is the only import.
"""

import math
import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kr_text.schedules import Exponential, Schedule

DIVERGENCES = ("label_first", "as_printed")
SMOOTHINGS = ("uniform", "wrong_classes")


class KRLossParts(NamedTuple):
    """The terms of the loss, scalars in nats; `total` is what is minimised."""

    hard: Tensor
    residual: Tensor
    update: Tensor
    total: Tensor


class KRLoss(nn.Module):
    """Cross-entropy with a residual label per class that is learned as the network trains (Alg. 1).

    total = hard + alpha_t * (residual + update), Eqs. 9 and 13: `hard` is the cross-entropy with the hard or the smooth
    label; `residual` draws p_res, the network's distribution over the wrong classes, to q_res, the residual label of
    the right class; `update` draws q_res to p_res. `residual` moves only the network, `update` only `residual_matrix`.

    Give `residual_matrix` to an optimizer, with a learning rate of its own: at the rates that fine-tune a network it
    would hardly move (1e-2 with Adam is a good start), and without weight decay.

    Args:
        num_labels: K, the number of classes.
        label_smoothing: eps in [0, 1), the share of the label that is spread evenly (KR-LS has 0.1).
        alpha: the weight of the residual terms in the first epoch, or a function from the epochs completed to their
            weight (see `kr_text.schedules`), in which case `gamma` has no part.
        gamma: what alpha is multiplied by after each epoch, in [0, 1]; 0 turns the residual terms off.
        divergence: "label_first" reads every divergence as KL(label || prediction), the usual ones; "as_printed" takes
            Eqs. 6 and 7 to the letter.
        smoothing: "uniform" spreads eps over all classes, as torch does; "wrong_classes" over the wrong ones (Eq. 12).
        class_weights: (K,), how much an example of each class counts, in all terms; as `weight` of `F.cross_entropy`.
        ignore_index: the label of what is not counted.

    Raises:
        ValueError: an argument is out of its range.

    >>> criterion = KRLoss(num_labels=3)
    >>> loss = criterion(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]))
    >>> loss.backward()
    >>> criterion.residual_matrix.grad[0]  # class 1 is nearer than class 2
    tensor([ 0.0000, -0.2311,  0.2311])
    """

    def __init__(
        self,
        num_labels: int,
        *,
        label_smoothing: float = 0.0,
        alpha: float | Schedule = 1.0,
        gamma: float = 0.99,
        divergence: str = "label_first",
        smoothing: str = "uniform",
        class_weights: Tensor | None = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if num_labels < 2:
            raise ValueError(f"num_labels must be at least 2, got {num_labels}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        if divergence not in DIVERGENCES:
            raise ValueError(f"divergence must be one of {', '.join(DIVERGENCES)}, got {divergence!r}")
        if smoothing not in SMOOTHINGS:
            raise ValueError(f"smoothing must be one of {', '.join(SMOOTHINGS)}, got {smoothing!r}")
        if smoothing == "wrong_classes" and label_smoothing * num_labels > num_labels - 1:
            raise ValueError(
                f"label_smoothing must be at most (K - 1) / K = {(num_labels - 1) / num_labels:.4g} with "
                f"smoothing='wrong_classes', or a wrong class would outweigh the right one; got {label_smoothing}"
            )
        if class_weights is not None and class_weights.shape != (num_labels,):
            raise ValueError(f"class_weights must have shape ({num_labels},), got {tuple(class_weights.shape)}")
        if class_weights is not None and not (class_weights >= 0).all():
            raise ValueError(f"class_weights must be at least 0, got {class_weights.min()}")

        self.num_labels = num_labels
        self.label_smoothing = label_smoothing
        self.schedule = alpha if callable(alpha) else Exponential(alpha, gamma)
        self.divergence = divergence
        self.smoothing = smoothing
        self.ignore_index = ignore_index
        self.residual_matrix = nn.Parameter(torch.zeros(num_labels, num_labels))  # S
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.set_epoch(0)
        if num_labels == 2 and self.alpha:
            warnings.warn("With 2 classes the residual label has one entry, and every KR term is 0", stacklevel=2)

    def set_epoch(self, epoch: float) -> None:
        """Sets alpha for what follows, from the epochs completed: 0 in the first; fractions are allowed."""
        alpha = self.schedule(epoch)
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"alpha must be at least 0 and finite, got {alpha} in epoch {epoch}")
        self.alpha = alpha

    def forward(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None) -> Tensor:
        """The total loss, Eq. 9 (Eq. 13 with label smoothing), a scalar.

        Args:
            logits: (N, K), or (..., K) with a label for each row, as (batch, seq_len, K) in token classification.
            labels: (N,) or (...), whole numbers in 0..K-1, or `ignore_index`.
            num_items: what the sum over the rows is divided by; by default the labels that count, and with
                `class_weights` their weights. Give the count of the whole batch where gradients are accumulated.

        Raises:
            ValueError: shapes or labels that do not fit. On an accelerator a label out of range is left to the device's
                own assertion, since looking at it would stall the queue.
        """
        return self.parts(logits, labels, num_items).total

    def parts(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None) -> KRLossParts:
        """The terms of the loss, one by one; arguments as for `forward`."""
        logits, labels = self._flatten(logits, labels)
        weights = self._weights(labels, logits.dtype)
        if num_items is None:
            num_items = weights.sum()
        log_p, log_q = self._log_residuals(logits, labels)
        if self.divergence == "label_first":
            update = kl_divergence(log_p.detach(), log_q)
            residual = kl_divergence(log_q.detach(), log_p)
        else:
            update = kl_divergence(log_q, log_p.detach())  # Eq. 6
            residual = kl_divergence(log_p, log_q.detach())  # Eq. 7

        hard = self._hard_sum(logits, labels) / num_items
        residual = (weights * residual).sum() / num_items
        update = (weights * update).sum() / num_items
        total = hard + self.alpha * (residual + update) if self.alpha else hard  # Eqs. 9, 13; 0 * inf would be nan
        return KRLossParts(hard, residual, update, total)

    def count(self, labels: Tensor) -> Tensor:
        """What the sum over `labels` is divided by: how many count, or with `class_weights` their weights; a scalar."""
        return self._weights(labels.long(), torch.float32).sum()

    def residual_labels(self) -> Tensor:
        """(K, K): row k is q_res of class k, Eq. 5: softmax over the wrong classes, and 0 for class k itself."""
        own_class = torch.eye(self.num_labels, dtype=torch.bool, device=self.residual_matrix.device)
        return self.residual_matrix.detach().masked_fill(own_class, -torch.inf).softmax(dim=1)

    @torch.no_grad()
    def js_divergence(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None) -> Tensor:
        """D_JS(p_res || q_res) in nats, the mean over the rows, a scalar: Fig. 4; arguments as for `forward`."""
        logits, labels = self._flatten(logits, labels)
        weights = self._weights(labels, logits.dtype)
        if num_items is None:
            num_items = weights.sum()
        log_p, log_q = self._log_residuals(logits, labels)
        log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
        divergence = (kl_divergence(log_p, log_mean) + kl_divergence(log_q, log_mean)) / 2
        return (weights * divergence).sum() / num_items

    def settings(self) -> dict[str, object]:
        """The settings by name, in values that JSON can hold; the schedule of alpha as text."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {
            "num_labels": self.num_labels,
            "label_smoothing": self.label_smoothing,
            "alpha": repr(self.schedule),
            "divergence": self.divergence,
            "smoothing": self.smoothing,
            "class_weights": weights,
            "ignore_index": self.ignore_index,
        }

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        return ", ".join(f"{name}={value}" for name, value in self.settings().items())

    def _flatten(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One row a label: logits (N, K), in float32 or wider and 0 where the label is ignored, and labels (N,)."""
        if logits.shape[-1:] != (self.num_labels,):
            raise ValueError(
                f"logits must have num_labels = {self.num_labels} columns, got shape {tuple(logits.shape)}"
            )
        if labels.shape != logits.shape[:-1]:
            raise ValueError(f"labels must have shape {tuple(logits.shape[:-1])}, got {tuple(labels.shape)}")
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"labels must be whole numbers, got {labels.dtype}")
        labels = labels.reshape(-1).long()
        ignored = labels == self.ignore_index
        if labels.device.type == "cpu" and not torch.compiler.is_compiling():
            wrong = labels[~ignored & ((labels < 0) | (labels >= self.num_labels))]
            if len(wrong):
                rule = f"labels must be in 0..{self.num_labels - 1}, or {self.ignore_index} to be ignored"
                raise ValueError(f"{rule}, got {wrong[0].item()}")
        logits = logits.reshape(-1, self.num_labels).to(torch.promote_types(logits.dtype, torch.float32))
        return logits.masked_fill(ignored[:, None], 0.0), labels

    def _weights(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """In the shape of `labels`: what each row counts, 0 where its label is ignored."""
        ignored = labels == self.ignore_index
        if self.class_weights is None:
            return (~ignored).to(dtype)
        return self.class_weights.to(dtype)[labels.masked_fill(ignored, 0)].masked_fill(ignored, 0.0)

    def _log_residuals(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Log p_res (Eq. 4) and log q_res (Eq. 5), (N, K - 1) each: the label's own column is left out."""
        labels = labels.masked_fill(labels == self.ignore_index, 0)
        wrong_classes = torch.arange(self.num_labels - 1, device=labels.device).expand(len(labels), -1)
        wrong_classes = wrong_classes + (wrong_classes >= labels[:, None])  # (N, K - 1)
        log_p = logits.gather(1, wrong_classes).log_softmax(dim=1)
        rows_of_s = self.residual_matrix.to(logits.dtype)[labels]
        log_q = rows_of_s.gather(1, wrong_classes).log_softmax(dim=1)
        return log_p, log_q

    def _hard_sum(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The cross-entropy with the hard or smooth label, summed over the rows that count."""
        spread = self.label_smoothing  # over all K classes
        if self.smoothing == "wrong_classes":
            spread = spread * self.num_labels / (self.num_labels - 1)  # leaves eps / (K - 1) for each wrong class
        weight = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        return F.cross_entropy(
            logits, labels, weight, ignore_index=self.ignore_index, label_smoothing=spread, reduction="sum"
        )


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """D_KL(p || q) = sum_i p_i log(p_i / q_i), in nats, along the last dimension, from the logarithms of both."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)
