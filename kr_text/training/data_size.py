"""Size of a data set, which the computed recipes follow."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

SAMPLE = 20_000  # texts that are measured


@dataclass(frozen=True)
class DataSize:
    """What is known of the training rows before training.

    Attributes:
        num_rows: Number of training rows.
        num_classes: Number of classes.
        smallest_class: Number of rows of the rarest class.
        words_median: Median of the number of words in a text.
        words_95: 95th percentile of the number of words in a text.
        characters_95: 95th percentile of the number of characters in a text.
    """

    num_rows: int
    num_classes: int
    smallest_class: int
    words_median: int
    words_95: int
    characters_95: int


def data_size(rows: Dataset) -> DataSize:
    """Measures training rows with the columns text and label; the lengths come from rows at regular distances."""
    arrow = rows.with_format("arrow")
    labels = arrow.select_columns("label")[:]["label"].to_numpy()
    num_classes = rows.features["label"].num_classes
    distance = -(-rows.num_rows // SAMPLE)
    texts: pa.ChunkedArray = arrow.select(range(0, rows.num_rows, distance))[:]["text"]
    words = pc.add(pc.count_substring_regex(texts, r"\s+"), 1).to_numpy()
    characters = pc.utf8_length(texts).to_numpy()
    return DataSize(
        num_rows=rows.num_rows,
        num_classes=num_classes,
        smallest_class=int(np.bincount(labels, minlength=num_classes).min()),
        words_median=round(np.median(words)),
        words_95=round(np.percentile(words, 95)),
        characters_95=round(np.percentile(characters, 95)),
    )
