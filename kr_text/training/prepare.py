"""Prepares a run: loads its data, builds the tokenizer and the model, and encodes the texts."""

import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, concatenate_datasets
from torch import nn
from transformers import IntervalStrategy, PreTrainedModel, TrainingArguments, set_seed

from kr_text.data.duplicates import count_duplicates, log_duplicates
from kr_text.data.sources import fingerprint
from kr_text.models import MODELS
from kr_text.models.tokenizer import ClassifierTokenizer, classifier_tokenizer, window_stride
from kr_text.text.batches import Batches, batches_for
from kr_text.text.encoding import encode
from kr_text.text.unknown_tokens import MAX_UNKNOWN, unknown_share
from kr_text.text.windows import long_texts_note
from kr_text.trainer.mutual_pair import MutualPair
from kr_text.training.build import build, stride_for, teacher_logits
from kr_text.training.class_weights import weights_of_classes
from kr_text.training.computed_recipes import describe, fixed_recipe_name
from kr_text.training.data_size import data_size
from kr_text.training.load_data import load_data_set_for
from kr_text.training.resume import Start, check_same_data
from kr_text.training.run_arguments import RunArguments

WAYS_OUT = {  # of too many unknown tokens
    "charcnn": "give --alphabet data, or more training rows",
    "words": "the training rows lack these words; more rows or a pretrained model (--model) know more",
    "pretrained": "choose a pretrained model for the language of the texts",
}

logger = logging.getLogger(__name__)


class Findings(NamedTuple):
    """What was found in the data of a run.

    Attributes:
        unlabelled: Test rows without labels, with the column text; None if there are none.
        left_out: Number of rows that were left out of each split.
        duplicates: Numbers of duplicate rows and contradictory labels, by the keys of `kr_text.data.duplicates.COUNTS`.
    """

    unlabelled: Dataset | None
    left_out: dict[str, int]
    duplicates: dict[str, int]


NOTHING_FOUND = Findings(None, {}, {})


class Encoded(NamedTuple):
    """Tokenizer, and the splits that it has encoded."""

    tokenizer: ClassifierTokenizer
    splits: DatasetDict


class Prepared(NamedTuple):
    """Encoded data, tokenizer and model of a run.

    Attributes:
        model: Classifier that the run keeps.
        network: Module that is trained: `model`, or a pair of `model` and its peer for loss dml.
        tokenizer: Tokenizer of `model`.
        encoded: Splits train, validation and test with the columns of `kr_text.text.encoding.encode`; no
            validation if the run trains on its rows.
        num_texts: Number of texts in each split; `encoded` has more rows if long texts are read in windows.
        class_names: Names of the K classes.
        data_fingerprint: Hash of the texts and labels.
        teacher_logits: (N, K), the teacher's logits for the training texts; None without a teacher.
        findings: What was found in the data.
        class_weights: Weight of each class in the training loss; None without class weights.
        test_rows: The test rows with the columns text and label, on disk.
    """

    model: PreTrainedModel
    network: nn.Module
    tokenizer: ClassifierTokenizer
    encoded: DatasetDict
    num_texts: dict[str, int]
    class_names: list[str]
    data_fingerprint: str
    teacher_logits: npt.NDArray[np.float32] | None
    findings: Findings
    class_weights: list[float] | None
    test_rows: Dataset

    def rows(self, split: str) -> pa.Table:
        """The encoded rows of a split."""
        rows: pa.Table = self.encoded[split].with_format("arrow")[:]
        return rows

    def batches(self, rows: pa.Table) -> Batches:
        """Encoded rows in the layout the model expects."""
        return batches_for(self.model, self.tokenizer, rows)

    def training_batches(self) -> Batches:
        """The training rows, with the teacher's logits if there is a teacher."""
        rows, logits = self.rows("train"), self.teacher_logits
        if logits is not None and "text_index" in rows.column_names:
            logits = logits[rows["text_index"].to_numpy()]
        extra = {} if logits is None else {"teacher_logits": logits}
        return batches_for(self.model, self.tokenizer, rows, extra)

    def num_long(self, split: str) -> int:
        """Number of texts in a split that are longer than `max_length`."""
        return int(pc.sum(self.rows(split)["is_long"]).as_py() or 0)


