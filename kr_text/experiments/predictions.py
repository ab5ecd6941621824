"""Compact storage of a run's test predictions: correctness of each row, a digest of the labels, confidence bins."""

import base64
import hashlib
from typing import NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from kr_text.evaluation.calibration import Bin, reliability_bins


class StoredPredictions(TypedDict):
    """Predictions as JSON.

    Attributes:
        num_rows: Number of test rows.
        correct: One bit per row, most significant bit first, padded with zeros to whole bytes, in base64.
        labels: Digest of the true labels.
        bins: Number of rows, sum of the confidence and number of correct rows of each confidence bin.
    """

    num_rows: int
    correct: str
    labels: str
    bins: list[tuple[int, float, int]]


class Predictions(NamedTuple):
    """Test predictions of one run, in the order of the test rows."""

    correct: npt.NDArray[np.bool_]  # (num_rows,)
    labels_digest: str  # equal for two runs only if both have the same labels in the same order
    bins: tuple[Bin, ...]  # in order of confidence, empty bins included


def compact(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> StoredPredictions:
    """Reduces class probabilities to what is stored.

    Args:
        probabilities: (num_rows, num_labels). The confidence is the largest probability of a row.
        labels: (num_rows,), in 0..num_labels - 1.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype="<i8")
    correct, confidence = p.argmax(axis=1) == y, p.max(axis=1)
    bins = reliability_bins(confidence, correct)
    return {
        "num_rows": len(y),
        "correct": base64.b64encode(np.packbits(correct).tobytes()).decode("ascii"),
        "labels": hashlib.sha256(y.tobytes()).hexdigest()[:16],
        "bins": [(each.num_rows, round(each.confidence, 4), each.num_correct) for each in bins],
    }


def expand(stored: StoredPredictions) -> Predictions:
    """Decodes the output of `compact`; the probabilities themselves are not stored."""
    packed = np.frombuffer(base64.b64decode(stored["correct"], validate=True), dtype=np.uint8)
    correct = np.unpackbits(packed, count=stored["num_rows"]).astype(np.bool_)
    return Predictions(correct, stored["labels"], tuple(Bin(*each) for each in stored["bins"]))
