"""Comparisons of whole commands, encoding, prediction, scaling and memory, for benchmark.py."""

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, cast

import fasttext
import numpy as np
import torch
from benchmark_timing import Row, Size, in_turn, ratios, seconds
from benchmark_training import NO_CHECKPOINTS, Bench
from datasets import DatasetDict
from transformers import pipeline

from kr_text.classifier import Classifier
from kr_text.data import load, read_texts
from kr_text.text.batches import Batches, ShuffledRows
from kr_text.text.encoding import encode
from kr_text.text.tokenization import character_tokenizer, word_tokenizer
from kr_text.training.recipes import benchmark_recipe_name, recipe

FASTTEXT = """\
import sys, fasttext
model = fasttext.train_supervised(
    sys.argv[1], dim=10, wordNgrams=2, epoch=int(sys.argv[3]), thread=2, lr=0.5, bucket=500_000, verbose=0)
model.save_model(sys.argv[2])
"""


def command_rows(dataset: str, size: Size) -> Iterator[Row]:
    """Runs every comparison that is not of training."""
    yield from start_rows(size)
    data = load(dataset, max_train_rows=size.rows)
    yield from encoding_rows(data, size)
    yield from prediction_rows(dataset, data, size)
    yield from scaling_rows(data, size)
    yield from cold_rows(Path(dataset).name, data, size)
    yield from memory_rows(size)


def run(*command: str | Path | int, **environment: str) -> None:
    """Runs a command without output; raises RuntimeError with its stderr if it fails."""
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{result.stderr}")


def start_rows(size: Size) -> Iterator[Row]:
    """Times the start of the program and the import of the package."""
    python = partial(run, sys.executable)
    timed = [seconds(partial(python, "-m", "kr_text", "--help")) for _ in range(size.rounds + 1)][1:]
    yield Row("kr-text --help", "-", "from the shell and back", 0.5, timed, "s")
    both = in_turn(partial(python, "-c", "import kr_text"), partial(python, "-c", "import torch"), size.rounds)
    yield Row("import kr_text", "import torch", "in a new process", 1.2, ratios(both), "x", both)


def write_rows(path: Path, rows: Iterable[tuple[str, int]]) -> None:
    """Writes texts and labels to a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "label"])
        lines.writerows(rows)


def write_csv(data: DatasetDict, folder: Path, repeat: int) -> None:
    """Writes train.csv, with each row `repeat` times, and test.csv."""
    for split, times in (("train", repeat), ("test", 1)):
        rows = list(zip(data[split]["text"], data[split]["label"], strict=True))
        write_rows(folder / f"{split}.csv", islice(cycle(rows), times * len(rows)))


def write_fasttext(data: DatasetDict, path: Path, repeat: int) -> None:
    """Writes the training rows `repeat` times in fastText's format: a label, then words between blanks."""
    tokenizer = word_tokenizer([data["train"]["text"][:]], vocab_size=10, max_length=10).backend_tokenizer
    lines = []
    for text, label in zip(data["train"]["text"], data["train"]["label"], strict=True):
        words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        lines.append(f"__label__{label} {' '.join(word for word, _ in words)}\n")
    with path.open("w", encoding="utf-8") as file:
        for _ in range(repeat):
            file.writelines(lines)


