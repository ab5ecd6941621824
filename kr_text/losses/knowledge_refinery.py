"""Knowledge Refinery: cross-entropy with a residual label for each class, learned during training.

Ding et al.: Knowledge Refinery: Learning from Decoupled Label (AAAI 2021). Equation numbers are the paper's;
docs/paper.md lists errors in the paper and how this code reads them.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kr_text.losses.closed_form import divisor, fused_terms, smooth_label, widen, with_gradient
from kr_text.losses.divergences import js_divergence, kl_divergence, reverse_kl_divergence
from kr_text.losses.residual_labels import learned_residual_labels, residual_labels
from kr_text.losses.rows import Rows, can_read, check_labels, checked_weights, make_rows
from kr_text.losses.schedules import Schedule, alpha_at, make_schedule, schedule_text
from kr_text.ranges import in_range, require_at_least

DIVERGENCES = ("label_first", "as_printed")
SMOOTHINGS = ("uniform", "wrong_classes")


def kr_terms(
    logits: Tensor,
    labels: Tensor,
    residual_matrix: Tensor,
    *,
    divergence: str = "label_first",
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The terms of the loss for each row, in nats: lines 4-10 of Algorithm 1. The definition of the method.

    Args:
        logits: z, (N, K).
        labels: k of each row, (N,), int64 in 0..K-1.
        residual_matrix: S, (K, K).
        divergence: Order of the arguments in Eqs. 6 and 7, see `KRLoss`.
        label_smoothing: Share of the label that is spread evenly over all K classes.
        class_weights: (K,), factor of the terms of a row by its class.

    Returns:
        `hard`, `residual`, `update` and the Jensen-Shannon divergence of Fig. 4, each (N,).
    """
    z = widen(logits)
    s = residual_matrix.to(z.dtype).index_select(0, labels)  # (N, K): S_k
    weight = z.new_ones(z.shape[1]) if class_weights is None else class_weights.to(z.dtype)
    hard = F.cross_entropy(z, labels, reduction="none", label_smoothing=label_smoothing)  # Eqs. 12, 14
    wrong = wrong_classes(labels, z.shape[1])  # (N, K - 1)
    z_res = z.gather(1, wrong)  # Eq. 3
    s_res = s.gather(1, wrong)
    log_p_res = z_res.log_softmax(1)  # Eq. 4
    log_q_res = s_res.log_softmax(1)  # Eq. 5
    if divergence == "as_printed":
        update = reverse_kl_divergence(s_res, z_res.detach())  # Eq. 6: D_KL(q_res || p_res)
        residual = reverse_kl_divergence(z_res, s_res.detach())  # Eq. 7: D_KL(p_res || q_res)
    else:
        update = kl_divergence(log_p_res.detach(), log_q_res)  # Eq. 6, label first: D_KL(p_res || q_res)
        residual = kl_divergence(log_q_res.detach(), log_p_res)  # Eq. 7, label first: D_KL(q_res || p_res)
    js = js_divergence(log_p_res.detach(), log_q_res.detach())  # Fig. 4
    weights = weight[labels]
    return weights * hard, weights * residual, weights * update, weights * js


def wrong_classes(labels: Tensor, num_labels: int) -> Tensor:
    """(N, K - 1): the classes other than the label of each row, in order."""
    classes = torch.arange(num_labels - 1, device=labels.device)
    return classes + (classes >= labels[:, None])


def kr_total(hard: Tensor, residual: Tensor, update: Tensor, alpha: float) -> Tensor:
    """Eqs. 8, 9 and 13: hard + alpha * (residual + update); exactly `hard` for alpha = 0."""
    return torch.add(hard, residual + update, alpha=alpha) if alpha else hard  # 0 * inf would be NaN


class KRLossParts(NamedTuple):
    """Terms of the loss, scalars in nats: `total` is minimised, and `js_divergence` is D_JS(p_res || q_res), Fig. 4."""

    hard: Tensor
    residual: Tensor
    update: Tensor
    total: Tensor
    js_divergence: Tensor


