"""Command `kr-text evaluate`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kr_text.cli.parser import CommandParser, positive
from kr_text.training.flags import DEVICES

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from kr_text.training.run_arguments import RunArguments

SUMMARY = "measure a trained classifier on labelled rows"
DESCRIPTION = (
    "Prints error rate, macro F1, NLL, Brier score, ECE and AURC of a trained classifier on labelled rows, and "
    "precision, recall and F1 of each class."
)


def add_flags(parser: CommandParser) -> None:
    """Adds the flags of `kr-text evaluate`."""
    add_model(parser)
    parser.add_argument("data", nargs="?", metavar="DATASET", help="the same as --dataset")
    parser.add_argument(
        "--dataset",
        help="ag_news, yahoo_answers, yelp_review_full, synthetic_news, another id on the Hub, a folder with train and "
        "test files, or one file",
    )
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test"],
        help="part of the data to measure on; default: test, or all rows of a file that the model was not trained on",
    )
    parser.add_argument(
        "--text_column",
        metavar="COLUMN",
        help="column with the text; several columns, separated by commas, are joined; default: that of the training",
    )
    parser.add_argument("--label_column", metavar="COLUMN", help="column with the class; default: as for the text")
    add_inference_flags(parser)
    parser.set_defaults(execute=_evaluate)


def add_model(parser: CommandParser) -> None:
    """Adds the positional argument for the classifier, which `kr-text evaluate` and `kr-text predict` take."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained classifier, or an id OWNER/NAME on the Hub")


def add_inference_flags(parser: CommandParser) -> None:
    """Adds the flags for speed, which `kr-text evaluate` and `kr-text predict` take."""
    parser.add_argument(
        "--batch_size",
        type=positive,
        default=64,
        metavar="SIZE",
        help="texts in a batch; default: %(default)s",
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16, which is faster if supported")
    parser.add_argument(
        "--device", choices=DEVICES, help="device to compute on; default: the accelerator if there is one"
    )


def _evaluate(flags: argparse.Namespace) -> None:
    dataset = flags.data or flags.dataset
    if dataset is None:
        raise ValueError("the following arguments are required: DATASET; see `kr-text evaluate --help`")
    if flags.data and flags.dataset:
        raise ValueError(f"dataset must be given once, got {flags.data} as DATASET and {flags.dataset}")

    import numpy as np
    from transformers.utils.logging import disable_progress_bar

    from kr_text.classifier import Classifier, class_probabilities
    from kr_text.evaluation.classes import class_metrics
    from kr_text.evaluation.metrics import classification_metrics, confusion_matrix
    from kr_text.training.report_classes import class_table
    from kr_text.training.report_markdown import metrics_table

    disable_progress_bar()
    classifier = Classifier(flags.model, batch_size=flags.batch_size, bf16=flags.bf16, device=flags.device)
    rows, which = _rows(dataset, flags, classifier.names)
    print(f"{rows.num_rows:,} rows of {dataset}: {which}\n")
    probabilities, labels = class_probabilities(classifier, rows), np.asarray(rows["label"])
    names = rows.features["label"].names
    counts = confusion_matrix(probabilities, labels, len(names))
    print(metrics_table(classification_metrics(probabilities, labels)), end="\n\n")
    print(class_table(class_metrics(counts, names)))
    classifier.log_long_texts()


def _rows(dataset: str, flags: argparse.Namespace, names: Sequence[str]) -> tuple["Dataset", str]:
    """The rows to measure on, and which rows of the data they are."""
    from kr_text.data.sources import fingerprint, load_rows
    from kr_text.training.load_data import load_for
    from kr_text.training.settings import DATA, saved_settings

    trained = saved_settings(Path(flags.model)) or {}
    run = _run_on(dataset, flags, trained)
    whole_file = flags.split is None and Path(dataset).is_file()
    data = _training_data(run, trained.get(DATA)) if whole_file else load_for(run)
    if data is None:
        unknown = "" if DATA in trained else "; whether the model was trained on some of them is not known"
        rows = load_rows(dataset, names, text_column=run.text_column, label_column=run.label_column)
        return rows, f"all of them{unknown}"
    split, same = flags.split or "test", whole_file or fingerprint(data) == trained.get(DATA)
    if run.fold and not same:  # the fold is of the data of the run
        data = load_for(replace(run, fold=None))
    return data[split], f"the {split} split" + (" of the data that the model was trained on" if same else "")


def _run_on(dataset: str, flags: argparse.Namespace, trained: dict[str, Any]) -> "RunArguments":
    """The arguments that load a data set as the run of the model has loaded its own."""
    from kr_text.training.arguments import RUN_FIELDS
    from kr_text.training.run_arguments import RunArguments

    columns = {name: value for name in ("text_column", "label_column") if (value := getattr(flags, name))}
    settings = {name: value for name, value in trained.items() if name in RUN_FIELDS}
    return RunArguments(**{**settings, **columns, "dataset": dataset})


def _training_data(run: "RunArguments", data_fingerprint: str | None) -> "DatasetDict | None":
    """The splits of a file if it has the rows that the model was trained on: cut as in training, they are the same."""
    from kr_text.data.sources import fingerprint
    from kr_text.training.load_data import load_for, only_errors_logged

    if data_fingerprint is None:
        return None
    with only_errors_logged():
        try:
            data = load_for(run)
        except ValueError:  # the rows cannot be cut, so no run was trained on them
            return None
    return data if fingerprint(data) == data_fingerprint else None