def prepare(run: RunArguments, args: TrainingArguments, start: Start) -> Prepared:
    """Loads and encodes the data of a run, and builds its tokenizer and model.

    Raises:
        ValueError: The arguments or the data are wrong, or differ from those of the run to resume.
    """
    data, unlabelled, left_out = load_data_set_for(run)
    data_fingerprint = fingerprint(data)
    check_same_data(start, data_fingerprint)
    findings = Findings(unlabelled, left_out, count_duplicates(data))
    log_duplicates(findings.duplicates, run.dataset)
    log_settings(run, args, data["train"])
    prepared = prepare_rows(run, args, data, data_fingerprint, findings)
    if args.process_index == 0:
        _log_long_texts(prepared)
        _warn_of_unknown_tokens(run.model, prepared, data)
    return prepared


def prepare_rows(
    run: RunArguments,
    args: TrainingArguments,
    data: DatasetDict,
    data_fingerprint: str,
    findings: Findings = NOTHING_FOUND,
    earlier: Encoded | None = None,
) -> Prepared:
    """Encodes the rows of a run, and builds its tokenizer and model.

    Args:
        run: Model and loss.
        args: Hyper-parameters.
        data: What `load_for` returns.
        data_fingerprint: Hash of the data.
        findings: What was found in the data.
        earlier: What an earlier run of the same model on the same data has encoded, which saves doing it again.

    Raises:
        ValueError: The arguments do not fit the data.
    """
    set_seed(args.seed)
    if run.train_on_validation:
        rows = concatenate_datasets([data["train"], data["validation"]])
        data = DatasetDict({"train": rows, "test": data["test"]})
    names = data["train"].features["label"].names
    weights = weights_of_classes(run.class_weights, names, labels_of(data["train"]))
    built, model = build(run, data, earlier and earlier.tokenizer)
    tokenizer = earlier.tokenizer if earlier else classifier_tokenizer(built, stride_for(run, built))
    network = MutualPair(model, build(run, data, tokenizer)[1]) if run.loss == "dml" else model
    logits = teacher_logits(run.teacher, data["train"]) if run.teacher else None
    encoded = earlier.splits if earlier else encode(data, tokenizer)
    return Prepared(
        *(model, network, tokenizer, encoded, data.num_rows, names, data_fingerprint, logits, findings, weights),
        test_rows=data["test"],
    )


def _log_long_texts(prepared: Prepared) -> None:
    stride = window_stride(prepared.tokenizer)
    counts = {"training": (prepared.num_long("train"), prepared.num_texts["train"])}
    if note := long_texts_note(counts, prepared.tokenizer.model_max_length, stride):
        logger.info(note + ("; --long_texts windows reads them whole" if stride is None else ""))


def log_settings(run: RunArguments, args: TrainingArguments, rows: Dataset) -> None:
    """Logs the size of the training rows and the settings of the run, in one line."""
    if args.process_index == 0:
        name = fixed_recipe_name(run.recipe, run.dataset)
        patience = None if args.eval_strategy == IntervalStrategy.NO else run.early_stopping_patience
        logger.info("%s", describe(data_size(rows), args, patience, name))


def _warn_of_unknown_tokens(model: str, prepared: Prepared, data: DatasetDict) -> None:
    """Logs one line if more than 5% of the tokens of the validation rows are unknown."""
    if "validation" not in prepared.encoded:
        return
    texts = data["validation"].with_format("arrow")[:]["text"]
    share = unknown_share(prepared.tokenizer, prepared.rows("validation")["input_ids"], texts)
    if share > MAX_UNKNOWN:
        kind = model if model == "charcnn" else "words" if model in MODELS else "pretrained"
        logger.warning("%.1f%% of the tokens of the validation rows are unknown: %s", 100 * share, WAYS_OUT[kind])


def labels_of(rows: Dataset) -> npt.NDArray[np.int64]:
    """(N,): the labels of rows with the columns text and label."""
    labels: npt.NDArray[np.int64] = rows.select_columns("label").with_format("arrow")[:]["label"].to_numpy()
    return labels
