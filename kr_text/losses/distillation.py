"""Two losses that take the logits of a second network: knowledge distillation (KD) and deep mutual learning (DML)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from kr_text.losses.closed_form import widen
from kr_text.losses.divergences import kl_divergence
from kr_text.losses.softening_loss import SofteningLoss
from kr_text.ranges import in_range


class DistillationLoss(SofteningLoss):
    """Cross-entropy and divergence from a trained teacher: (1 - weight) * CE + weight * T^2 * KL(teacher_T || p_T).

    Hinton, Vinyals and Dean: Distilling the Knowledge in a Neural Network (NIPS workshop 2014, arXiv 1503.02531), in
    the form of Eq. 1 of the Knowledge Refinery paper. Both distributions are softmax(logits / T); the teacher gets no
    gradient. Neither paper gives the settings of such a comparison (Hinton: T from 1 to 20, most of the weight on the
    teacher), so the defaults are values in common use since then.

    Args:
        num_labels: K, the number of classes.
        temperature: T, above 0.
        weight: Weight of the teacher, in [0, 1].
        class_weights: As in `SofteningLoss`.
    """

    needs_teacher = True

    def __init__(
        self,
        num_labels: int,
        *,
        temperature: float = 4.0,
        weight: float = 0.9,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_labels, class_weights, temperature=temperature, weight=weight)
        self.temperature = in_range("temperature", temperature, 0, open_low=True)
        self.weight = in_range("weight", weight, 0, 1)

    def row_losses(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        """The loss of each row, (N,); `teacher_logits` (N, K) are the teacher's for the same rows."""
        z, teacher = widen(logits), widen(teacher_logits.detach())
        temperature = self.temperature
        log_p, log_teacher = (z / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
        soft = kl_divergence(log_teacher, log_p)
        return (1 - self.weight) * F.cross_entropy(z, labels, reduction="none") + self.weight * temperature**2 * soft


class MutualLoss(SofteningLoss):
    """Two networks learn from the labels and from each other: CE(p1) + KL(p2 || p1) + CE(p2) + KL(p1 || p2).

    Zhang et al.: Deep Mutual Learning (CVPR 2018), for two networks. Each network is pulled towards the detached
    prediction of the other. The paper updates them in turn, the second against the updated prediction of the first.
    Here both move in one step from the same predictions, as is common. The loss is the sum of both networks' losses,
    so each network gets the gradient of its own loss.

    Args:
        num_labels: K, the number of classes.
        class_weights: As in `SofteningLoss`.
    """

    needs_peer = True

    def __init__(self, num_labels: int, *, class_weights: Tensor | Sequence[float] | None = None) -> None:
        super().__init__(num_labels, class_weights)

    def row_losses(self, logits: Tensor, labels: Tensor, peer_logits: Tensor) -> Tensor:
        """The sum of both networks' losses of each row, (N,)."""
        log_p1, log_p2 = widen(logits).log_softmax(1), widen(peer_logits).log_softmax(1)
        first = F.nll_loss(log_p1, labels, reduction="none") + kl_divergence(log_p2.detach(), log_p1)
        second = F.nll_loss(log_p2, labels, reduction="none") + kl_divergence(log_p1.detach(), log_p2)
        return first + second
