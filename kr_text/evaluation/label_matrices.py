"""Label matrices of Fig. 2: class means of the predicted and the residual probabilities, by epoch."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from kr_text.formats.markdown import Number

Floats = npt.NDArray[np.float64]


class LabelMatrices(TypedDict):
    """Class means over the validation rows after an epoch, (K, K); row k is for true class k.

    Attributes:
        epoch: Number of epochs trained.
        soft: Mean class probabilities.
        residual: Mean residual probabilities p_res, i.e. probabilities over the wrong classes.
        learned: Residual labels q_res that the loss has learned so far; None if the loss learns none.
        js_divergence: Mean over the rows of D_JS(p_res || q_res), in nats, where q_res is the row of `learned` for the
            true class, or of `residual` if the loss learns none.
    """

    epoch: float
    soft: list[list[float]]
    residual: list[list[float]]
    learned: list[list[float]] | None
    js_divergence: Number


def label_matrices(
    logits: Floats, labels: npt.NDArray[np.int64], learned: Floats | None, epoch: float
) -> LabelMatrices:
    """Label matrices of `logits` (N, K) with `labels` (N,), next to the `learned` residual labels (K, K)."""
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
    """Residual probabilities p_res (Eq. 4), (N, K): softmax over the wrong classes, 0 for the true class."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(softmax(others, axis=1))


def class_means(x: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Class means (K, K): row k is the mean of the rows of x (N, K) with label k, nan if there are none."""
    one_hot = np.eye(x.shape[1])[labels]  # (N, K)
    with np.errstate(invalid="ignore"):
        return np.asarray((one_hot.T @ x) / one_hot.sum(axis=0)[:, None])


def js_divergence(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence D_JS(p || q) of each row of p and q (N, K), in nats, (N,); at most log 2."""
    mean = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / mean), 0) + np.where(q > 0, q * np.log(q / mean), 0)
    return np.asarray(terms.sum(axis=1) / 2)


def rounded(matrix: Floats) -> list[list[float]]:
    """Nested lists of a matrix, rounded to five decimals."""
    rows: list[list[float]] = matrix.round(5).tolist()
    return rows
