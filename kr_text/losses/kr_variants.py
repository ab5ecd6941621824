"""Two variants of Knowledge Refinery, not from the paper, that show which part of the method does what."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kr_text.losses.closed_form import sum_by_class, widen
from kr_text.losses.divergences import kl_divergence
from kr_text.losses.residual_labels import learned_residual_labels, log_residual
from kr_text.losses.schedules import Schedule, alpha_at, make_schedule, schedule_text
from kr_text.losses.softening_loss import SofteningLoss
from kr_text.ranges import in_range


class _KRVariant(SofteningLoss):
    """Base class: cross-entropy and a residual term, weighted by an alpha that follows the epochs, as in `KRLoss`."""

    def __init__(
        self,
        num_labels: int,
        label_smoothing: float,
        alpha: float | Schedule,
        gamma: float,
        class_weights: Tensor | Sequence[float] | None,
        **settings: object,
    ) -> None:
        self.schedule = make_schedule(alpha, gamma)
        settings = {"label_smoothing": label_smoothing, "alpha": schedule_text(self.schedule), **settings}
        super().__init__(num_labels, class_weights, **settings)
        self.label_smoothing = in_range("label_smoothing", label_smoothing, 0, 1, open_high=True)
        self.set_epoch(0)

    def set_epoch(self, epoch: float) -> None:
        """Sets alpha for the next steps from the number of completed epochs: 0 in the first; fractions are allowed."""
        self.alpha = alpha_at(self.schedule, epoch)


class ClassMeanKR(_KRVariant):
    """Knowledge Refinery with a running mean as residual label instead of a learned one: hard + alpha_t * KL(q || p).

    p is p_res, the prediction over the wrong classes. q is the running mean of p_res over the rows of the class, to
    which a learned residual label converges, and is uniform at the start. Only the network gets a gradient. A batch is
    trained against the means of the batches before it. In training mode it then moves the mean of each of its classes
    towards the mean of the batch. With gradient accumulation, each micro-batch moves them.

    Args:
        num_labels: K, the number of classes.
        label_smoothing: As in `KRLoss`.
        alpha: Weight of KL(q || p) in the first epoch, or a schedule, as in `KRLoss`.
        gamma: Factor of alpha after each epoch, as in `KRLoss`.
        momentum: Share of the running mean that a batch keeps, in [0, 1].
        class_weights: As in `SofteningLoss`.
    """

    class_means: Tensor

    def __init__(
        self,
        num_labels: int,
        *,
        label_smoothing: float = 0.0,
        alpha: float | Schedule = 1.0,
        gamma: float = 0.99,
        momentum: float = 0.99,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_labels, label_smoothing, alpha, gamma, class_weights, momentum=momentum)
        self.momentum = in_range("momentum", momentum, 0, 1)
        self.register_buffer("class_means", _uniform(num_labels))  # row k is q of class k

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, (N,). In training mode the class means move."""
        z = widen(logits)
        log_p = log_residual(z, labels)
        log_q = self.class_means.log().clamp(min=torch.finfo(self.class_means.dtype).min)[labels]  # log 0 is -inf
        if self.training:
            self._move(log_p.detach(), labels)
        hard = F.cross_entropy(z, labels, reduction="none", label_smoothing=self.label_smoothing)
        return hard + self.alpha * kl_divergence(log_q, log_p)

    def _move(self, log_p: Tensor, labels: Tensor) -> None:
        p = log_p.exp().to(self.class_means.dtype)
        counts = torch.bincount(labels, minlength=self.num_labels)[:, None]
        moved = self.class_means.lerp(sum_by_class(p, labels) / counts.clamp(min=1), 1 - self.momentum)
        self.class_means.copy_(torch.where(counts > 0, moved, self.class_means))

    def learned_residual_labels(self) -> Tensor | None:
        """The class means, or None if they are still uniform.

        They are stored as probabilities, so `learned_matrix` is None.
        """
        means = self.class_means
        return None if torch.equal(means, _uniform(self.num_labels).to(means)) else means.clone()


class WeightedKR(_KRVariant):
    """Knowledge Refinery with a residual loss that is weaker where the network is sure of the right class.

    hard + alpha_t * ((1 - p_k) * KL(q || p) + KL(p || q)), averaged over the rows: `KRLoss`, label first, except for
    the weight 1 - p_k of each row, where p_k is the detached probability of the right class. KL(q || p) has a gradient
    w.r.t. the logits only. KL(p || q), which has no weight, has a gradient w.r.t. `residual_matrix` only. The arguments
    are those of `KRLoss`, and `class_weights` as in `SofteningLoss`.
    """

    def __init__(
        self,
        num_labels: int,
        *,
        label_smoothing: float = 0.0,
        alpha: float | Schedule = 1.0,
        gamma: float = 0.99,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_labels, label_smoothing, alpha, gamma, class_weights)
        self.residual_matrix = nn.Parameter(torch.zeros(num_labels, num_labels))  # S

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, (N,)."""
        z = widen(logits)
        log_p = log_residual(z, labels)  # Eqs. 3, 4
        log_q = log_residual(widen(self.residual_matrix)[labels], labels)  # Eq. 5
        weights = 1 - z.detach().softmax(1).gather(1, labels[:, None]).squeeze(1)
        residual = weights * kl_divergence(log_q.detach(), log_p)  # Eq. 7, label first
        update = kl_divergence(log_p.detach(), log_q)  # Eq. 6, label first
        hard = F.cross_entropy(z, labels, reduction="none", label_smoothing=self.label_smoothing)
        return hard + self.alpha * (residual + update)

    def learned_matrix(self) -> Tensor | None:
        """(K, K): `residual_matrix` without gradient."""
        return self.residual_matrix.detach()

    def learned_residual_labels(self) -> Tensor | None:
        """(K, K): q of each class, or None if `residual_matrix` is frozen or still 0, as it is at the start."""
        return learned_residual_labels(self.residual_matrix)


def _uniform(num_labels: int) -> Tensor:
    """(K, K): the uniform distribution over the classes other than each class."""
    return (1 - torch.eye(num_labels)) / (num_labels - 1)


KR_VARIANTS: dict[str, type[SofteningLoss]] = {"kr-mean": ClassMeanKR, "kr-weighted": WeightedKR}
