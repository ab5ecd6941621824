"""What a classifier makes of each class on average, by epoch: the soft and residual label matrices of Fig. 2."""

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from transformers import EvalPrediction

from kr_text.checkpointed import Checkpointed
from kr_text.losses import KRLoss
from kr_text.metrics import compute_metrics, only_logits
from kr_text.reports import LabelMatrices
from kr_text.softening_trainer import SofteningTrainer
from kr_text.trainer import KRTrainer

Floats = npt.NDArray[np.float64]


class LabelMatrixRecorder(Checkpointed):
    """A `compute_metrics`, and a callback of the same trainer, that notes the label matrices at each evaluation.

    Attributes:
        trainer: to be set before training, since a trainer is made with its `compute_metrics`.
        matrices: one entry for each evaluation so far, before the checkpoint that training goes on from too.
    """

    def __init__(self) -> None:
        self.trainer: KRTrainer | SofteningTrainer | None = None
        self.matrices: list[LabelMatrices] = []

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """The metrics, as from `kr_text.metrics.compute_metrics`."""
        assert self.trainer is not None
        criterion, learned = self.trainer.criterion, None
        if isinstance(criterion, KRLoss) and criterion.residual_matrix.any():  # else it is not learned
            learned = criterion.residual_labels().cpu().double().numpy()
        epoch = float(self.trainer.state.epoch or 0)
        logits, labels = only_logits(prediction.predictions), np.asarray(prediction.label_ids)
        self.matrices.append(label_matrices(logits, labels, learned, epoch))
        return compute_metrics(prediction)

    def record(self) -> list[LabelMatrices]:
        """The entries."""
        return self.matrices

    def restore(self, record: list[LabelMatrices]) -> None:
        """Takes those of before."""
        self.matrices = record


def label_matrices(
    logits: Floats, labels: npt.NDArray[np.int64], learned: Floats | None, epoch: float
) -> LabelMatrices:
    """The class means of the predictions for `logits` (N, K), with `labels` (N,), beside the `learned` ones (K, K)."""
    p_res = residual_probabilities(logits, labels)
    residual = class_means(p_res, labels)
    q_res = (residual if learned is None else learned)[labels]
    return {
        "epoch": epoch,
        "soft": rounded(class_means(softmax(logits, axis=1), labels)),
        "residual": rounded(residual),
        "learned": None if learned is None else rounded(learned),
        "js_divergence": float(js_divergence(p_res, q_res).mean()),
    }


def residual_probabilities(logits: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """p_res, Eq. 4: (N, K), the softmax over the classes other than that of the row, and 0 there."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(softmax(others, axis=1))


def class_means(x: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """(K, K): row k is the mean of the rows of x (N, K) with label k; nan for a class without rows."""
    one_hot = np.eye(x.shape[1])[labels]  # (N, K)
    with np.errstate(invalid="ignore"):
        return np.asarray((one_hot.T @ x) / one_hot.sum(axis=0)[:, None])


def js_divergence(p: Floats, q: Floats) -> Floats:
    """(N,): D_JS(p || q) of each row, in nats, at most log 2."""
    mean = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / mean), 0) + np.where(q > 0, q * np.log(q / mean), 0)
    return np.asarray(terms.sum(axis=1) / 2)


def rounded(matrix: Floats) -> list[list[float]]:
    """As lists, to five decimals."""
    rows: list[list[float]] = matrix.round(5).tolist()
    return rows
