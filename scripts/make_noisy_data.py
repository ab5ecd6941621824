"""Creates the data sets with noisy labels of the grid noise.yaml.

    python scripts/make_noisy_data.py data runs/noisy_data

`ag_news_noise0`, `ag_news_noise20`, ... hold 10,000 rows of ag_news, with random noise in 0, 20, 40 and 60% of the
labels. `noisy_ag_news` holds 10,000 rows labelled by people. In each data set a tenth of the rows is for validation,
also with noisy labels. The test rows are the test rows of ag_news.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset

from kr_text.data import load
from kr_text.data.files import records
from kr_text.data.label_noise import Rows, flip, write_noisy

NUM_ROWS = 10_000
RATES = (0, 20, 40, 60)  # %
SPLIT_SEED = 1  # the seed of the noise, 0, would set aside exactly the rows with wrong labels


def main(argv: Sequence[str] | None = None) -> None:
    """Writes one folder per data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds ag_news and noisy_ag_news")
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
    """Pairs of text and class name."""
    names = rows.features["label"].names
    return [(text, names[k]) for text, k in zip(rows["text"], rows["label"], strict=True)]


def read(path: Path) -> list[list[str]]:
    """Fields of each row of a file in the format of Zhang et al. (2015), with a space for each line break."""
    return [[field.replace("\\n", " ").strip() for field in row] for row in records(path)]


def write_split(folder: Path, rows: Rows, true: Sequence[str], test: Rows) -> None:
    """Sets a tenth of the rows aside for validation, and writes the data set."""
    aside = set(np.random.default_rng(SPLIT_SEED).permutation(len(rows))[: len(rows) // 10].tolist())
    train = [row for index, row in enumerate(rows) if index not in aside]
    validation = [row for index, row in enumerate(rows) if index in aside]
    of_train = [name for index, name in enumerate(true) if index not in aside]
    write_noisy(folder, {"train": train, "validation": validation, "test": test}, of_train)


if __name__ == "__main__":
    main()
