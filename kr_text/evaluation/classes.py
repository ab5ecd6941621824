"""What a classifier gets right and wrong: precision, recall and F1 of each class, and its most confident mistakes."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from kr_text.evaluation.checks import Integers, checked_predictions


class ClassMetrics(TypedDict):
    """Metrics of one class; None for a quotient 0 / 0, where scikit-learn warns and takes 0.

    Attributes:
        name: Name of the class.
        support: Number of rows of the class.
        precision: Share of the rows predicted as the class that belong to it, in [0, 1].
        recall: Share of the rows of the class that are predicted as the class, in [0, 1].
        f1: 2 TP / (2 TP + FP + FN), in [0, 1]; 0 for a class that is a label but never a prediction.
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_metrics(confusion_matrix: npt.ArrayLike, names: Sequence[str]) -> list[ClassMetrics]:
    """Metrics of each class.

    Args:
        confusion_matrix: (K, K), number of rows by true class (row) and predicted class (column).
        names: K names.

    >>> class_metrics([[3, 1], [0, 2]], ["cat", "dog"])[0]
    {'name': 'cat', 'support': 4, 'precision': 1.0, 'recall': 0.75, 'f1': 0.8571428571428571}
    """
    counts = np.asarray(confusion_matrix)
    right, support, predicted = (x.tolist() for x in (np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)))
    return [
        {
            "name": name,
            "support": support[k],
            "precision": _quotient(right[k], predicted[k]),
            "recall": _quotient(right[k], support[k]),
            "f1": _quotient(2 * right[k], support[k] + predicted[k]),
        }
        for k, name in enumerate(names)
    ]


def _quotient(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def most_confident_mistakes(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_rows: int) -> Integers:
    """Numbers of at most `num_rows` wrongly predicted rows, the most confident first.

    Args:
        probabilities: (N, K), class probabilities.
        labels: (N,), the true classes.
        num_rows: Maximum number of rows.
    """
    probabilities, labels = checked_predictions(probabilities, labels)
    (wrong,) = np.nonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")[:num_rows]]
