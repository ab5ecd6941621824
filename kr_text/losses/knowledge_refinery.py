"""Knowledge Refinery: classification against a hard label and a residual label that is learned on the way.

Ding et al.: Knowledge Refinery: Learning from Decoupled Label (AAAI 2021). Equation numbers are the paper's;
docs/paper.md says how its slips are read. PyTorch is the only import.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kr_text.losses.closed_form import Label, Terms, divisor, kr_terms, sum_by_class, with_gradient
from kr_text.losses.schedules import Exponential, Schedule, schedule_text

DIVERGENCES = ("label_first", "as_printed")
SMOOTHINGS = ("uniform", "wrong_classes")


class KRLossParts(NamedTuple):
    """The terms of the loss, scalars in nats; `total` is what is minimised, and `js_divergence` is Fig. 4's."""

    hard: Tensor
    residual: Tensor
    update: Tensor
    total: Tensor
    js_divergence: Tensor


class _Values(NamedTuple):
    hard: Tensor
    residual: Tensor
    update: Tensor
    js_divergence: Tensor


class _Pulls(NamedTuple):
    hard: Tensor  # (N, K), by the logits
    residual: Tensor  # (N, K), by the logits
    update: Tensor  # (K, K), by S


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
            weight (see `kr_text.losses.schedules`), in which case `gamma` has no part.
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
        class_weights: Tensor | Sequence[float] | None = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if class_weights is not None:
            class_weights = torch.as_tensor(class_weights)
            class_weights = class_weights if class_weights.is_floating_point() else class_weights.float()
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
        self.own_class: Tensor  # (K, K): what a residual label leaves out
        self.register_buffer("own_class", torch.eye(num_labels, dtype=torch.bool), persistent=False)
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
        if self._as_printed:
            return self.parts(logits, labels, num_items).total
        with torch.no_grad():
            terms, num_items = self._terms(logits, labels, num_items)
            if not self.alpha:  # 0 * inf would be nan
                total, logit_pull, matrix, pull, by_row = terms.hard, terms.hard_pull, None, None, None
            else:
                gap, matrix = terms.take_gap(), self.residual_matrix
                pull, by_row = gap, terms.labels
                if terms.by_class:
                    pull, by_row = sum_by_class(gap, terms.labels, terms.dim), None
                total = torch.add(terms.hard, terms.both_ways(gap, pull), alpha=self.alpha)  # Eqs. 9, 13
                logit_pull = terms.hard_pull.sub_(gap, alpha=self.alpha)
            logit_pull = terms.by_row(logit_pull)
        return with_gradient(total, num_items, logits, logit_pull, matrix, pull, by_row, self.alpha)

    def parts(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None) -> KRLossParts:
        """The terms of the loss, one by one, and D_JS(p_res || q_res); arguments as for `forward`."""
        values, pulls, num_items = self._values_and_pulls(logits, labels, num_items)
        hard = with_gradient(values.hard, num_items, logits, pulls.hard)
        residual = with_gradient(values.residual, num_items, logits, pulls.residual)
        update = with_gradient(values.update, num_items, None, None, self.residual_matrix, pulls.update)
        total = hard + self.alpha * (residual + update) if self.alpha else hard
        return KRLossParts(hard, residual, update, total, values.js_divergence / num_items)

    def training_step(
        self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The total loss for the network alone, and with it what else a step of training needs.

        For loops that scale, average or clip the gradients of the network, and leave that of `residual_matrix` alone.
        Arguments as for `forward`.

        Returns:
            The loss, whose backward pass moves the logits only; the gradient (K, K) of `residual_matrix`, which is not
            added to its `grad`; and (4,) `hard`, `residual`, `update` and `js_divergence` of `parts`, without gradient.
        """
        values, pulls, num_items = self._values_and_pulls(logits, labels, num_items)
        with torch.no_grad():
            per_item = divisor(num_items)
            terms = torch.stack((values.hard, values.residual, values.update, values.js_divergence)) / per_item
            total, pull = values.hard, pulls.hard
            if self.alpha:
                total = torch.add(total, values.residual + values.update, alpha=self.alpha)
                pull = pull.add_(pulls.residual, alpha=self.alpha)
            gradient = pulls.update.mul_(-self.alpha).div_(per_item)
        return with_gradient(total, num_items, logits, pull), gradient.to(self.residual_matrix.dtype), terms

    def count(self, labels: Tensor) -> Tensor:
        """What the sum over `labels` is divided by: how many count, or with `class_weights` their weights; a scalar."""
        labels = labels.long()
        keep = (labels != self.ignore_index).float()
        if self.class_weights is None:
            return keep.sum()
        if self._sees(labels):
            self._check_range(labels)
        return (self.class_weights[labels * keep.long()] * keep).sum()

    def residual_labels(self) -> Tensor:
        """(K, K): row k is q_res of class k, Eq. 5: softmax over the wrong classes, and 0 for class k itself."""
        return self.residual_matrix.detach().masked_fill(self.own_class, -torch.inf).softmax(dim=1)

    def settings(self) -> dict[str, object]:
        """The settings by name, in values that JSON can hold; the schedule of alpha as text."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {
            "num_labels": self.num_labels,
            "label_smoothing": self.label_smoothing,
            "alpha": schedule_text(self.schedule),
            "divergence": self.divergence,
            "smoothing": self.smoothing,
            "class_weights": weights,
            "ignore_index": self.ignore_index,
        }

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        return ", ".join(f"{name}={value}" for name, value in self.settings().items())

    @property
    def _as_printed(self) -> bool:
        return self.divergence == "as_printed"

    def _values_and_pulls(
        self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None
    ) -> tuple["_Values", "_Pulls", Tensor | int]:
        """The terms summed over the rows, minus their gradients, and what both are divided by."""
        with torch.no_grad():
            terms, num_items = self._terms(logits, labels, num_items)
            log_ratio = terms.log_ratio()
            p_to_q, q_to_p, js_divergence = terms.divergences(log_ratio)
            if self._as_printed:  # Eqs. 6, 7
                values = _Values(terms.hard, p_to_q, q_to_p, js_divergence)
                residual, update = terms.p_to_q_pull(log_ratio), terms.q_to_p_pull(log_ratio)
            else:
                values = _Values(terms.hard, q_to_p, p_to_q, js_divergence)
                update = terms.take_gap()
                residual = -update
            of_matrix = sum_by_class(update, terms.labels, terms.dim)
            pulls = _Pulls(terms.by_row(terms.hard_pull), terms.by_row(residual), of_matrix)
            return values, pulls, num_items

    def _terms(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None) -> tuple[Terms, Tensor | int]:
        """What the terms are made of, and what their sums over the rows are divided by."""
        logits, labels, keep = self._flatten(logits, labels)
        weights = self._weights(labels, keep)
        if weights is not None:
            weights = weights.to(torch.promote_types(logits.dtype, torch.float32))
        if num_items is None:
            num_items = len(labels) if weights is None else weights.sum()
        label = self._label(keep, weights)
        terms = kr_terms(logits, self.residual_matrix, self.own_class, labels, label, weights)
        return terms, num_items

    def _flatten(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """One row a label: logits (N, K), labels (N,), 0 where ignored, and `keep` (N, 1), 0 where ignored and else 1.

        `keep` is None where all rows are known to count, which is seen on a CPU only: elsewhere it would stall.
        """
        if logits.shape[-1:] != (self.num_labels,):
            raise ValueError(
                f"logits must have num_labels = {self.num_labels} columns, got shape {tuple(logits.shape)}"
            )
        if labels.shape != logits.shape[:-1]:
            raise ValueError(f"labels must have shape {tuple(logits.shape[:-1])}, got {tuple(labels.shape)}")
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"labels must be whole numbers, got {labels.dtype}")
        if logits.dim() != 2:
            logits, labels = logits.reshape(-1, self.num_labels), labels.reshape(-1)
        labels = labels.long()
        if self._sees(labels) and not self._check_range(labels):
            return logits, labels, None
        ignored = labels == self.ignore_index
        keep = (~ignored).to(torch.promote_types(logits.dtype, torch.float32))[:, None]
        return logits.masked_fill(ignored[:, None], 0.0), labels.masked_fill(ignored, 0), keep

    def _sees(self, labels: Tensor) -> bool:
        """Whether the labels can be looked at without stalling a queue, and there are any."""
        return labels.device.type == "cpu" and not torch.compiler.is_compiling() and labels.numel() > 0

    def _check_range(self, labels: Tensor) -> bool:
        """Whether some of them may be ignored ones; refuses those out of range."""
        ignore = self.ignore_index
        low, high = (bound.item() for bound in labels.aminmax())
        if low >= 0 and high < self.num_labels and not low <= ignore <= high:
            return False
        wrong = labels[(labels != ignore) & ((labels < 0) | (labels >= self.num_labels))]
        if len(wrong):
            rule = f"labels must be in 0..{self.num_labels - 1}, or {ignore} to be ignored"
            raise ValueError(f"{rule}, got {wrong[0].item()}")
        return True

    def _weights(self, labels: Tensor, keep: Tensor | None) -> Tensor | None:
        """(N, 1): what each row counts; None where that is 1 for each."""
        if self.class_weights is None:
            return keep
        weights = self.class_weights[labels, None]
        return weights if keep is None else weights.to(keep.dtype) * keep

    def _label(self, keep: Tensor | None, weights: Tensor | None) -> Label:
        """The hard or smooth label (Eq. 12); class weights come in as in `F.cross_entropy`."""
        eps = self.label_smoothing
        if self.smoothing == "wrong_classes":
            eps = eps * self.num_labels / (self.num_labels - 1)  # spread over all K, it leaves eps / (K - 1) for each
        spread = eps / self.num_labels
        if weights is None:
            return Label(sharp=1 - eps, each=spread, mass=1.0)
        kept = torch.ones_like(weights) if keep is None else keep
        if self.class_weights is None:
            return Label((1 - eps) * weights, spread * kept, weights)
        each = (spread * kept * self.class_weights).to(weights.dtype)
        return Label((1 - eps) * weights, each, (1 - eps) * weights + each.sum(1, keepdim=True))
