"""What a classifier makes of each class on average, by epoch: the soft and residual label matrices of Fig. 2."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from kr_text.formats.markdown import Number

Floats = npt.NDArray[np.float64]


class LabelMatrices(TypedDict):
    """Class means on the validation rows after an epoch, (K, K), row = true class.

    Attributes:
        soft: of the probabilities.
        residual: of the probabilities over the wrong classes, p_res.
        learned: the residual labels q_res at that time; None for a loss that learns none.
        js_divergence: D_JS(p_res || q_res), mean over the rows, in nats; q_res is `residual` where none is learned.
    """

    epoch: float
    soft: list[list[float]]
    residual: list[list[float]]
    learned: list[list[float]] | None
    js_divergence: Number


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
