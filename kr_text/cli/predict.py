"""Command `kr-text predict`."""

import argparse
import json

from kr_text.cli.evaluate import add_inference_flags, add_model
from kr_text.cli.parser import CommandParser

SUMMARY = "classify texts"
DESCRIPTION = "Classifies texts. Prints a JSON line for every text, with its label and the probability of every class."


def add_flags(parser: CommandParser) -> None:
    """Adds the flags of `kr-text predict`."""
    add_model(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        help=".csv or .tsv with a header, .jsonl or .json, each also as .gz, or .parquet; any other file has a text in "
        "each line; - reads lines from standard input",
    )
    parser.add_argument(
        "--text_column",
        metavar="COLUMN",
        help="column or key with the text; several, separated by commas, are joined; default: text",
    )
    add_inference_flags(parser)
    parser.set_defaults(execute=_predict)


def _predict(flags: argparse.Namespace) -> None:
    from transformers.utils.logging import disable_progress_bar

    from kr_text.classifier import Classifier
    from kr_text.data import read_texts

    disable_progress_bar()
    classifier = Classifier(flags.model, batch_size=flags.batch_size, bf16=flags.bf16)
    for label, probabilities in classifier(read_texts(flags.file, flags.text_column)):
        print(json.dumps({"label": label, "probabilities": probabilities}, ensure_ascii=False))
