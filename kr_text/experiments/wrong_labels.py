"""Detection of wrong training labels by the probability that the trained model gives to each label."""

import csv
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from kr_text.classifier import Classifier, class_probabilities
from kr_text.data.label_noise import TRUE_LABELS_FILE
from kr_text.data.sources import load


class WrongLabels(TypedDict):
    """Quality of a ranking of the training rows by the probability of their label, least probable first.

    Attributes:
        num_rows: Number of training rows.
        num_wrong: Number of training rows with a wrong label.
        precision: Share of wrong labels among the first `num_wrong` rows; a random order has num_wrong / num_rows.
    """

    num_rows: int
    num_wrong: int
    precision: float


def precision_at_noise_rate(given: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_]) -> float:
    """Share of wrong labels among the `wrong.sum()` rows with the least probable labels; nan without wrong labels.

    Args:
        given: (N,), probability of each row's label.
        wrong: (N,), whether the label is wrong.
    """
    suspects = np.argsort(given, kind="stable")[: wrong.sum()]
    return float(wrong[suspects].mean()) if len(suspects) else float("nan")


def find_wrong_labels(dataset: str, model_folder: Path) -> WrongLabels:
    """Ranks the training rows of a data set with true labels by the model that was trained on them."""
    train = load(dataset)["train"]
    names, given = train.features["label"].names, np.asarray(train["label"])
    path = Path(dataset) / TRUE_LABELS_FILE
    with path.open(newline="", encoding="utf-8") as file:
        true = np.array([names.index(row["label"]) for row in csv.DictReader(file)])
    if len(true) != len(given):
        raise ValueError(f"{path} must have {len(given)} labels, one per training row, got {len(true)}")
    probabilities = class_probabilities(Classifier(str(model_folder)), train)
    wrong = given != true
    precision = precision_at_noise_rate(probabilities[np.arange(len(given)), given], wrong)
    return {"num_rows": len(given), "num_wrong": int(wrong.sum()), "precision": precision}
