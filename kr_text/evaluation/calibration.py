"""Temperature scaling: one number, fitted on validation rows, against over- and underconfidence (Guo et al. 2017)."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Floats = npt.NDArray[np.float64]
NUM_BINS = 15  # of confidence, all of one width (Guo et al. 2017)
LOG_RANGE = (-4.0, 4.0)  # of the natural logarithm of the temperature


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature T for which softmax(logits / T) has the least NLL.

    The NLL is convex in 1 / T, so there is one; it is looked for from 0.018 to 55.

    Args:
        logits: (N, K), or log-probabilities, which differ from logits by a constant for each row.
        labels: (N,), whole numbers in 0..K-1.
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    rows = np.arange(len(y))

    def nll(log_temperature: float) -> float:
        return -float(log_softmax(z * np.exp(-log_temperature), axis=1)[rows, y].mean())

    if not np.ptp(z, axis=1).any():  # every temperature is as good
        return 1.0
    return float(np.exp(minimize_scalar(nll, bounds=LOG_RANGE, method="bounded", options={"xatol": 1e-4}).x))


def at_temperature(logits: npt.ArrayLike, temperature: float) -> Floats:
    """softmax(logits / temperature), (N, K)."""
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


def reliability(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of rows of each of the bins that has rows: a reliability diagram.

    Args:
        confidence: (N,), the probability of the class that is predicted.
        correct: (N,), whether that is the right one.
    """
    c, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.bool_)
    bins = confidence_bins(c)
    return [
        (float(c[of_bin].mean()), float(right[of_bin].mean()), int(of_bin.sum()))
        for number in range(1, NUM_BINS + 1)
        if (of_bin := bins == number).any()
    ]


def confidence_bins(confidence: Floats) -> npt.NDArray[np.int64]:
    """(N,): which of 15 bins each is in, 1 to 15; bin m is ((m - 1) / 15, m / 15]."""
    return np.minimum(np.ceil(confidence * NUM_BINS), NUM_BINS).astype(np.int64)
