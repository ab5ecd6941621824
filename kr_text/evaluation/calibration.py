"""Calibration (Guo et al. 2017): expected calibration error, reliability diagram, temperature scaling."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from kr_text.evaluation.checks import Floats, Integers, checked_predictions

NUM_BINS = 15  # confidence bins of equal width, as in Guo et al.
LOG_TEMPERATURE_RANGE = (-4.0, 4.0)  # search range of log T: T from 0.018 to 55


def ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Expected calibration error of the predicted class, sum_m |B_m| / N |accuracy(B_m) - confidence(B_m)|, in [0, 1].

    Bin B_m of 15 holds the rows with confidence in ((m - 1) / 15, m / 15] (Guo et al. 2017, Eq. 3).
    """
    probabilities, labels = checked_predictions(probabilities, labels)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    gaps = np.bincount(confidence_bins(confidence), weights=correct - confidence)  # |B_m| (accuracy - confidence)
    return float(np.abs(gaps).sum() / len(labels))


class Bin(NamedTuple):
    """The rows in one confidence bin of a reliability diagram."""

    num_rows: int
    confidence: float  # sum over the rows
    num_correct: int


def reliability_bins(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Bin, ...]:
    """The 15 bins of a reliability diagram, in order of confidence, empty bins included.

    Args:
        confidence: Probability of the predicted class, (N,).
        correct: Whether the predicted class is the label, (N,).
    """
    c, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.bool_)
    numbers = confidence_bins(c)
    masks = [numbers == number for number in range(1, NUM_BINS + 1)]
    return tuple(Bin(int(mask.sum()), float(c[mask].sum()), int(right[mask].sum())) for mask in masks)


def confidence_bins(confidence: Floats) -> Integers:
    """Bin number of each confidence, (N,), from 1 to 15; bin m is ((m - 1) / 15, m / 15]."""
    return np.minimum(np.ceil(confidence * NUM_BINS), NUM_BINS).astype(np.int64)


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Temperature T that minimizes the NLL of softmax(logits / T).

    The NLL is convex in 1 / T, so it has one minimum. If all logits of every row are equal, T has no effect, and 1 is
    returned.

    Args:
        logits: Logits or log-probabilities of the validation rows, (N, K).
        labels: Integers in 0..K-1, (N,).
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    rows = np.arange(len(y))

    def nll(log_temperature: float) -> float:
        return -float(log_softmax(z * np.exp(-log_temperature), axis=1)[rows, y].mean())

    if not np.ptp(z, axis=1).any():
        return 1.0
    found = minimize_scalar(nll, bounds=LOG_TEMPERATURE_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def at_temperature(logits: npt.ArrayLike, temperature: float) -> Floats:
    """Class probabilities after temperature scaling, softmax(logits / temperature), (N, K)."""
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))