def cold_rows(name: str, data: DatasetDict, size: Size) -> Iterator[Row]:
    """Compares whole training commands on ten times the rows, without a cache."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    dataset = folder / name
    dataset.mkdir()
    write_csv(data, dataset, 10)
    write_fasttext(data, folder / "fasttext.txt", 10)
    num_epochs = recipe("fasttext", name).training["num_train_epochs"]

    def ours() -> None:
        cache = tempfile.mkdtemp(dir=folder)
        flags = ("--recipe", benchmark_recipe_name(name), "--output_dir", f"{cache}/run", "--disable_tqdm", "yes")
        run(sys.executable, "-m", "kr_text", "train", "--dataset", dataset, *flags, HF_DATASETS_CACHE=cache)

    def theirs() -> None:
        run(sys.executable, "-c", FASTTEXT, folder / "fasttext.txt", folder / "model.bin", num_epochs)

    timed = in_turn(ours, theirs, size.rounds)
    work = f"{10 * data['train'].num_rows:,} rows; ours also evaluates, and keeps the best epoch"
    yield Row("kr-text train from a cold start", "fastText, its whole command", work, 1.5, ratios(timed), "x", timed)


def encoding_rows(data: DatasetDict, size: Size) -> Iterator[Row]:
    """Compares loading and encoding without a cache with `tokenizers` on texts in memory."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    write_csv(data, folder, 1)
    texts = [text for split in data for text in data[split]["text"]]
    tokenizer = word_tokenizer([texts], vocab_size=100_000, max_length=512)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    again = []

    def ours() -> float:
        cache = tempfile.mkdtemp(dir=folder)
        took = []
        for _ in range(2):
            began = time.perf_counter()
            encode(load(folder, cache_dir=cache), tokenizer)
            took.append(time.perf_counter() - began)
        again.append(took[1])
        return took[0]

    def theirs() -> None:
        for begin in range(0, len(texts), 1000):
            for encoding in backend.encode_batch_fast(texts[begin : begin + 1000]):
                _ = encoding.ids

    timed = in_turn(ours, theirs, size.rounds)
    work = f"{len(texts):,} texts to word ids"
    yield Row("load, tokenize, encode", "tokenizers, all cores, texts in memory", work, 1.3, ratios(timed), "x", timed)
    yield Row("load, tokenize, encode, once more", "-", work, 1.0, again[1:], "s")


def prediction_rows(dataset: str, data: DatasetDict, size: Size) -> Iterator[Row]:
    """Compares prediction with the fastText library and with the pipeline of transformers."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    write_fasttext(data, folder / "train.txt", 1)
    lines = [line.split(" ", 1)[1] for line in (folder / "train.txt").read_text("utf-8").splitlines()]
    (folder / "lines.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    peer = fasttext.train_supervised(
        str(folder / "train.txt"), dim=10, wordNgrams=2, epoch=1, lr=0.5, bucket=500_000, verbose=0
    )
    classifier = saved(Bench("fasttext", dataset, size.rows), folder)

    def ours() -> None:
        with (folder / "ours.jsonl").open("w", encoding="utf-8") as file:
            for label, probabilities in classifier(read_texts(str(folder / "lines.txt"))):
                file.write(json.dumps({"label": label, "probabilities": probabilities}) + "\n")

    def theirs() -> None:
        with (folder / "lines.txt").open(encoding="utf-8") as source:
            labels, probabilities = peer.predict([line.rstrip("\n") for line in source], k=-1)
        with (folder / "theirs.txt").open("w", encoding="utf-8") as file:
            for names, values in zip(labels, probabilities, strict=True):
                file.write(" ".join(f"{name} {value:g}" for name, value in zip(names, values, strict=True)) + "\n")

    timed = in_turn(ours, theirs, size.rounds)
    work = f"{len(lines):,} lines, file to file, all classes"
    yield Row("fasttext, prediction", "fastText's Python module", work, 2.0, ratios(timed), "x", timed)
    texts = data["test"]["text"][: 50 * size.steps]
    for name in ("textrnn", "transformer", "charcnn"):
        yield pipeline_row(saved(Bench(name, dataset, size.rows), folder), name, texts, size)


def saved(bench: Bench, folder: Path) -> Classifier:
    """Saves the untrained model and loads it as a classifier."""
    path = folder / bench.name
    bench.model.save_pretrained(path)
    bench.tokenizer.save_pretrained(path)
    _, args = bench.settings()
    return Classifier(str(path), bf16=args.bf16)


def pipeline_row(classifier: Classifier, name: str, texts: list[str], size: Size) -> Row:
    """Compares prediction with the pipeline at the pipeline's fastest batch size."""
    classify = pipeline("text-classification", model=cast(Any, classifier.model), tokenizer=classifier.tokenizer)
    settings: dict[str, Any] = {"top_k": None, "truncation": True, "max_length": classifier.tokenizer.model_max_length}

    def theirs(batch_size: int) -> None:
        classify(texts, batch_size=batch_size, **settings)

    answers: Any = classify(texts, batch_size=32, **settings)
    expected = [{entry["label"]: entry["score"] for entry in entries} for entries in answers]
    tolerance = 0.02 if classifier.bf16 else 1e-4
    for prediction, entries in zip(classifier(texts), expected, strict=True):
        assert all(abs(prediction.probabilities[label] - entries[label]) < tolerance for label in entries)
    best = min((1, 8, 32, 128), key=lambda batch_size: seconds(partial(theirs, batch_size)))

    def ours() -> None:
        list(classifier(texts))

    timed = in_turn(ours, partial(theirs, best), size.rounds)
    work = f"{len(texts):,} texts, ours in {'bf16' if classifier.bf16 else 'float32'}, equal to {tolerance:g}"
    return Row(f"{name}, prediction", f"pipeline, batches of {best}", work, 1 / 3, ratios(timed), "x", timed)


