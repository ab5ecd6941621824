"""The label-softening losses that Knowledge Refinery is compared with, each from its own paper."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kr_text.losses.closed_form import sum_by_class, widen
from kr_text.losses.divergences import kl_divergence
from kr_text.losses.residual_labels import learned_residual_labels, log_residual
from kr_text.losses.softening_loss import SofteningLoss
from kr_text.ranges import in_range, require_at_least


class OnlineLabelSmoothing(SofteningLoss):
    """Label smoothing with the mean prediction for each class in the last epoch: alpha * hard + (1 - alpha) * soft.

    Zhang et al.: Delving Deep into Label Smoothing (IEEE TIP 2021). `hard` is the cross-entropy with the label, `soft`
    the cross-entropy with the soft label of the class. In the first epoch soft labels are uniform (the authors' program
    uses none then). Later they are the class means of the softmax over the correctly classified rows of the last epoch,
    with the predictions made during training. A class without such a row gets the uniform label again, as in the
    authors' program.

    Call `end_epoch` after each epoch. In `eval` mode no rows are counted. The default of alpha is the paper's.

    Args:
        num_labels: K, the number of classes.
        alpha: Weight of the hard label, in [0, 1].
        class_weights: As in `SofteningLoss`.
    """

    soft_labels: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(
        self, num_labels: int, *, alpha: float = 0.5, class_weights: Tensor | Sequence[float] | None = None
    ) -> None:
        super().__init__(num_labels, class_weights, alpha=alpha)
        self.alpha = in_range("alpha", alpha, 0, 1)
        self.register_buffer("soft_labels", torch.full((num_labels, num_labels), 1 / num_labels))
        self.register_buffer("sums", torch.zeros(num_labels, num_labels))
        self.register_buffer("counts", torch.zeros(num_labels))

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, (N,). In training mode the rows are counted for the soft labels of the next epoch."""
        log_p = widen(logits).log_softmax(1)
        if self.training:
            self._count(log_p.detach(), labels)
        soft = _cross_entropy(self.soft_labels[labels], log_p)
        return self.alpha * F.nll_loss(log_p, labels, reduction="none") + (1 - self.alpha) * soft

    def _count(self, log_p: Tensor, labels: Tensor) -> None:
        correct = (log_p.argmax(1) == labels).to(self.counts.dtype)
        self.sums += sum_by_class(log_p.exp().to(self.sums.dtype) * correct[:, None], labels)
        self.counts.index_add_(0, labels, correct)

    def begin(self) -> None:
        """Resets the counts."""
        self.sums.zero_()
        self.counts.zero_()

    def end_epoch(self) -> None:
        """Makes the soft labels from the rows of the epoch, and resets the counts."""
        counts = self.counts[:, None]
        self.soft_labels.copy_(torch.where(counts > 0, self.sums / counts.clamp(min=1), 1 / self.num_labels))
        self.begin()


class LabelSmoothingPlusPlus(SofteningLoss):
    """Label smoothing over the wrong classes by a learned distribution C_k: (CE(y, p) + CE(p, y)) / 2.

    Chhabra, Venkateswara and Li: Label Smoothing++: Enhanced Label Regularization for Training Neural Networks (BMVC
    2024, arXiv 2509.05307). The label of class k is y = (1 - alpha) * one-hot + alpha * C_k, where C_k is a softmax
    over the wrong classes, uniform at the start. CE(y, p), with y detached, moves the network; CE(p, y), with p
    detached, moves `c_matrix`. The factor 1/2 and the default of alpha come from the authors' program, which adds 1e-6
    inside each logarithm; here nothing is added. C can have any optimizer; the authors' program uses the network's.

    Args:
        num_labels: K, the number of classes.
        alpha: Share of the wrong classes, in (0, 1).
        class_weights: As in `SofteningLoss`.
    """

    def __init__(
        self, num_labels: int, *, alpha: float = 0.1, class_weights: Tensor | Sequence[float] | None = None
    ) -> None:
        super().__init__(num_labels, class_weights, alpha=alpha)
        self.alpha = in_range("alpha", alpha, 0, 1, open_low=True, open_high=True)
        self.c_matrix = nn.Parameter(torch.zeros(num_labels, num_labels))  # logits; the diagonal is unused

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, (N,)."""
        log_p = widen(logits).log_softmax(1)
        log_c = log_residual(widen(self.c_matrix)[labels], labels)
        log_y = (log_c + math.log(self.alpha)).scatter(1, labels[:, None], math.log(1 - self.alpha))
        return (_cross_entropy(log_y.detach().exp(), log_p) + _cross_entropy(log_p.detach().exp(), log_y)) / 2

    def learned_matrix(self) -> Tensor | None:
        """(K, K): `c_matrix` without gradient."""
        return self.c_matrix.detach()

    def learned_residual_labels(self) -> Tensor | None:
        """(K, K): row k is C_k; None if `c_matrix` is frozen or still 0, as it is at the start."""
        return learned_residual_labels(self.c_matrix)


class ConfidencePenalty(SofteningLoss):
    """Cross-entropy minus the entropy of the prediction: CE - beta * H(p).

    Pereyra et al.: Regularizing Neural Networks by Penalizing Confident Output Distributions (ICLR 2017 workshop),
    Sec. 3. The paper tunes beta for each task: 0.1 for CIFAR-10, which is the default, 1.0 for MNIST, 2.0 for Penn
    Treebank, 2.5 for translation. The paper's annealing of beta and its threshold on the entropy, which it hardly uses,
    are left out.

    Args:
        num_labels: K, the number of classes.
        beta: Weight of the entropy, at least 0.
        class_weights: As in `SofteningLoss`.
    """

    def __init__(
        self, num_labels: int, *, beta: float = 0.1, class_weights: Tensor | Sequence[float] | None = None
    ) -> None:
        super().__init__(num_labels, class_weights, beta=beta)
        self.beta = in_range("beta", beta, 0)

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, (N,)."""
        log_p = widen(logits).log_softmax(1)
        return F.nll_loss(log_p, labels, reduction="none") - self.beta * _cross_entropy(log_p.exp(), log_p)


