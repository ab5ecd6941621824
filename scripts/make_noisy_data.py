"""Makes the data sets with wrong labels that results/noise.yaml trains on.

    python scripts/make_noisy_data.py data runs/noisy_data

`ag_news_noise0`, 20, 40, 60: 10,000 rows of ag_news, of whose labels so many % are wrong, drawn at random.
`noisy_ag_news`: its 10,000 rows, whose labels are people's. In each a tenth of the rows is for validation, with wrong
labels too, and the test rows are ag_news's own.
"""

import argparse
import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset

from kr_text.data.label_noise import Rows, flip, write_noisy
from kr_text.data.sources import load

NUM_ROWS = 10_000
RATES = (0, 20, 40, 60)  # %
SPLIT_SEED = 1  # not that of the noise, 0, which would set aside just the rows with wrong labels


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a folder for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with ag_news and noisy_ag_news")
    parser.add_argument("output", type=Path, help="folder for the data sets")
    flags = parser.parse_args(argv)
    clean = load(flags.data / "ag_news", max_train_rows=NUM_ROWS)
    names, test = clean["train"].features["label"].names, named(clean["test"])
    texts, true = clean["train"]["text"], np.asarray(clean["train"]["label"])
    for rate in RATES:
        rows = [(text, names[k]) for text, k in zip(texts, flip(true, rate / 100, len(names)), strict=True)]
        write_split(flags.output / f"ag_news_noise{rate}", rows, [names[k] for k in true], test)
    people = flags.data / "noisy_ag_news"
    rows = [(" ".join(filter(None, fields)), names[int(k) - 1]) for k, *fields in read(people / "train.csv.gz")]
    true_names = [names[int(k) - 1] for (k,) in read(people / "train_true_labels.csv.gz")]
    write_split(flags.output / "noisy_ag_news", rows, true_names, test)


def named(rows: Dataset) -> Rows:
    """Each text with the name of its class."""
    names = rows.features["label"].names
    return [(text, names[k]) for text, k in zip(rows["text"], rows["label"], strict=True)]


def read(path: Path) -> list[list[str]]:
    """The fields of each row of a file in the form of Zhang et al. (2015), without their line breaks."""
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        return [[field.replace("\\n", " ").strip() for field in row] for row in csv.reader(file)]


def write_split(folder: Path, rows: Rows, true: Sequence[str], test: Rows) -> None:
    """Sets a tenth of the rows aside for validation, and writes all."""
    aside = set(np.random.default_rng(SPLIT_SEED).permutation(len(rows))[: len(rows) // 10].tolist())
    train = [row for index, row in enumerate(rows) if index not in aside]
    validation = [row for index, row in enumerate(rows) if index in aside]
    of_train = [name for index, name in enumerate(true) if index not in aside]
    write_noisy(folder, {"train": train, "validation": validation, "test": test}, of_train)


if __name__ == "__main__":
    main()
