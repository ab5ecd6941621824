"""Classification metrics of class probabilities: error rate, macro F1, NLL, Brier score, ECE, AURC.

Every function takes `probabilities (N, K)` and integer `labels (N,)`, raises ValueError for anything else, and computes
in float64. The predicted class is the most probable class; a tie goes to the lowest class number. Its probability is
the confidence. ECE is in `calibration.py`. `evaluate_metrics.py` wraps the functions as `evaluate.Metric`s, in a module
of its own because importing `evaluate` takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from kr_text.evaluation.calibration import ece
from kr_text.evaluation.checks import Floats, Integers, checked_predictions

if TYPE_CHECKING:
    from transformers import EvalPrediction


def error_rate(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of rows whose predicted class is wrong, in % (0 to 100)."""
    wrong = _wrong(*checked_predictions(probabilities, labels))
    return 100 * float(wrong.mean())


def macro_f1(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Macro F1: unweighted mean over the classes of F1 = 2 TP / (2 TP + FP + FN), in [0, 1].

    The mean leaves out a class that no row has as its label or its prediction, as scikit-learn's
    `f1_score(average="macro")` does. A class that is a label but never a prediction, or the reverse, has F1 = 0.
    """
    counts = _confusion(*checked_predictions(probabilities, labels))
    true_positives = np.diag(counts)
    twice_support = counts.sum(axis=0) + counts.sum(axis=1)  # (K,) = 2 TP + FP + FN
    present = twice_support > 0
    return float((2 * true_positives[present] / twice_support[present]).mean())


def nll(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Negative log-likelihood -mean(log p[label]), in nats (0 to inf).

    The value is inf if the true class of a row has probability 0; probabilities are not clipped.
    """
    probabilities, labels = checked_predictions(probabilities, labels)
    with np.errstate(divide="ignore"):  # log(0) = -inf is intended
        return -float(np.log(probabilities[np.arange(len(labels)), labels]).mean())


def brier_score(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Multi-class Brier score: squared distance to the one-hot label, summed over classes, mean over rows (0 to 2).

    This is the definition of Brier (1950). For two classes it is twice scikit-learn's binary `brier_score_loss`.
    """
    probabilities, labels = checked_predictions(probabilities, labels)
    one_hot = np.eye(probabilities.shape[1])[labels]  # (N, K)
    return float(((probabilities - one_hot) ** 2).sum(axis=1).mean())


def aurc(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the risk-coverage curve, in [0, 1]: mean over k = 1..N of the error among the k most confident rows.

    Follows Geifman et al. 2019. Rows of equal confidence each count with the mean error of their group. This gives the
    mean area over all orders of the group, so the value does not depend on the order of the rows.
    """
    probabilities, labels = checked_predictions(probabilities, labels)
    wrong = _wrong(probabilities, labels)
    _, group = np.unique(-probabilities.max(axis=1), return_inverse=True)  # group 0 is the most confident
    group_size = np.bincount(group)
    group_error = np.bincount(group, weights=wrong) / group_size
    risk = np.cumsum(np.repeat(group_error, group_size)) / np.arange(1, len(wrong) + 1)  # (N,) at coverage k / N
    return float(risk.mean())


def confusion_matrix(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_labels: int) -> Integers:
    """Confusion matrix (K, K): number of rows with each true class (row) and predicted class (column).

    Raises:
        ValueError: If `num_labels` is not the number of columns of `probabilities`.
    """
    probabilities, labels = checked_predictions(probabilities, labels)
    if probabilities.shape[1] != num_labels:
        raise ValueError(f"probabilities must have num_labels = {num_labels} columns, got {probabilities.shape[1]}")
    return _confusion(probabilities, labels)


METRICS = (error_rate, macro_f1, nll, brier_score, ece, aurc)


def classification_metrics(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """All six metrics, by function name.

    >>> classification_metrics([[1.0, 0.0], [0.5, 0.5]], [0, 1])["error_rate"]
    50.0
    """
    return {metric.__name__: metric(probabilities, labels) for metric in METRICS}


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """All six metrics of logits, for the Hugging Face Trainer: `Trainer(..., compute_metrics=compute_metrics)`.

    The softmax is computed in float64. A logit about 745 below the largest has probability 0 there, so
    `nll` can be inf.
    Predictions may be a tuple whose first entry is the logits. To keep the checkpoint with the lowest error, set
    `metric_for_best_model="error_rate", greater_is_better=False`.
    """
    probabilities = softmax(only_logits(prediction.predictions), axis=-1)
    return classification_metrics(probabilities, np.asarray(prediction.label_ids))


def only_logits(predictions: Any) -> Floats:
    """Logits (N, K) of the Trainer's predictions: the array itself, or the first entry of a tuple."""
    return np.asarray(predictions[0] if isinstance(predictions, tuple) else predictions, dtype=np.float64)


def _wrong(probabilities: Floats, labels: Integers) -> npt.NDArray[np.bool_]:
    wrong: npt.NDArray[np.bool_] = probabilities.argmax(axis=1) != labels
    return wrong


def _confusion(probabilities: Floats, labels: Integers) -> Integers:
    num_labels = probabilities.shape[1]
    cells = labels * num_labels + probabilities.argmax(axis=1)  # (N,), index in the flattened matrix
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)
