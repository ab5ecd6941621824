"""A saved classifier at work: texts in, class probabilities out, in constant memory."""

import csv
import gzip
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import kr_text.models  # noqa: F401  registers the four classifiers with the Auto classes
from kr_text.metrics import classification_metrics

T = TypeVar("T")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CHUNK = 4096  # texts that are read, sorted by length and classified together


class Prediction(NamedTuple):
    """The most probable class of a text, and the probability of every class."""

    label: str
    probabilities: dict[str, float]


class Classifier:
    """A saved model with its tokenizer.

    >>> classifier = Classifier("runs/fasttext-synthetic_news-kr-ls")  # doctest: +SKIP
    >>> [prediction.label for prediction in classifier(["the bank raised its rates"])]  # doctest: +SKIP
    ['economy']
    """

    def __init__(self, folder: str, *, batch_size: int = 256) -> None:
        """Loads a model and its tokenizer.

        Args:
            folder: a folder that `save_pretrained` wrote, or an id on the Hub.
            batch_size: texts that go through the model at once.

        Raises:
            ValueError: there is no such model.
        """
        if not Path(folder).is_dir() and not HUB_ID.fullmatch(folder):
            raise ValueError(
                f"model must be a saved classifier's folder, or an id OWNER/NAME on the Hub, got {folder!r}"
            )
        try:
            self.tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
            model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ValueError(f"model must be a saved classifier's folder or id, got {folder!r}: {error}") from error
        self.device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self.model = model.to(self.device or "cpu").eval()
        self.names = [model.config.id2label[index] for index in range(len(model.config.id2label))]
        self.batch_size = batch_size

    def __call__(self, texts: Iterable[str]) -> Iterator[Prediction]:
        """Classifies texts in their order; reads ahead by no more than a few thousand."""
        for chunk in _chunks(texts, CHUNK):
            probabilities = self.probabilities(chunk)
            for row in probabilities.tolist():
                yield Prediction(self.names[int(np.argmax(row))], dict(zip(self.names, row, strict=True)))

    @torch.inference_mode()
    def probabilities(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """(len(texts), num_labels): the class probabilities, from batches of texts of like length."""
        encoded = self.tokenizer(texts, truncation=True, return_attention_mask=False)["input_ids"]
        order = sorted(range(len(texts)), key=lambda row: len(encoded[row]))
        collate = DataCollatorWithPadding(self.tokenizer)
        probabilities = np.empty((len(texts), len(self.names)))
        for rows in _chunks(order, self.batch_size):
            batch = collate([{"input_ids": encoded[row]} for row in rows]).to(self.model.device)
            logits = self.model(**batch).logits
            probabilities[rows] = logits.double().softmax(dim=1).cpu().numpy()
        return probabilities


def evaluate(classifier: Classifier, rows: Dataset) -> dict[str, float]:
    """All metrics of `kr_text.metrics` on rows with the columns text and label; classes are matched by name.

    Raises:
        ValueError: the rows have a class that the model does not know, or the other way round.
    """
    names = rows.features["label"].names
    if set(names) != set(classifier.names):
        raise ValueError(
            f"the data's classes must be the model's, {', '.join(classifier.names)}; got {', '.join(names)}"
        )
    index_in_model = np.array([classifier.names.index(name) for name in names])
    probabilities = [classifier.probabilities(batch["text"]) for batch in rows.iter(batch_size=CHUNK)]
    return classification_metrics(np.concatenate(probabilities), index_in_model[np.asarray(rows["label"])])


def read_texts(path: str, text_column: str | None = None) -> Iterator[str]:
    """The texts of a file, one after the other.

    Args:
        path: `-` for standard input; .csv, .tsv and .jsonl (each also with .gz) have a text in each record; any other
            file has one in each line.
        text_column: the column or key of the text; default text. Several, comma-separated, are joined with a space.

    Raises:
        ValueError: a record without that column, or bytes that are not UTF-8, with file and line.
    """
    if path == "-":
        with open(sys.stdin.fileno(), encoding="utf-8", closefd=False) as lines:
            yield from _checked("standard input", (line.rstrip("\r\n") for line in lines))
        return
    kind = Path(path.removesuffix(".gz")).suffix
    columns = (text_column or "text").split(",")
    with _open(path) as file:
        if kind in (".csv", ".tsv"):
            records = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",", strict=True)
            yield from _checked(path, (_text(record, columns) for record in records), first_row=2)
        elif kind in (".jsonl", ".json"):
            yield from _checked(path, (_text(json.loads(line), columns) for line in file if line.strip()))
        else:
            yield from _checked(path, (line.rstrip("\r\n") for line in file))


def _open(path: str) -> IO[str]:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def _text(record: dict[str, str | None], columns: list[str]) -> str:
    for column in columns:
        if column not in record:
            raise ValueError(f"must have the column {column!r}, has {', '.join(map(str, record))}; give --text_column")
    return " ".join(str(record[column]) for column in columns if record[column])


def _checked(where: str, texts: Iterator[str], first_row: int = 1) -> Iterator[str]:
    """The same texts; what goes wrong in reading one says where."""
    for row in itertools.count(first_row):
        try:
            text = next(texts)
        except StopIteration:
            return
        except (UnicodeDecodeError, csv.Error, json.JSONDecodeError, EOFError, ValueError) as error:
            raise ValueError(f"{where}: row {row}: {error}") from error
        yield text


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
