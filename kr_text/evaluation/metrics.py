"""Metrics of a classifier's probabilities: error, proper scores, calibration, selective risk.

Every function takes `probabilities (N, K)` and integer `labels (N,)`, raises ValueError for anything else, and computes
in float64. The predicted class is the most probable one, the lowest one at a tie; its probability is the confidence.
`evaluate_metrics.py` makes `evaluate.Metric`s of them, apart because importing `evaluate` takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from kr_text.evaluation.calibration import confidence_bins

if TYPE_CHECKING:
    from transformers import EvalPrediction

SUM_TOLERANCE = 1e-3  # leaves room for a softmax in float16

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def error_rate(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of rows whose predicted class is wrong, in % (0 to 100)."""
    wrong = _wrong(*_checked(probabilities, labels))
    return 100 * float(wrong.mean())


def macro_f1(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Unweighted mean over the classes of F1 = 2 TP / (2 TP + FP + FN), in [0, 1].

    A class that is neither the label nor the prediction of any row has no F1 and is left out of the mean, as in
    scikit-learn's `f1_score(average="macro")`. A class that is only one of the two counts as 0.
    """
    counts = _confusion(*_checked(probabilities, labels))
    true_positives = np.diag(counts)
    twice_support = counts.sum(axis=0) + counts.sum(axis=1)  # (K,) = 2 TP + FP + FN
    present = twice_support > 0
    return float((2 * true_positives[present] / twice_support[present]).mean())


def nll(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Negative log-likelihood -mean(log p[label]), in nats (0 to inf).

    One row whose true class has probability 0 makes it inf: that is its value, and nothing is clipped.
    """
    probabilities, labels = _checked(probabilities, labels)
    with np.errstate(divide="ignore"):  # log(0) = -inf is meant
        return -float(np.log(probabilities[np.arange(len(labels)), labels]).mean())


def brier_score(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Multi-class Brier score: squared distance to the one-hot label, summed over classes, mean over rows (0 to 2).

    This is Brier's own definition (1950); for two classes it is twice scikit-learn's `brier_score_loss` of one column.
    """
    probabilities, labels = _checked(probabilities, labels)
    one_hot = np.eye(probabilities.shape[1])[labels]  # (N, K)
    return float(((probabilities - one_hot) ** 2).sum(axis=1).mean())


def ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Expected calibration error of the predicted class, sum_m |B_m| / N |accuracy - confidence|, in [0, 1].

    The bins B_m are 15 of equal width, ((m - 1) / 15, m / 15] of the confidence (Guo et al. 2017, Eq. 3).
    """
    probabilities, labels = _checked(probabilities, labels)
    confidence = probabilities.max(axis=1)
    correct = ~_wrong(probabilities, labels)
    gaps = np.bincount(confidence_bins(confidence), weights=correct - confidence)  # |B_m| (accuracy - confidence)
    return float(np.abs(gaps).sum() / len(labels))


def aurc(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the risk-coverage curve, in [0, 1]: mean over k = 1..N of the error among the k most confident rows.

    Follows Geifman et al. 2019. Rows of equal confidence have no order of their own: each counts with the mean error of
    its group, which gives the mean area over all their orders, so the order of the rows does not matter.
    """
    probabilities, labels = _checked(probabilities, labels)
    wrong = _wrong(probabilities, labels)
    _, group = np.unique(-probabilities.max(axis=1), return_inverse=True)  # group 0 is the most confident
    group_size = np.bincount(group)
    group_error = np.bincount(group, weights=wrong) / group_size
    risk = np.cumsum(np.repeat(group_error, group_size)) / np.arange(1, len(wrong) + 1)  # (N,) at coverage k / N
    return float(risk.mean())


def confusion_matrix(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_labels: int) -> Integers:
    """Number of rows of each true class (row) that were given each predicted class (column), (K, K).

    Raises:
        ValueError: If `num_labels` is not the number of columns of `probabilities`.
    """
    probabilities, labels = _checked(probabilities, labels)
    if probabilities.shape[1] != num_labels:
        raise ValueError(f"probabilities must have num_labels = {num_labels} columns, got {probabilities.shape[1]}")
    return _confusion(probabilities, labels)


def classification_metrics(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """All metrics of this file under their functions' names.

    >>> classification_metrics([[1.0, 0.0], [0.5, 0.5]], [0, 1])["error_rate"]
    50.0
    """
    return {
        metric.__name__: metric(probabilities, labels) for metric in (error_rate, macro_f1, nll, brier_score, ece, aurc)
    }


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """All metrics from logits, for the HF Trainer: `Trainer(..., compute_metrics=compute_metrics)`.

    The softmax is taken in float64, where a logit some 745 below the largest gets probability 0: `nll` can then be inf.
    A model that returns more than logits gives a tuple, logits first. For the best checkpoint by error, set
    `metric_for_best_model="error_rate", greater_is_better=False`.
    """
    probabilities = softmax(only_logits(prediction.predictions), axis=-1)
    return classification_metrics(probabilities, np.asarray(prediction.label_ids))


def only_logits(predictions: Any) -> Floats:
    """The logits (N, K) of what the Trainer gives: of a tuple, they are the first."""
    return np.asarray(predictions[0] if isinstance(predictions, tuple) else predictions, dtype=np.float64)


def _wrong(probabilities: Floats, labels: Integers) -> npt.NDArray[np.bool_]:
    wrong: npt.NDArray[np.bool_] = probabilities.argmax(axis=1) != labels
    return wrong


def _confusion(probabilities: Floats, labels: Integers) -> Integers:
    num_labels = probabilities.shape[1]
    cells = labels * num_labels + probabilities.argmax(axis=1)  # (N,) cell of the flattened matrix
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)


def _checked(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Integers]:
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or len(probabilities) < 1 or probabilities.shape[1] < 2:
        raise ValueError(f"probabilities must have shape (N, K) with N >= 1 and K >= 2, got {probabilities.shape}")
    num_rows, num_labels = probabilities.shape
    if labels.shape != (num_rows,):
        raise ValueError(f"labels must have shape ({num_rows},), one for each row of probabilities, got {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got dtype {labels.dtype}")

    in_range = (probabilities >= 0) & (probabilities <= 1 + SUM_TOLERANCE)  # False for nan
    if not in_range.all():
        row, column = (int(index) for index in np.argwhere(~in_range)[0])
        raise ValueError(f"probabilities must be in [0, 1], got {probabilities[row, column]} in row {row}")
    sums = probabilities.sum(axis=1)
    row = int(np.abs(sums - 1).argmax())
    if abs(sums[row] - 1) > SUM_TOLERANCE:
        raise ValueError(f"probabilities must sum to 1 (within {SUM_TOLERANCE}), got {sums[row]} in row {row}")
    outside = (labels < 0) | (labels >= num_labels)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(f"labels must be in 0..{num_labels - 1}, got {labels[row]} in row {row}")
    return probabilities, labels.astype(np.int64)
