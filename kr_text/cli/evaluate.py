"""Command `kr-text evaluate`."""

import argparse
import logging
from pathlib import Path

from kr_text.cli.parser import CommandParser, positive

SUMMARY = "measure a trained classifier on labelled rows"
DESCRIPTION = (
    "Prints error rate, macro F1, NLL, Brier score, ECE and AURC of a trained classifier on labelled rows, and "
    "precision, recall and F1 of each class."
)


def add_flags(parser: CommandParser) -> None:
    """Adds the flags of `kr-text evaluate`."""
    add_model(parser)
    parser.add_argument(
        "--dataset",
        required=True,
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
        help="column with the text; several columns, separated by commas, are joined; default: text",
    )
    parser.add_argument("--label_column", metavar="COLUMN", help="column with the class; default: label")
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


def _evaluate(flags: argparse.Namespace) -> None:
    import numpy as np
    from transformers.utils.logging import disable_progress_bar

    from kr_text.classifier import Classifier, class_probabilities
    from kr_text.data.sources import load, load_rows
    from kr_text.evaluation.classes import class_metrics
    from kr_text.evaluation.metrics import classification_metrics, confusion_matrix
    from kr_text.training.report_classes import class_table
    from kr_text.training.report_markdown import metrics_table
    from kr_text.training.settings import saved_settings

    disable_progress_bar()
    classifier = Classifier(flags.model, batch_size=flags.batch_size, bf16=flags.bf16)
    columns = {"text_column": flags.text_column, "label_column": flags.label_column}
    trained = saved_settings(Path(flags.model)) or {}
    in_training = Path(trained.get("dataset", "")).name == Path(flags.dataset).name
    if flags.split is None and Path(flags.dataset).is_file() and not in_training:
        rows = load_rows(flags.dataset, classifier.names, **columns)
        message = "%s: measured on all %d rows; if the model was trained on this file, give --split test"
        logging.getLogger("kr_text").warning(message, flags.dataset, rows.num_rows)
    else:  # the validation size of the run reproduces its splits
        data = load(flags.dataset, validation_size=trained.get("validation_size"), **columns)
        rows = data[flags.split or "test"]
    probabilities, labels = class_probabilities(classifier, rows), np.asarray(rows["label"])
    names = rows.features["label"].names
    counts = confusion_matrix(probabilities, labels, len(names))
    print(metrics_table(classification_metrics(probabilities, labels)), end="\n\n")
    print(class_table(class_metrics(counts, names)))
