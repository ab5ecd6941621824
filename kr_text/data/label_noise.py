"""Label noise: symmetric noise on labels, and data sets with noisy training labels.

A data set with noisy labels is a folder that `kr_text.data.load` reads. It has a validation file, so that the training
rows keep their order, and the true classes of the training rows, in the same order, in `train_true_labels.csv`.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Rows = Sequence[tuple[str, str]]  # text, class name

TRUE_LABELS_FILE = "train_true_labels.csv"


def flip(
    labels: npt.NDArray[np.int64], rate: float, num_labels: int, seed: int | np.random.Generator = 0
) -> npt.NDArray[np.int64]:
    """Symmetric label noise: replaces random labels by another class, every other class with equal probability.

    Args:
        labels: Class numbers, (num_rows,).
        rate: Share of the labels to replace, in [0, 1].
        num_labels: Number of classes.
        seed: Seed, or the generator to draw from.

    Raises:
        ValueError: If `rate` is outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be in [0, 1], got {rate}")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(labels))[: round(rate * len(labels))]
    flipped = labels.copy()
    flipped[chosen] = (labels[chosen] + rng.integers(1, num_labels, size=len(chosen))) % num_labels
    return flipped


def write_noisy(folder: Path, splits: Mapping[str, Rows], true: Sequence[str]) -> None:
    """Writes a data set as CSV files with a header, and the true classes of its training rows to another file.

    Args:
        folder: Folder to create.
        splits: Texts with their class names for train, validation and test.
        true: True class names of the training rows, in the same order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        _write_csv(folder / f"{split}.csv", ["text", "label"], rows)
    _write_csv(folder / TRUE_LABELS_FILE, ["label"], [(name,) for name in true])


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
