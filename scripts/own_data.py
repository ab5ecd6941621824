"""Trains on data of one's own with the default settings, beside two peers, and writes a table.

    python scripts/own_data.py FOLDER --results results/own_data

FOLDER holds a folder for each data set, with train and test files that have a header. Each model is trained with
cross-entropy and with KR-LS, with three seeds and no setting given. The peers are the fastText library with 50
dimensions, the best of four settings by validation rows, trained again on all rows, and TF-IDF with logistic regression
on all training rows. An interrupted command continues when started again. The peers need the extra `benchmark`.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean

from kr_text.data import load
from kr_text.experiments.code_version import commit_of_code
from kr_text.experiments.engines import ENGINES, Setting, default_workers, run_missing
from kr_text.experiments.results import read_results
from kr_text.experiments.run import Run
from kr_text.formats.markdown import markdown_table
from kr_text.formats.whole_files import write_json, write_text
from kr_text.training.recipes import AUTO

LOSSES = ("ce", "kr-ls")
SETTINGS = [{"lr": rate, "epoch": epochs} for rate, epochs in product((0.25, 0.5), (10, 25))]  # of fastText
PEERS_FILE, WORK = "peers.json", "runs/own_data"

Rows = tuple[list[str], list[str]]  # texts and class names


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what has no result yet, and writes the table. Returns 1 if a run failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that holds the data sets")
    parser.add_argument("--results", type=Path, required=True, help="folder for the results")
    parser.add_argument("--models", nargs="+", default=["fasttext"], help="default: fasttext")
    parser.add_argument("--sets", nargs="+", help="names of data sets; default: all in the folder")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    flags = parser.parse_args(argv)
    names = flags.sets or sorted(path.name for path in flags.folder.iterdir() if path.is_dir())
    runs = [Run(*run, recipe=AUTO) for run in product(names, flags.models, LOSSES, flags.seeds)]
    setting = Setting((str(flags.folder),), WORK, default_workers(), False, commit_of_code())
    failures = run_missing(runs, flags.results, setting, ENGINES["local"], partial(print, flush=True))
    for name in names:
        add_peers(flags.folder / name, name, flags.results / PEERS_FILE)
    write_text(table(flags.results), flags.results / "table.md")
    print(f"Saved in {flags.results / 'table.md'}")
    return 1 if failures else 0


def stored_peers(store: Path) -> dict[str, dict[str, float]]:
    """Test errors of the peers in %, by data set and peer."""
    stored: dict[str, dict[str, float]] = json.loads(store.read_text("utf-8")) if store.exists() else {}
    return stored


def add_peers(folder: Path, name: str, store: Path) -> None:
    """Trains the peers on a data set and stores their test errors, unless they are there."""
    stored = stored_peers(store)
    if name not in stored:
        data = load(folder)
        names = data["train"].features["label"].names
        train, validation, test = (
            (list(data[split]["text"]), [names[label] for label in data[split]["label"]])
            for split in ("train", "validation", "test")
        )
        stored[name] = {
            "fastText, tuned": tuned_fasttext_error(train, validation, test),
            "TF-IDF words + LR": tfidf_error((train[0] + validation[0], train[1] + validation[1]), test),
        }
        write_json(stored, store)


def tfidf_error(train: Rows, test: Rows) -> float:
    """Test error in % of TF-IDF of words and bigrams with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    classifier = make_pipeline(vectors, LogisticRegression(C=20, max_iter=1000)).fit(*train)
    return 100 * float((classifier.predict(test[0]) != test[1]).mean())


def tuned_fasttext_error(train: Rows, validation: Rows, test: Rows) -> float:
    """Test error in % of the fastText library: the best of `SETTINGS` by validation rows, trained on all rows."""
    best = min(SETTINGS, key=lambda settings: fasttext_error(train, validation, settings))
    return fasttext_error((train[0] + validation[0], train[1] + validation[1]), test, best)


def fasttext_error(train: Rows, test: Rows, settings: dict[str, float]) -> float:
    """Error in % on `test` of a classifier of the fastText library with bigrams and 50 dimensions."""
    import fasttext

    numbers = {name: number for number, name in enumerate(sorted(set(train[1])))}
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        rows = list(zip(*train, strict=True))
        random.Random(0).shuffle(rows)  # fastText takes them in this order in each epoch
        for text, label in rows:
            file.write(f"__label__{numbers[label]} {fasttext_words(text)}\n")
        file.flush()
        model = fasttext.train_supervised(file.name, dim=50, wordNgrams=2, thread=1, seed=1, verbose=0, **settings)
    predicted, _ = model.predict([fasttext_words(text) for text in test[0]])
    wrong = [label != f"__label__{numbers[name]}" for (label,), name in zip(predicted, test[1], strict=True)]
    return 100 * fmean(wrong)


def fasttext_words(text: str) -> str:
    """The lower-case words and punctuation marks of a text on one line, separated by blanks."""
    return " ".join("".join(c if c.isalnum() or c == "'" else f" {c} " for c in text.lower()).split())


def table(results: Path) -> str:
    """Test errors as a Markdown table: the mean of the seeds for each model and loss, then the peers."""
    found, peers = read_results(results), stored_peers(results / PEERS_FILE)
    names = sorted(peers)
    errors: dict[tuple[str, str], dict[str, list[float]]] = {}
    for result in found.values():
        cell = errors.setdefault((result.run.model, result.run.loss), {}).setdefault(result.run.dataset, [])
        error = result.report["test_metrics"]["error_rate"]
        assert error is not None  # an error rate is always finite
        cell.append(error)
    rows = []
    for (model, loss), by_set in sorted(errors.items()):
        cells = [f"{fmean(by_set[name]):.2f} ({len(by_set[name])})" if name in by_set else "" for name in names]
        rows.append([f"{model}, {loss}", *cells])
    for peer in next(iter(peers.values()), {}):
        rows.append([peer, *(f"{peers[name][peer]:.2f}" for name in names)])
    return (
        "# Data of one's own\n\nTest error in %, with the default settings: the mean over the seeds, and their number. "
        "Nothing was chosen on test rows.\n\n" + markdown_table(["", *names], rows) + "\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
