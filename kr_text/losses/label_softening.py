"""The losses that Knowledge Refinery is compared with, each from its own paper.

Each is called as `criterion(logits, labels)`, with logits (N, K) and labels (N,) in 0..K-1, and gives the mean over the
rows, in nats, computed in float32 or wider. PyTorch is the only import.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kr_text.losses.closed_form import sum_by_class, widen
from kr_text.ranges import in_range


class SofteningLoss(nn.Module):
    """What a trainer must know of a loss: what it is called with, and what to tell it when.

    After logits and labels comes the tensor that the loss needs, if any: the features (N, F), the input of the model's
    last linear layer; the logits of a trained teacher (N, K); those of a peer (N, K), trained beside the model.
    """

    needs_features = False
    needs_teacher = False
    needs_peer = False

    def __init__(self, num_labels: int, **settings: object) -> None:
        super().__init__()
        if num_labels < 2:
            raise ValueError(f"num_labels must be at least 2, got {num_labels}")
        self.num_labels = num_labels
        self._settings = {"num_labels": num_labels, **settings}

    def begin(self) -> None:
        """Says that a training begins, maybe after one that was stopped; most losses have no use for it."""

    def set_epoch(self, epoch: float) -> None:
        """Says how many epochs are completed, before each step; most losses have no use for it."""

    def end_epoch(self) -> None:
        """Says that all rows have been seen once more; most losses have no use for it."""

    def settings(self) -> dict[str, object]:
        """The settings by name, in values that JSON can hold; a schedule as text."""
        return dict(self._settings)

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        return ", ".join(f"{name}={value}" for name, value in self.settings().items())


class OnlineLabelSmoothing(SofteningLoss):
    """Label smoothing with what the network said of a class in the epoch before: alpha * hard + (1 - alpha) * soft.

    Zhang et al.: Delving Deep into Label Smoothing (IEEE TIP 2021). `hard` is the cross-entropy with the label, `soft`
    that with the soft label of its class. Soft labels are uniform in the first epoch (the authors' program has none
    then), and later the class means of the softmax over those rows of the last epoch that were classified correctly, as
    they were when trained on. A class without such a row gets the uniform label again, as in that program.

    Call `end_epoch` after each epoch. In `eval` mode no rows are counted. The default of alpha is the paper's.

    Args:
        num_labels: K, the number of classes.
        alpha: the weight of the hard label, in [0, 1].
    """

    soft_labels: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, num_labels: int, *, alpha: float = 0.5) -> None:
        super().__init__(num_labels, alpha=alpha)
        self.alpha = in_range("alpha", alpha, 0, 1)
        self.register_buffer("soft_labels", torch.full((num_labels, num_labels), 1 / num_labels))
        self.register_buffer("sums", torch.zeros(num_labels, num_labels))
        self.register_buffer("counts", torch.zeros(num_labels))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar; in training the rows are counted for the next epoch."""
        log_p = widen(logits).log_softmax(1)
        if self.training:
            self._count(log_p.detach(), labels)
        soft = _cross_entropy(self.soft_labels[labels], log_p)
        return self.alpha * F.nll_loss(log_p, labels) + (1 - self.alpha) * soft

    def _count(self, log_p: Tensor, labels: Tensor) -> None:
        correct = (log_p.argmax(1) == labels).to(self.counts.dtype)
        self.sums += sum_by_class(log_p.exp().to(self.sums.dtype) * correct[:, None], labels)
        self.counts.index_add_(0, labels, correct)

    def begin(self) -> None:
        """Starts to count anew."""
        self.sums.zero_()
        self.counts.zero_()

    def end_epoch(self) -> None:
        """Makes soft labels of the epoch's rows, and starts to count anew."""
        counts = self.counts[:, None]
        self.soft_labels.copy_(torch.where(counts > 0, self.sums / counts.clamp(min=1), 1 / self.num_labels))
        self.begin()


class LabelSmoothingPlusPlus(SofteningLoss):
    """Label smoothing over the wrong classes by a learned distribution C_k: (CE(y, p) + CE(p, y)) / 2.

    Chhabra, Venkateswara and Li: Label Smoothing++: Enhanced Label Regularization for Training Neural Networks (BMVC
    2024, arXiv 2509.05307). The label of class k is y = (1 - alpha) * one-hot + alpha * C_k, and C_k a softmax over the
    wrong classes, uniform at the start. CE(y, p), with y detached, moves the network; CE(p, y), with p detached, moves
    `c_matrix`. The half and the default of alpha are those of the authors' program, which adds 1e-6 under each
    logarithm; here nothing is added. How C is stepped is left to its optimizer: in that program, to the network's.

    Args:
        num_labels: K, the number of classes.
        alpha: the share of the wrong classes, in (0, 1).
    """

    def __init__(self, num_labels: int, *, alpha: float = 0.1) -> None:
        super().__init__(num_labels, alpha=alpha)
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {alpha}")
        self.alpha = alpha
        self.c_matrix = nn.Parameter(torch.zeros(num_labels, num_labels))  # logits; a class's own has no part

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        log_p = widen(logits).log_softmax(1)
        log_c = log_residual(widen(self.c_matrix)[labels], labels)
        log_y = (log_c + math.log(self.alpha)).scatter(1, labels[:, None], math.log(1 - self.alpha))
        return (_cross_entropy(log_y.detach().exp(), log_p) + _cross_entropy(log_p.detach().exp(), log_y)) / 2


