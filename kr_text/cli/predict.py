"""Command `kr-text predict`."""

import argparse
import heapq
import itertools
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from kr_text.cli.arriving import arriving
from kr_text.cli.evaluate import add_inference_flags, add_model
from kr_text.cli.parser import CommandParser, positive, share
from kr_text.formats.whole_files import whole_file

if TYPE_CHECKING:
    from kr_text.classifier import Classifier, Prediction

SUMMARY = "classify texts"
DESCRIPTION = (
    "Classifies one text, or the texts of a file or of standard input, line by line as they arrive. Prints a JSON line "
    "for every text, with its label and the probabilities of the classes."
)


def add_flags(parser: CommandParser) -> None:
    """Adds the flags of `kr-text predict`."""
    add_model(parser)
    parser.add_argument(
        "input",
        nargs="*",
        default=[],
        metavar="INPUT",
        help="a text, in quotes; or a file: .csv or .tsv with a header, .jsonl or .json, each also as .gz, or "
        ".parquet; any other file has a text in each line; default: -, the lines of standard input",
    )
    parser.add_argument(
        "--text_column",
        metavar="COLUMN",
        help="column or key with the text; several, separated by commas, are joined; default: text",
    )
    parser.add_argument(
        "--output_file", metavar="FILE", help="write the JSON lines to this file, which appears when it is complete"
    )
    parser.add_argument(
        "--top_k", type=positive, metavar="K", help="write only the K most probable classes, the most probable first"
    )
    parser.add_argument(
        "--threshold", type=share, default=0.0, metavar="P", help="write null as the label if no class is as probable"
    )
    add_inference_flags(parser)
    parser.set_defaults(execute=_predict)


def _predict(flags: argparse.Namespace) -> None:
    if len(flags.input) > 1:
        raise ValueError(f"input must be one text or file, got {len(flags.input)}; a text with blanks needs quotes")
    if not flags.input and sys.stdin.isatty():
        raise ValueError('input must be a text, a file or -, got none; for example: kr-text predict MODEL "some text"')
    source = flags.input[0] if flags.input else "-"
    output = Path(flags.output_file) if flags.output_file else None
    if output is not None:
        _check_output(output, source)
    chunks = _chunks(source, flags.text_column)

    from transformers.utils.logging import disable_progress_bar

    from kr_text.classifier import Classifier

    disable_progress_bar()
    classifier = Classifier(flags.model, batch_size=flags.batch_size, bf16=flags.bf16, device=flags.device)
    if output is None:
        _write(sys.stdout, classifier, chunks, flags)
    else:
        with whole_file(output) as file:
            _write(file, classifier, chunks, flags)
        print(f"Saved in {output}", file=sys.stderr)
    classifier.log_long_texts()


def _check_output(output: Path, source: str) -> None:
    """Refuses an output file that cannot be written, or is the input, before a model is loaded."""
    if not output.parent.is_dir():
        raise ValueError(f"output_file must be in a folder that exists, got {output}")
    if output.exists() and not output.is_file():
        raise ValueError(f"output_file must be a file, got {output}")
    if output.exists() and os.path.exists(source) and output.samefile(source):
        raise ValueError(f"output_file must not be the input, got {output} for both")


def _chunks(source: str, text_column: str | None) -> Iterable[list[str]]:
    """The texts to classify: one text, those of a file, or those of standard input."""
    from kr_text.data.files import is_table

    is_file = source == "-" or os.path.exists(source)
    if not is_file and _looks_like_a_file(source, is_table(Path(source))):
        raise ValueError(
            f"input must be a file that exists, or a text, got {source!r}; pass a text that looks like a file name by "
            "standard input: echo TEXT | kr-text predict MODEL"
        )
    if text_column and not (is_file and is_table(Path(source))):
        raise ValueError(f"text_column must be left out where the input has no columns, got {text_column}")
    return _read(source, text_column) if is_file else [[source]]


def _looks_like_a_file(text: str, is_table: bool) -> bool:
    separated = any(separator in text for separator in (os.sep, os.altsep) if separator)
    return is_table or text.endswith((".txt", ".txt.gz")) or (separated and len(text.split()) == 1)


def _read(source: str, text_column: str | None) -> Iterator[list[str]]:
    """Whole chunks of a file on disk; of a pipe or a terminal, the lines that have arrived."""
    from kr_text.classifier import CHUNK
    from kr_text.data import read_texts

    texts = read_texts(source, text_column)
    if not stat.S_ISREG(os.stat(sys.stdin.fileno() if source == "-" else source).st_mode):
        yield from arriving(texts, CHUNK)
    while chunk := list(itertools.islice(texts, CHUNK)):
        yield chunk


def _write(stream: TextIO, classifier: "Classifier", chunks: Iterable[list[str]], flags: argparse.Namespace) -> None:
    for chunk in chunks:
        stream.writelines(_line(each, flags.top_k, flags.threshold) for each in classifier(chunk))
        stream.flush()


def _line(prediction: "Prediction", top_k: int | None, threshold: float) -> str:
    """A line of JSON; probabilities have 6 significant digits."""
    classes = prediction.probabilities
    label = prediction.label if max(classes.values()) >= threshold else None
    shown = heapq.nlargest(top_k, classes, key=classes.__getitem__) if top_k else classes
    probabilities = {name: float(f"{classes[name]:.6g}") for name in shown}
    return json.dumps({"label": label, "probabilities": probabilities}, ensure_ascii=False) + "\n"