class TeacherFreeKD(SofteningLoss):
    """Distillation from a virtual teacher (Tf-KD_reg): (1 - alpha) * CE + alpha * KL(teacher || p).

    Yuan et al.: Revisiting Knowledge Distillation via Label Smoothing Regularization (CVPR 2020), Eqs. 8 and 9, with
    the settings for ImageNet. The teacher gives probability `correct` to the right class and spreads the rest evenly
    over the other classes, softened by tau. Eq. 9 softens the student too, which at tau = 20 leaves almost no gradient.
    Here both follow the authors' program: the student is not softened, and the teacher is softmax(probabilities / tau).
    That is flatter than in their Fig. 3 and nearly equals label smoothing by alpha. The program also averages over the
    classes and, for 100 classes, multiplies by 100; here the classes are summed for any K.

    Args:
        num_labels: K, the number of classes.
        alpha: Weight of the teacher, in [0, 1].
        tau: Temperature of the teacher, above 0.
        correct: Probability that the teacher gives to the right class before it is softened, in [0, 1].
        class_weights: As in `SofteningLoss`.
    """

    log_teacher: Tensor

    def __init__(
        self,
        num_labels: int,
        *,
        alpha: float = 0.1,
        tau: float = 20.0,
        correct: float = 0.99,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_labels, class_weights, alpha=alpha, tau=tau, correct=correct)
        self.alpha = in_range("alpha", alpha, 0, 1)
        in_range("tau", tau, 0, open_low=True)
        in_range("correct", correct, 0, 1)
        teacher = torch.full((num_labels, num_labels), (1 - correct) / (num_labels - 1)).fill_diagonal_(correct)
        self.register_buffer("log_teacher", (teacher / tau).log_softmax(1), persistent=False)

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, (N,)."""
        log_p = widen(logits).log_softmax(1)
        soft = kl_divergence(self.log_teacher[labels], log_p)
        return (1 - self.alpha) * F.nll_loss(log_p, labels, reduction="none") + self.alpha * soft


class LabelConfusion(SofteningLoss):
    """A soft label from the similarity of a text to each class: KL(y || p), y = softmax(alpha * one-hot + c).

    Guo et al.: Label Confusion Learning to Enhance Text Classification Models (AAAI 2021). The label confusion
    distribution is c = softmax(W V x + b), from the features x of the text and representations V of the classes, which
    are embeddings followed by a dense layer with tanh. As in the authors' program, gradients also flow through y: into
    these layers, and through x into the network. The default of alpha is theirs. Embeddings are as wide as the
    features, as in their LSTM, and are initialised as in Keras, which they use. Their LSTM returns to cross-entropy for
    the last 10 of 40 epochs; here the method stays on.

    Args:
        num_labels: K, the number of classes.
        num_features: F, the width of the features.
        alpha: Weight of the one-hot label in y, at least 0.
        class_weights: As in `SofteningLoss`.
    """

    needs_features = True

    def __init__(
        self,
        num_labels: int,
        *,
        num_features: int,
        alpha: float = 4.0,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_labels, class_weights, num_features=num_features, alpha=alpha)
        require_at_least(1, num_features=num_features)
        self.alpha = in_range("alpha", alpha, 0)
        self.label_embedding = nn.Parameter(torch.empty(num_labels, num_features).uniform_(-0.05, 0.05))
        self.label_layer = nn.Linear(num_features, num_features)
        self.confusion_layer = nn.Linear(num_labels, num_labels)
        for layer in (self.label_layer, self.confusion_layer):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def row_losses(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """The loss of each row, (N,); `features` (N, F) are those of the texts."""
        with torch.autocast(logits.device.type, enabled=False):
            represented = self.label_layer(self.label_embedding).tanh()  # (K, F)
            confusion = self.confusion_layer(features.to(represented.dtype) @ represented.T).softmax(1)  # (N, K)
            log_y = (self.alpha * F.one_hot(labels, self.num_labels) + confusion).log_softmax(1)
            return kl_divergence(log_y, widen(logits).log_softmax(1))


SOFTENING_LOSSES: dict[str, type[SofteningLoss]] = {
    "ols": OnlineLabelSmoothing,
    "ls++": LabelSmoothingPlusPlus,
    "cp": ConfidencePenalty,
    "tf-kd": TeacherFreeKD,
    "lcm": LabelConfusion,
}


def _cross_entropy(label: Tensor, log_prediction: Tensor) -> Tensor:
    """CE(label, prediction) of each row, (N,)."""
    return -(label * log_prediction).sum(1)
