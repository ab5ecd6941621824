"""Two variants of Knowledge Refinery, our own, to tell which part of it does what. PyTorch is the only import.

They are called as the losses of `kr_text.losses.label_softening` are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kr_text.losses.closed_form import sum_by_class, widen
from kr_text.losses.label_softening import SofteningLoss, divergence, log_residual
from kr_text.losses.schedules import Exponential, Schedule, schedule_text
from kr_text.ranges import in_range


class _KRVariant(SofteningLoss):
    """Cross-entropy and a residual label by a weight alpha that follows the epochs, as in `kr_text.losses.KRLoss`."""

    def __init__(
        self, num_labels: int, label_smoothing: float, alpha: float | Schedule, gamma: float, **settings: object
    ) -> None:
        self.schedule = alpha if callable(alpha) else Exponential(alpha, gamma)
        super().__init__(num_labels, label_smoothing=label_smoothing, alpha=schedule_text(self.schedule), **settings)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.set_epoch(0)

    def set_epoch(self, epoch: float) -> None:
        """Sets alpha for what follows, from the epochs completed: 0 in the first; fractions are allowed."""
        self.alpha = in_range("alpha", self.schedule(epoch), 0)


class ClassMeanKR(_KRVariant):
    """Knowledge Refinery whose residual label is a running mean instead of a learned one: hard + alpha_t * KL(q || p).

    Our own variant, for comparison. p is p_res, the network's distribution over the wrong classes; q is the running
    class mean of p_res, which is what the learned residual label tends to; only the network gets a gradient. q is
    uniform at the start. A batch is trained against the mean of those before it; in training it then moves the means
    of its classes by 1 - momentum towards its own. Where gradients are accumulated, each micro-batch does.

    Args:
        num_labels: K, the number of classes.
        label_smoothing: as for `KRLoss`.
        alpha: the weight of KL(q || p) in the first epoch, or a schedule, as for `KRLoss`.
        gamma: what alpha is multiplied by after each epoch, as for `KRLoss`.
        momentum: the share of the running mean that a batch leaves, in [0, 1].
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
    ) -> None:
        super().__init__(num_labels, label_smoothing, alpha, gamma, momentum=momentum)
        self.momentum = in_range("momentum", momentum, 0, 1)
        self.register_buffer("class_means", (1 - torch.eye(num_labels)) / (num_labels - 1))  # row k is q of class k

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar; in training the means move."""
        z = widen(logits)
        log_p = log_residual(z, labels)
        log_q = self.class_means.log().clamp(min=torch.finfo(self.class_means.dtype).min)[labels]  # log 0 is -inf
        if self.training:
            self._move(log_p.detach(), labels)
        hard = F.cross_entropy(z, labels, label_smoothing=self.label_smoothing)
        return hard + self.alpha * divergence(log_q, log_p).mean()

    def _move(self, log_p: Tensor, labels: Tensor) -> None:
        p = log_p.exp().to(self.class_means.dtype)
        counts = torch.bincount(labels, minlength=self.num_labels)[:, None]
        moved = self.class_means.lerp(sum_by_class(p, labels) / counts.clamp(min=1), 1 - self.momentum)
        self.class_means.copy_(torch.where(counts > 0, moved, self.class_means))


class WeightedKR(_KRVariant):
    """Knowledge Refinery that holds to the residual label the less, the surer the network is of the right class.

    Our own variant, an ablation: hard + alpha_t * (mean of (1 - p_k) * KL(q || p) + mean of KL(p || q)), as `KRLoss`
    reads it, label first, but for the weight 1 - p_k of each row, where p_k is the probability of its right class,
    detached. KL(q || p) moves only the network, and KL(p || q), which has no weight, only `residual_matrix`. Arguments
    as for `KRLoss`.
    """

    def __init__(
        self, num_labels: int, *, label_smoothing: float = 0.0, alpha: float | Schedule = 1.0, gamma: float = 0.99
    ) -> None:
        super().__init__(num_labels, label_smoothing, alpha, gamma)
        self.residual_matrix = nn.Parameter(torch.zeros(num_labels, num_labels))  # S

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        z = widen(logits)
        log_p = log_residual(z, labels)  # Eq. 4
        log_q = log_residual(widen(self.residual_matrix)[labels], labels)  # Eq. 5
        weights = 1 - z.detach().softmax(1).gather(1, labels[:, None]).squeeze(1)
        residual = (weights * divergence(log_q.detach(), log_p)).mean()  # Eq. 7
        update = divergence(log_p.detach(), log_q).mean()  # Eq. 6
        return F.cross_entropy(z, labels, label_smoothing=self.label_smoothing) + self.alpha * (residual + update)


KR_VARIANTS: dict[str, type[SofteningLoss]] = {"kr-mean": ClassMeanKR, "kr-weighted": WeightedKR}
