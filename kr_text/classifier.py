"""Saved text classifiers: predictions and class probabilities for texts, metrics for labelled rows."""

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from datasets import Dataset
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

import kr_text.models  # noqa: F401  registers the four classifiers with the Auto classes
from kr_text.data.files import listed
from kr_text.evaluation.metrics import classification_metrics
from kr_text.machine.devices import device_named
from kr_text.models.tokenizer import window_stride
from kr_text.text.batches import batches_for
from kr_text.text.encoding import TextEncoder, max_positions
from kr_text.text.windows import long_texts_note, mean_probabilities

logger = logging.getLogger("kr_text")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CHUNK = 4096  # texts that are sorted by length together


class Prediction(NamedTuple):
    """Prediction for one text.

    Attributes:
        label: Most probable class.
        probabilities: Probability of every class.
    """

    label: str
    probabilities: dict[str, float]


class Classifier:
    """A saved text classifier with its tokenizer, called with texts.

    Example::

        classifier = Classifier("runs/mine")
        classifier("The team won the final.").label  # one text: a `Prediction`
        for label, probabilities in classifier(["The team won.", "Shares fell."]):  # several: an iterator of them
            print(label, probabilities[label])
        labels = [each.label for each in classifier(frame["text"])]  # or a column of pandas, Arrow or datasets

    Attributes:
        model: Model, on its device.
        tokenizer: Tokenizer of the model.
        names: Class names, in the order of the logits.
        num_texts: Number of texts classified so far.
        num_long: Number of them longer than the model reads at a time. If the model was trained on windows, it reads
            them in windows and averages the probabilities; otherwise they are truncated.
    """

    def __init__(self, folder: str, *, batch_size: int = 64, bf16: bool = False, device: str | None = None) -> None:
        """Loads a model and its tokenizer.

        Args:
            folder: Folder written by `save_pretrained`, or an id on the Hub.
            batch_size: Number of texts per forward pass; FastText always takes thousands.
            bf16: Whether to compute in bfloat16. It changes the third decimal of the probabilities, and is about twice
                as fast on hardware that supports it.
            device: cpu, cuda or mps. Default: the accelerator if there is one.

        Raises:
            ValueError: If there is no such model or device, or the model is not a single-label classifier.
        """
        place = device_named(device)
        model, tokenizer, missing = _load(folder)
        if missing:
            raise ValueError(f"model must be a trained classifier, but {folder} lacks {listed(missing)}: train it")
        kind = model.config.problem_type or "single_label_classification"
        if kind != "single_label_classification" or model.config.num_labels < 2:
            raise ValueError(
                f"model must choose one of at least 2 classes, but {folder} has {model.config.num_labels} and the "
                f"problem type {kind}"
            )
        if tokenizer.pad_token_id is None:
            raise ValueError(
                f"model must have a tokenizer with a padding token, but the tokenizer of {folder} has none"
            )
        tokenizer.model_max_length = min(tokenizer.model_max_length, max_positions(model))
        self.model: PreTrainedModel = model.to(place).eval()
        self.tokenizer = tokenizer
        self._encoder = TextEncoder(tokenizer)  # built once: it serializes the whole vocabulary
        self.names = [model.config.id2label[index] for index in range(len(model.config.id2label))]
        self.batch_size, self.bf16 = batch_size, bf16
        self.num_texts = self.num_long = 0

    @overload
    def __call__(self, texts: str) -> Prediction: ...  # type: ignore[overload-overlap]  # str is an Iterable[str]
    @overload
    def __call__(self, texts: Iterable[str]) -> Iterator[Prediction]: ...
    def __call__(self, texts: str | Iterable[str]) -> Prediction | Iterator[Prediction]:
        """Classifies one text, or several in their order.

        Args:
            texts: One text, or several: a list or another iterable, a NumPy array, or a column of pandas, Arrow or
                datasets. They are read in chunks of 4,096.

        Returns:
            The prediction for a text, an iterator over the predictions for several.

        Raises:
            ValueError: If a text is not a string, with its index from 0, when the iterator reaches its chunk.
        """
        if isinstance(texts, str):
            return next(self._predictions([texts]))
        return self._predictions(_elements(texts))

    def _predictions(self, texts: Iterable[str]) -> Iterator[Prediction]:
        iterator, start = iter(texts), 0
        while chunk := list(itertools.islice(iterator, CHUNK)):
            _require_strings(chunk, start)
            start += len(chunk)
            for row in self.probabilities(chunk).tolist():
                yield Prediction(self.names[int(np.argmax(row))], dict(zip(self.names, row, strict=True)))

    @torch.inference_mode()
    def probabilities(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """Class probabilities, (len(texts), num_labels), from batches of texts of similar length."""
        encoded = self._encoder(texts)
        self.num_texts += len(texts)
        self.num_long += int(encoded["is_long"].to_numpy().sum())
        order = np.argsort(encoded["length"].to_numpy(), kind="stable")
        batches = batches_for(self.model, self.tokenizer, encoded)
        probabilities = np.empty((len(batches), len(self.names)))
        batch_size, device = CHUNK if batches.flat else self.batch_size, self.model.device
        for rows in np.array_split(order, range(batch_size, len(batches), batch_size)):
            (batch,) = batches.__getitems__(rows)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                logits = self.model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
            probabilities[rows] = logits.cpu().double().softmax(dim=1).numpy()
        return probabilities if batches.texts is None else mean_probabilities(probabilities, batches.texts)

    def log_long_texts(self) -> None:
        """Logs how many of the texts so far are longer than the model reads at a time, if any are."""
        counts, stride = {"": (self.num_long, self.num_texts)}, window_stride(self.tokenizer)
        if note := long_texts_note(counts, self.tokenizer.model_max_length, stride):
            logger.info(note)


def _elements(texts: Any) -> Iterable[Any]:
    """The elements of a column or another iterable; those of an Arrow column as Python objects."""
    is_column = isinstance(texts, Iterable) and not isinstance(texts, bytes | Mapping)
    if not is_column or getattr(texts, "ndim", 1) != 1:  # iterating a table gives the names of its columns
        raise ValueError(f"texts must be a string or a column of strings, got {type(texts).__name__}")
    column: Iterable[Any] = texts
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        slices = (texts.slice(start, CHUNK).to_pylist() for start in range(0, len(texts), CHUNK))
        column = itertools.chain.from_iterable(slices)
    return column


def _require_strings(texts: list[Any], start: int) -> None:
    for index, text in enumerate(texts, start):
        if not isinstance(text, str):
            raise ValueError(f"texts must be strings, got {text!r:.40} at index {index}")


def _load(folder: str) -> tuple[Any, PreTrainedTokenizerFast, list[str]]:
    """Model, tokenizer, and the names of the weights that the folder lacks."""
    path = Path(folder)
    mistyped = path.parent != Path() and path.parent.is_dir()  # the parent folder exists: not an id on the Hub
    if not path.is_dir() and (mistyped or not HUB_ID.fullmatch(folder)):
        raise ValueError(f"model must be a saved classifier's folder, or an id OWNER/NAME on the Hub, got {folder!r}")
    if path.is_dir() and not (path / "config.json").exists():
        unfinished = any(path.glob("checkpoint-*"))
        hint = "; its run is not finished: continue it with `kr-text train --resume`" if unfinished else ""
        raise ValueError(f"model must be a saved classifier's folder or id, got {folder!r}: no config.json{hint}")
    try:
        tokenizer = cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(folder))
        model, loading = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"model must be a saved classifier's folder or id, got {folder!r}: {error}") from error
    return model, tokenizer, sorted(loading["missing_keys"])


def evaluate(classifier: Classifier, rows: Dataset) -> dict[str, float]:
    """Metrics of `kr_text.evaluation.metrics` on rows with the columns text and label; classes are matched by name.

    Raises:
        ValueError: If the classes of the rows are not the classes of the model.
    """
    return classification_metrics(class_probabilities(classifier, rows), np.asarray(rows["label"]))


def class_probabilities(classifier: Classifier, rows: Dataset) -> npt.NDArray[np.float64]:
    """Class probabilities, (num_rows, num_labels), of rows with the columns text and label, in the data's class order.

    Raises:
        ValueError: If the classes of the rows are not the classes of the model.
    """
    names = rows.features["label"].names
    if set(names) != set(classifier.names):
        raise ValueError(
            f"the data's classes must be the model's, {', '.join(classifier.names)}; got {', '.join(names)}"
        )
    index_in_model = [classifier.names.index(name) for name in names]
    probabilities = [classifier.probabilities(batch["text"]) for batch in rows.iter(batch_size=CHUNK)]
    return np.concatenate(probabilities)[:, index_in_model]
