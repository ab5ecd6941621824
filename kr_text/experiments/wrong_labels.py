"""Finds wrong labels among training rows by the probability that a trained model gives to each label."""

import csv
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from kr_text.classifier import Classifier, class_probabilities
from kr_text.data import load
from kr_text.data.label_noise import TRUE_LABELS_FILE


class WrongLabels(TypedDict):
    """How well the wrong labels of the training rows are found: rows whose label has the least probability come first.

    Attributes:
        num_rows: training rows.
        num_wrong: with a wrong label.
        precision: share of wrong labels among the first `num_wrong` rows; chance is num_wrong / num_rows.
    """

    num_rows: int
    num_wrong: int
    precision: float


def precision_at_noise_rate(given: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_]) -> float:
    """Share of wrong labels among as many rows as have one, taken where the label's probability `given` (N,) is least.

    Nan where no label is wrong.
    """
    suspects = np.argsort(given, kind="stable")[: wrong.sum()]
    return float(wrong[suspects].mean()) if len(suspects) else float("nan")


def find_wrong_labels(dataset: str, model_folder: Path) -> WrongLabels:
    """What the model in `model_folder` finds among the training rows of such a data set, on which it was trained."""
    train = load(dataset)["train"]
    names, given = train.features["label"].names, np.asarray(train["label"])
    with (Path(dataset) / TRUE_LABELS_FILE).open(newline="", encoding="utf-8") as file:
        true = np.array([names.index(row["label"]) for row in csv.DictReader(file)])
    if len(true) != len(given):
        raise ValueError(f"{dataset}/{TRUE_LABELS_FILE} must have {len(given)} labels, as train, got {len(true)}")
    probabilities = class_probabilities(Classifier(str(model_folder)), train)
    wrong = given != true
    precision = precision_at_noise_rate(probabilities[np.arange(len(given)), given], wrong)
    return {"num_rows": len(given), "num_wrong": int(wrong.sum()), "precision": precision}