class ConfidencePenalty(SofteningLoss):
    """Cross-entropy less the entropy of the prediction: CE - beta * H(p).

    Pereyra et al.: Regularizing Neural Networks by Penalizing Confident Output Distributions (ICLR 2017 workshop),
    Sec. 3. The paper searches beta for each task: 0.1 for CIFAR-10, which is the default, 1.0 for MNIST, 2.0 for Penn
    Treebank, 2.5 for translation. Its annealed beta and its threshold on H, which it hardly uses, are left out.

    Args:
        num_labels: K, the number of classes.
        beta: the weight of the entropy, at least 0.
    """

    def __init__(self, num_labels: int, *, beta: float = 0.1) -> None:
        super().__init__(num_labels, beta=beta)
        self.beta = in_range("beta", beta, 0)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        log_p = widen(logits).log_softmax(1)
        return F.nll_loss(log_p, labels) - self.beta * _cross_entropy(log_p.exp(), log_p)


class TeacherFreeKD(SofteningLoss):
    """Distillation from a virtual teacher (Tf-KD_reg): (1 - alpha) * CE + alpha * KL(teacher || p).

    Yuan et al.: Revisiting Knowledge Distillation via Label Smoothing Regularization (CVPR 2020), Eqs. 8 and 9, with
    the settings for ImageNet. The teacher gives `correct` to the right class and the rest evenly to the others, and is
    softened by tau. Eq. 9 softens the student too, which at tau = 20 leaves next to no gradient. Here both are as in
    the authors' program: the student is not softened, and the teacher is softmax(probabilities / tau), which is flatter
    than in their Fig. 3, and makes the method nearly label smoothing by alpha. That program takes the mean over the
    classes too, and multiplies it by 100 where there are 100 classes; here it is their sum for any K.

    Args:
        num_labels: K, the number of classes.
        alpha: the weight of the teacher, in [0, 1].
        tau: the teacher's temperature, above 0.
        correct: the teacher's probability of the right class, in [0, 1], before it is softened.
    """

    log_teacher: Tensor

    def __init__(self, num_labels: int, *, alpha: float = 0.1, tau: float = 20.0, correct: float = 0.99) -> None:
        super().__init__(num_labels, alpha=alpha, tau=tau, correct=correct)
        self.alpha = in_range("alpha", alpha, 0, 1)
        if not tau > 0:
            raise ValueError(f"tau must be above 0, got {tau}")
        in_range("correct", correct, 0, 1)
        teacher = torch.full((num_labels, num_labels), (1 - correct) / (num_labels - 1)).fill_diagonal_(correct)
        self.register_buffer("log_teacher", (teacher / tau).log_softmax(1), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        log_p = widen(logits).log_softmax(1)
        soft = divergence(self.log_teacher[labels], log_p).mean()
        return (1 - self.alpha) * F.nll_loss(log_p, labels) + self.alpha * soft


class LabelConfusion(SofteningLoss):
    """A label for each text from how near the text is to each label: KL(y || p), y = softmax(alpha * one-hot + c).

    Guo et al.: Label Confusion Learning to Enhance Text Classification Models (AAAI 2021). The label confusion
    distribution c = softmax(W V x + b) comes from the features x of the text and the representations V of the labels,
    which are embeddings behind a dense layer with tanh. As in the authors' program, gradients flow through y too: into
    these layers, and through x into the network. The default of alpha is theirs; embeddings are as wide as the
    features, as in their LSTM, and start as in Keras, which they use. Their LSTM goes back to cross-entropy for the
    last 10 of 40 epochs; here the method stays on.

    Args:
        num_labels: K, the number of classes.
        num_features: F, the width of the features.
        alpha: how much the label counts beside the confusion, at least 0.
    """

    needs_features = True

    def __init__(self, num_labels: int, *, num_features: int, alpha: float = 4.0) -> None:
        super().__init__(num_labels, num_features=num_features, alpha=alpha)
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        self.alpha = in_range("alpha", alpha, 0)
        self.label_embedding = nn.Parameter(torch.empty(num_labels, num_features).uniform_(-0.05, 0.05))
        self.label_layer = nn.Linear(num_features, num_features)
        self.confusion_layer = nn.Linear(num_labels, num_labels)
        for layer in (self.label_layer, self.confusion_layer):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """The loss, a scalar, of texts with these features (N, F)."""
        with torch.autocast(logits.device.type, enabled=False):
            represented = self.label_layer(self.label_embedding).tanh()  # (K, F)
            confusion = self.confusion_layer(features.to(represented.dtype) @ represented.T).softmax(1)  # (N, K)
            log_y = (self.alpha * F.one_hot(labels, self.num_labels) + confusion).log_softmax(1)
            return divergence(log_y, widen(logits).log_softmax(1)).mean()


SOFTENING_LOSSES: dict[str, type[SofteningLoss]] = {
    "ols": OnlineLabelSmoothing,
    "ls++": LabelSmoothingPlusPlus,
    "cp": ConfidencePenalty,
    "tf-kd": TeacherFreeKD,
    "lcm": LabelConfusion,
}


def log_residual(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, K): the log-softmax over the wrong classes; in each row's own column the least number there is."""
    return logits.scatter(1, labels[:, None], torch.finfo(logits.dtype).min).log_softmax(1)


def _cross_entropy(label: Tensor, log_prediction: Tensor) -> Tensor:
    """The mean over the rows of CE(label, prediction), a scalar."""
    return -(label * log_prediction).sum(1).mean()


def divergence(log_label: Tensor, log_prediction: Tensor) -> Tensor:
    """(N,): KL(label || prediction) of each row."""
    return (log_label.exp() * (log_label - log_prediction)).sum(1)