def scaling_rows(data: DatasetDict, size: Size) -> Iterator[Row]:
    """Fits time ~ rows^exponent to loading, encoding and batching."""
    rows = list(zip(data["train"]["text"], data["train"]["label"], strict=True))
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    numbers = [round(len(rows) * share) for share in (1 / 6, 1 / 2, 5 / 3, 5)]
    tokenizers = {
        "words": word_tokenizer([data["train"]["text"][:]], vocab_size=100_000, max_length=256),
        "characters": character_tokenizer(max_length=1014),
    }
    for kind, tokenizer in tokenizers.items():
        exponents = []
        for _ in range(size.rounds):
            took = []
            for number in numbers:
                path = folder / f"{number}.csv"
                if not path.exists():
                    write_rows(path, islice(cycle(rows), number))
                took.append(seconds(partial(one_epoch, path, tokenizer, tempfile.mkdtemp(dir=folder))))
            exponents.append(float(np.polyfit(np.log(numbers), np.log(took), 1)[0]))
        work = f"{numbers[0]:,} to {numbers[-1]:,} rows: load, encode, cut the batches of an epoch"
        yield Row(f"cost against rows, {kind}", "-", work, 1.05, exponents, "exponent")


def one_epoch(path: Path, tokenizer: Any, cache: str) -> None:
    """Loads, encodes and batches the rows of an epoch."""
    rows = Batches(encode(load(path, cache_dir=cache), tokenizer)["train"].with_format("arrow")[:], 0)
    for indices in torch.utils.data.BatchSampler(ShuffledRows(rows, 128, seed=0), 128, drop_last=False):
        rows.__getitems__(indices)


def memory_rows(size: Size) -> Iterator[Row]:
    """Compares FastText's peak memory on many rows and on fewer; rows have 110 words, as in Yahoo! Answers."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    numbers = (100_000, 1_400_000) if size.rows is None else (1_000, 2_000)
    own, resident = [], []
    for number in numbers:
        dataset, output = folder / str(number), folder / f"run{number}"
        dataset.mkdir()
        write_random_rows(dataset / "train.csv", number)
        write_random_rows(dataset / "test.csv", 1_000)
        flags = ["--dataset", str(dataset), "--output_dir", str(output), "--num_train_epochs", "1"]
        flags += ["--per_device_train_batch_size", "2048", "--disable_tqdm", "yes", *NO_CHECKPOINTS]
        own.append(peak_of_own_memory_mb("train", *flags, HF_DATASETS_CACHE=tempfile.mkdtemp(dir=folder)))
        resident.append(json.loads((output / "report.json").read_text())["peak_memory_mb"]["process"])
    work = f"{numbers[1]:,} rows of 110 words, one epoch of FastText"
    fewer = f"{numbers[0]:,} rows"
    yield Row("peak memory of its own", "-", work, 2500, [own[1]], "MB")
    yield Row("peak memory of its own", fewer, work, 1.2, [own[1] / own[0]])
    yield Row("peak memory with mapped files", "-", work, 2500, [resident[1]], "MB")
    yield Row("peak memory with mapped files", fewer, work, 1.2, [resident[1] / resident[0]])


def peak_of_own_memory_mb(*flags: str, **environment: str) -> float:
    """Runs a kr-text command; returns its peak anonymous memory, without pages of mapped files. Requires Linux."""
    peak = 0.0
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-m", "kr_text", *flags]
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
        while process.poll() is None:
            anonymous = re.search(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(anonymous[1]) * 1024e-6 if anonymous else 0.0)
            time.sleep(0.05)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(output.read())
    return peak


def write_random_rows(path: Path, number: int) -> None:
    """Writes rows of 110 words that follow Zipf's law, in ten classes."""
    generator = np.random.default_rng(number)
    words = np.array([f"word{rank}" for rank in range(100_000)])
    shares = 1 / np.arange(10, len(words) + 10)
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for begin in range(0, number, 10_000):
            count = min(10_000, number - begin)
            for row in words[generator.choice(len(words), (count, 110), p=shares / shares.sum())]:
                file.write(f"{' '.join(row)},{generator.integers(10)}\n")