class KRLoss(nn.Module):
    """Cross-entropy with a residual label for each class, learned during training (Alg. 1).

    total = hard + alpha_t * (residual + update), Eqs. 9 and 13. `hard` is the cross-entropy with the hard or the smooth
    label. `residual` pulls p_res, the prediction over the wrong classes, towards q_res, the residual label of the right
    class. `update` pulls q_res towards p_res. `residual` has a gradient with respect to the logits only, `update` by
    `residual_matrix` only. `kr_terms` defines the three terms; for "label_first" a faster closed form computes them.

    Pass `residual_matrix` to an optimizer without weight decay and with its own learning rate: 1e-2 with Adam is a good
    start. At the learning rates of fine-tuning it would hardly move.

    Args:
        num_labels: K, the number of classes.
        label_smoothing: eps in [0, 1), the share of the label that is spread evenly (0.1 in KR-LS).
        alpha: Weight of the residual terms in the first epoch, or a function from the number of completed epochs to the
            weight (see `kr_text.losses.schedules`); in that case `gamma` is ignored.
        gamma: Factor of alpha after each epoch, in [0, 1]; 0 turns the residual terms off.
        divergence: "label_first" reads every divergence as D_KL(label || prediction), the usual order; "as_printed"
            takes Eqs. 6 and 7 as printed.
        smoothing: "uniform" spreads eps over all classes, as torch does; "wrong_classes" over the wrong ones (Eq. 12).
        class_weights: (K,), factor of all terms of a row by its class. The mean divides by the sum of the rows'
            weights. Without label smoothing this is `weight` of `F.cross_entropy`. With it, torch weighs each entry of
            the smooth label by the class of the entry, so a rare class can outweigh the right one; here the row counts.
        ignore_index: Label of rows that are left out.

    Raises:
        ValueError: An argument is out of range.

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
        require_at_least(2, num_labels=num_labels)
        in_range("label_smoothing", label_smoothing, 0, 1, open_high=True)
        for name, value, known in (("divergence", divergence, DIVERGENCES), ("smoothing", smoothing, SMOOTHINGS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if smoothing == "wrong_classes" and label_smoothing * num_labels > num_labels - 1:
            raise ValueError(
                f"label_smoothing must be at most (K - 1) / K = {(num_labels - 1) / num_labels:.4g} with "
                f"smoothing='wrong_classes', or a wrong class would outweigh the right one; got {label_smoothing}"
            )
        self.num_labels = num_labels
        self.label_smoothing = label_smoothing
        self.schedule = make_schedule(alpha, gamma)
        self.divergence = divergence
        self.smoothing = smoothing
        self.ignore_index = ignore_index
        self.residual_matrix = nn.Parameter(torch.zeros(num_labels, num_labels))  # S
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", checked_weights(class_weights, num_labels), persistent=False)
        self.own_class: Tensor  # (K, K): True on the diagonal
        self.register_buffer("own_class", torch.eye(num_labels, dtype=torch.bool), persistent=False)
        self.set_epoch(0)
        if num_labels == 2 and self.alpha:
            warnings.warn("With 2 classes the residual label has one entry, and every KR term is 0", stacklevel=2)

    def set_epoch(self, epoch: float) -> None:
        """Sets alpha for the next steps from the number of completed epochs: 0 in the first; fractions are allowed."""
        self.alpha = alpha_at(self.schedule, epoch)

    def forward(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None) -> Tensor:
        """The total loss, Eq. 9 (Eq. 13 with label smoothing), a scalar.

        Args:
            logits: (N, K), or (..., K) with a label for each row, such as (batch, seq_len, K) in token classification.
            labels: (N,) or (...), integers in 0..K-1, or `ignore_index`.
            num_items: Divisor of the sum over the rows. By default the number of counted labels, or with
                `class_weights` the sum of their weights. With gradient accumulation, pass the count of the whole batch.

        Raises:
            ValueError: Shapes or labels do not fit. On an accelerator, the device itself reports a label out of range:
                reading the labels here would synchronise with it.
        """
        if self._as_printed:
            return self.parts(logits, labels, num_items).total
        fused = self._fused(logits, labels, num_items, with_js=False)
        matrix = self.residual_matrix if self.alpha else None
        return with_gradient(fused.total, fused.num_items, logits, fused.logit_gradient, matrix, fused.matrix_gradient)

    def parts(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None) -> KRLossParts:
        """The terms of the loss, from `kr_terms` and with gradients by autograd; arguments as for `forward`."""
        rows = self._rows(logits, labels)
        num_items = rows.total_weight() if num_items is None else num_items
        hard, residual, update, js = (_mean(term, num_items) for term in self._sums(rows, self.residual_matrix))
        return KRLossParts(hard, residual, update, kr_total(hard, residual, update, self.alpha), js)

    def training_step(
        self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The total loss, with a gradient w.r.t. the logits only, and the gradient of `residual_matrix` beside it.

        For training loops that scale, average or clip the gradients of the network but not that of `residual_matrix`.
        Arguments as for `forward`.

        Returns:
            The loss; the gradient (K, K) of `residual_matrix`, which is not added to its `grad`; and `hard`,
            `residual`, `update` and `js_divergence` of `parts` as one tensor (4,) without gradient.
        """
        if self._as_printed:
            return self._training_step_by_autograd(logits, labels, num_items)
        fused = self._fused(logits, labels, num_items, with_js=True)
        loss = with_gradient(fused.total, fused.num_items, logits, fused.logit_gradient)
        per_item = divisor(fused.num_items)
        gradient = fused.matrix_gradient.div_(per_item).to(self.residual_matrix.dtype)
        return loss, gradient, torch.stack(fused.terms) / per_item

    def count(self, labels: Tensor) -> Tensor:
        """Number of counted labels, or with `class_weights` the sum of their weights, a scalar: the default divisor."""
        labels = labels.long()
        keep = (labels != self.ignore_index).float()
        if self.class_weights is None:
            return keep.sum()
        if can_read(labels):
            check_labels(labels, self.num_labels, self.ignore_index)
        return (self.class_weights[labels * keep.long()] * keep).sum()

    def residual_labels(self) -> Tensor:
        """(K, K): row k is q_res of class k, Eq. 5: softmax over the wrong classes, and 0 for class k itself."""
        return residual_labels(self.residual_matrix)

    def learned_matrix(self) -> Tensor | None:
        """(K, K): `residual_matrix` without gradient."""
        return self.residual_matrix.detach()

    def learned_residual_labels(self) -> Tensor | None:
        """`residual_labels`, or None if `residual_matrix` is frozen or still 0, as it is at the start."""
        return learned_residual_labels(self.residual_matrix)

    def settings(self) -> dict[str, object]:
        """Settings by name, as JSON values; the schedule of alpha as text."""
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

    @property
    def _uniform_smoothing(self) -> float:
        """Share of the label that is spread over all K classes."""
        if self.smoothing == "uniform":
            return self.label_smoothing
        return self.label_smoothing * self.num_labels / (self.num_labels - 1)  # eps / (K - 1) for each wrong class

    def _rows(self, logits: Tensor, labels: Tensor) -> Rows:
        return make_rows(logits, labels, self.num_labels, self.ignore_index, self.class_weights)

    def _sums(self, rows: Rows, matrix: Tensor) -> list[Tensor]:
        """Sums of `kr_terms` over the counted rows, with `matrix` as S."""
        terms = kr_terms(
            rows.logits,
            rows.labels,
            matrix,
            divergence=self.divergence,
            label_smoothing=self._uniform_smoothing,
            class_weights=self.class_weights,
        )
        return [rows.sum_over_counted(term) for term in terms]

    def _training_step_by_autograd(
        self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = self._rows(logits, labels)
        num_items = rows.total_weight() if num_items is None else num_items

        def weighted_update(matrix: Tensor) -> tuple[Tensor, list[Tensor]]:
            sums = self._sums(rows, matrix)
            return self.alpha * sums[2] / divisor(num_items), sums

        gradient, sums = torch.func.grad(weighted_update, has_aux=True)(self.residual_matrix.detach())
        hard, residual, update, _ = sums
        loss = _mean(kr_total(hard, residual, update, self.alpha), num_items)
        return loss, gradient, torch.stack(sums).detach() / divisor(num_items)

    @torch.no_grad()
    def _fused(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None, *, with_js: bool) -> "_Fused":
        """Sums over the counted rows in closed form, label first."""
        rows = self._rows(logits, labels)
        label = smooth_label(rows, self._uniform_smoothing)
        fused = fused_terms(rows, label, self.residual_matrix, self.own_class, with_js=with_js)
        hard, residual, update, *_ = fused.terms
        logit_gradient = fused.hard_gradient
        if self.alpha:
            logit_gradient = logit_gradient.add_(fused.residual_gradient, alpha=self.alpha)
        return _Fused(
            total=kr_total(hard, residual, update, self.alpha),
            logit_gradient=logit_gradient,
            matrix_gradient=fused.update_gradient.mul_(self.alpha),
            terms=fused.terms,
            num_items=rows.total_weight() if num_items is None else num_items,
        )


class _Fused(NamedTuple):
    """The total, its gradients and its terms as weighted sums over the rows, and the divisor of all of them."""

    total: Tensor
    logit_gradient: Tensor  # (N, K)
    matrix_gradient: Tensor  # (K, K)
    terms: tuple[Tensor, ...]  # hard, residual, update, and with `with_js` js_divergence
    num_items: Tensor | int


def _mean(x: Tensor, num_items: Tensor | int) -> Tensor:
    """Divides by `num_items`; for no items NaN with a gradient of 0, as in `F.cross_entropy`."""
    return x / divisor(num_items) + torch.zeros_like(x) / num_items  # 0 / 0 is NaN
