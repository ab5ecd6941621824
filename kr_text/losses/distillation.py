"""Two methods that take a second network: knowledge distillation (KD), and deep mutual learning (DML)."""

import torch.nn.functional as F
from torch import Tensor

from kr_text.losses.closed_form import widen
from kr_text.losses.label_softening import SofteningLoss, divergence


class DistillationLoss(SofteningLoss):
    """Cross-entropy and what a trained teacher says: (1 - weight) * CE + weight * T^2 * KL(teacher_T || p_T).

    Hinton, Vinyals and Dean: Distilling the Knowledge in a Neural Network (NIPS workshop 2014, arXiv 1503.02531), as
    Eq. 1 of the paper on Knowledge Refinery has it. Both distributions are softmax(logits / T); the teacher gets no
    gradient. Neither paper gives the numbers for such a comparison (Hinton: T from 1 to 20, most of the weight on
    the teacher), so that the defaults are those in common use since.

    Args:
        num_labels: K, the number of classes.
        temperature: T, above 0.
        weight: of the teacher, in [0, 1].
    """

    needs_teacher = True

    def __init__(self, num_labels: int, *, temperature: float = 4.0, weight: float = 0.9) -> None:
        super().__init__(num_labels, temperature=temperature, weight=weight)
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must be in [0, 1], got {weight}")
        self.temperature, self.weight = temperature, weight

    def forward(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        """The loss, a scalar, with a teacher's logits (N, K) for the same rows."""
        z, teacher = widen(logits), widen(teacher_logits.detach())
        temperature = self.temperature
        log_p, log_teacher = (z / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
        soft = divergence(log_teacher, log_p).mean()
        return (1 - self.weight) * F.cross_entropy(z, labels) + self.weight * temperature**2 * soft


class MutualLoss(SofteningLoss):
    """Two networks that learn from the labels and from each other: CE(p1) + KL(p2 || p1) + CE(p2) + KL(p1 || p2).

    Zhang et al.: Deep Mutual Learning (CVPR 2018), for two networks; there are no settings. Each is drawn to what the
    other says, which is detached. The paper updates them in turn, the second against what the first says after its
    update; here both move in one step, from the same predictions, as is common. The sum of both losses gives each
    network the gradient of its own.
    """

    needs_peer = True

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels)

    def forward(self, logits: Tensor, labels: Tensor, peer_logits: Tensor) -> Tensor:
        """The sum of both networks' losses, a scalar."""
        log_p1, log_p2 = widen(logits).log_softmax(1), widen(peer_logits).log_softmax(1)
        first = F.nll_loss(log_p1, labels) + divergence(log_p2.detach(), log_p1).mean()
        second = F.nll_loss(log_p2, labels) + divergence(log_p1.detach(), log_p2).mean()
        return first + second
