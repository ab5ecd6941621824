"""A saved classifier at work: texts in, class probabilities out, in constant memory."""

import csv
import gzip
import itertools
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from safetensors import SafetensorError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import kr_text.models  # noqa: F401  registers the four classifiers with the Auto classes
from kr_text.data.files import is_unicode, listed
from kr_text.evaluation.metrics import classification_metrics
from kr_text.text.batches import batches_for
from kr_text.text.encoding import encode_texts

T = TypeVar("T")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
NO_LIMIT = 2**31 - 1  # tokens of a text, where neither the tokenizer nor the model has a limit
CHUNK = 4096  # texts that are read, sorted by length and classified together


class Prediction(NamedTuple):
    """The most probable class of a text, and the probability of every class."""

    label: str
    probabilities: dict[str, float]


class Classifier:
    """A saved model with its tokenizer; `Classifier("runs/mine")(texts)` classifies texts."""

    def __init__(self, folder: str, *, batch_size: int = 64, bf16: bool = False) -> None:
        """Loads a model and its tokenizer.

        Args:
            folder: a folder that `save_pretrained` wrote, or an id on the Hub.
            batch_size: texts that go through the model at once; FastText takes thousands.
            bf16: compute in bfloat16, which changes the probabilities in the third decimal, in about half the time
                where the hardware has it.

        Raises:
            ValueError: there is no such model.
        """
        path = Path(folder)
        mistyped = path.parent != Path() and path.parent.is_dir()  # a folder beside it is here: not an id on the Hub
        if not path.is_dir() and (mistyped or not HUB_ID.fullmatch(folder)):
            raise ValueError(
                f"model must be a saved classifier's folder, or an id OWNER/NAME on the Hub, got {folder!r}"
            )
        try:
            self.tokenizer = cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(folder))
            model: Any
            model, loading = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"model must be a saved classifier's folder or id, got {folder!r}: {error}") from error
        if missing := sorted(loading["missing_keys"]):
            raise ValueError(f"model must be a trained classifier, and {folder} is without {listed(missing)}: train it")
        kind = model.config.problem_type or "single_label_classification"
        if kind != "single_label_classification" or model.config.num_labels < 2:
            raise ValueError(f"model must give each text one of several classes, and that of {folder} does {kind}")
        if self.tokenizer.pad_token_id is None:
            raise ValueError(f"model must have a tokenizer with a padding token, and that of {folder} has none")
        self.tokenizer.model_max_length = min(self.tokenizer.model_max_length, max_positions(model))
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self.model: PreTrainedModel = model.to(device or "cpu").eval()
        self.names = [model.config.id2label[index] for index in range(len(model.config.id2label))]
        self.batch_size, self.bf16 = batch_size, bf16

    def __call__(self, texts: Iterable[str]) -> Iterator[Prediction]:
        """Classifies texts in their order; reads ahead by no more than a few thousand."""
        for chunk in _chunks(texts, CHUNK):
            probabilities = self.probabilities(chunk)
            for row in probabilities.tolist():
                yield Prediction(self.names[int(np.argmax(row))], dict(zip(self.names, row, strict=True)))

    @torch.inference_mode()
    def probabilities(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """(len(texts), num_labels): the class probabilities, from batches of texts of like length."""
        encoded = encode_texts(texts, self.tokenizer)
        order = np.argsort(encoded["length"].to_numpy(), kind="stable")
        batches = batches_for(self.model, self.tokenizer, encoded)
        probabilities = np.empty((len(texts), len(self.names)))
        batch_size, device = CHUNK if batches.flat else self.batch_size, self.model.device
        for rows in np.array_split(order, range(batch_size, len(texts), batch_size)):
            (batch,) = batches.__getitems__(rows)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                logits = self.model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
            probabilities[rows] = logits.cpu().double().softmax(dim=1).numpy()
        return probabilities


def max_positions(model: PreTrainedModel) -> int:
    """How many tokens the model has positions for; those of RoBERTa's kind begin after that of padding."""
    positions = getattr(model.config, "max_position_embeddings", None) or NO_LIMIT
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    begin = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    return int(positions - max(begin, default=0))


def evaluate(classifier: Classifier, rows: Dataset) -> dict[str, float]:
    """All metrics of `kr_text.evaluation.metrics` on rows with the columns text and label; classes are matched by name.

    Raises:
        ValueError: the rows have a class that the model does not know, or the other way round.
    """
    return classification_metrics(class_probabilities(classifier, rows), np.asarray(rows["label"]))


def class_probabilities(classifier: Classifier, rows: Dataset) -> npt.NDArray[np.float64]:
    """(N, K): the class probabilities of rows with the columns text and label, in the order of the data's classes.

    Raises:
        ValueError: the rows have a class that the model does not know, or the other way round.
    """
    names = rows.features["label"].names
    if set(names) != set(classifier.names):
        raise ValueError(
            f"the data's classes must be the model's, {', '.join(classifier.names)}; got {', '.join(names)}"
        )
    index_in_model = [classifier.names.index(name) for name in names]
    probabilities = [classifier.probabilities(batch["text"]) for batch in rows.iter(batch_size=CHUNK)]
    return np.concatenate(probabilities)[:, index_in_model]


def read_texts(path: str, text_column: str | None = None) -> Iterator[str]:
    """The texts of a file, one after the other.

    Args:
        path: `-` for standard input; .csv, .tsv and .jsonl (each also with .gz) have a text in each record; any other
            file has one in each line.
        text_column: the column or key of the text; default text. Several, comma-separated, are joined with a space.

    Raises:
        ValueError: a record without that column, or bytes that are not UTF-8, with file and row. Rows count from 1, a
            header too; in files with records, blank lines not.
    """
    kind = Path(path.lower().removesuffix(".gz")).suffix
    columns = [column.strip() for column in (text_column or "text").split(",")]
    with _open(path) as file:
        lines = (line.decode("utf-8-sig") for line in file)  # one by one, so that a wrong byte is in the row it names
        if kind in (".csv", ".tsv"):
            texts = _csv_texts(lines, "\t" if kind == ".tsv" else ",", columns)
            yield from itertools.islice(_checked(path, texts), 1, None)
        elif kind in (".jsonl", ".json"):
            yield from _checked(path, (_text(json.loads(line), columns) for line in lines if line.strip()))
        else:
            yield from _checked("standard input" if path == "-" else path, map(str.strip, lines))


def _open(path: str) -> IO[bytes]:
    if path == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    return cast(IO[bytes], gzip.open(path)) if path.lower().endswith(".gz") else open(path, "rb")


def _csv_texts(lines: Iterator[str], delimiter: str, columns: list[str]) -> Iterator[str]:
    """One for each row; that of the header, which must have the columns, is their names."""
    csv.field_size_limit(2**31 - 1)  # of 131,072 characters by default
    header: list[str] = []
    for fields in filter(None, csv.reader(lines, delimiter=delimiter, strict=True)):
        header = header or fields
        if twice := [column for column in columns if header.count(column) > 1]:
            raise ValueError(f"must have the column {twice[0]!r} once, has {listed(header)}")
        if len(fields) != len(header):
            raise ValueError(f"must have {len(header)} fields, as the header, got {len(fields)}")
        yield _text(dict(zip(header, fields, strict=True)), columns)


def _text(record: Any, columns: list[str]) -> str:
    """The fields of the columns, trimmed, the empty ones left out: as `kr_text.data` does with the training rows."""
    if not isinstance(record, dict):
        raise ValueError(f"must be one JSON object, got {record!r:.40}")
    for column in columns:
        if column not in record:
            raise ValueError(f"must have the column {column!r}, has {listed(list(record))}; give --text_column")
        if not isinstance(record[column], str | None):
            raise ValueError(f"{column} must be a text, got {record[column]!r:.40}")
        if record[column] and not is_unicode(record[column]):
            raise ValueError(f"{column} must be Unicode, got half of a surrogate pair")
    return " ".join(field for column in columns if (field := (record[column] or "").strip()))


def _checked(where: str, texts: Iterator[str]) -> Iterator[str]:
    """The same texts; what goes wrong in reading one says where."""
    for row in itertools.count(1):
        try:
            text = next(texts)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: row {row}: must be UTF-8, got: {error}") from error
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{where}: row {row}: must be a whole file, got: {error}") from error
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{where}: row {row}: {error}") from error
        yield text


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
