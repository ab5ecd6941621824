"""Runs on texts that are longer than max_length: truncated, or read in windows."""

import csv
import json
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    pipeline,
)

from kr_text.classifier import Classifier, evaluate
from kr_text.data.sources import load
from kr_text.evaluation.metrics import classification_metrics
from kr_text.training.arguments import parse_training
from kr_text.training.build import stride_for
from kr_text.training.prepare import prepare
from kr_text.training.resume import Start
from training_cases import OVERRIDES, Train, build_from, predictions, report_of

Main = Callable[..., int]
MODELS = [*OVERRIDES, "bert"]
LENGTH = {"charcnn": 150}  # the fewest characters that a CharCNN can read
SHORT = 12  # words; a text of `news` has more
EPOCH = ["--num_train_epochs", "1", "--bf16", "no", "--loss", "ce"]
WINDOWS = ["--long_texts", "windows"]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory, news: Path) -> Path:
    """The folder of a small BERT whose tokenizer puts a token before and after each text, without a maximum length."""
    words = sorted({word for text in load(news)["train"]["text"] for word in text.split()})
    vocab = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    folder = tmp_path_factory.mktemp("pretrained") / "bert"
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocab), max_position_embeddings=64, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def train_short(train_small: Train, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Function that trains a model on texts longer than it reads, and returns the folder of the run."""

    def train_short(name: str, *flags: str) -> Path:
        folder = tmp_path_factory.mktemp("long") / name
        chosen = [str(bert), ""] if name == "bert" else [name, OVERRIDES[name]]
        length = str(LENGTH.get(name, SHORT))
        flags = (*EPOCH, "--learning_rate", "0.01", "--max_length", length, *flags)
        train_small(folder, "--model", chosen[0], "--config_overrides", chosen[1], *flags)
        return folder

    return train_short


@pytest.fixture(scope="module", params=MODELS)
def windows_run(request: pytest.FixtureRequest, train_short: Callable[..., Path]) -> Path:
    return train_short(request.param, *WINDOWS)


@pytest.fixture(scope="module", params=MODELS)
def truncated_run(request: pytest.FixtureRequest, train_short: Callable[..., Path]) -> Path:
    return train_short(request.param)


# A run on windows


def test_a_classifier_reads_windows_if_its_run_did(windows_run: Path, news: Path) -> None:
    classifier, rows = Classifier(str(windows_run)), load(news)["test"]
    probabilities, labels = predictions(windows_run)
    assert labels.tolist() == list(rows["label"])
    np.testing.assert_allclose(classifier.probabilities(list(rows["text"])), probabilities, atol=1e-5)
    assert report_of(windows_run)["test_metrics"] == pytest.approx(evaluate(classifier, rows), rel=1e-4)


def test_a_text_has_the_mean_probabilities_of_its_windows(windows_run: Path, news: Path) -> None:
    classifier = Classifier(str(windows_run), batch_size=5)
    model = AutoModelForSequenceClassification.from_pretrained(windows_run).eval()
    texts = [*load(news)["test"]["text"][:9], "", "the bank " * 200]
    stride = report_of(windows_run)["long_texts"]["window_stride"]
    assert stride is not None
    for text, got in zip(texts, classifier.probabilities(texts), strict=True):
        settings: dict[str, Any] = {"truncation": True, "stride": stride, "return_overflowing_tokens": True}
        windows = classifier.tokenizer(text, **settings)["input_ids"]
        with torch.no_grad():
            parts = [model(input_ids=torch.tensor([ids], dtype=torch.long)).logits.softmax(dim=1) for ids in windows]
        np.testing.assert_allclose(got, torch.cat(parts).double().mean(dim=0).numpy(), atol=1e-5)
    assert len(windows) > 3


def test_the_report_counts_and_measures_texts(windows_run: Path, news: Path) -> None:
    report = report_of(windows_run)
    data, long = report["dataset"], report["long_texts"]
    assert (data["num_train_rows"], data["num_validation_rows"], data["num_test_rows"]) == (216, 24, 60)
    assert long["max_length"] == LENGTH.get(windows_run.name, SHORT)
    tokenizer, rows = Classifier(str(windows_run)).tokenizer, load(news)["test"]
    lengths = np.array([len(tokenizer(text, truncation=False)["input_ids"]) for text in rows["text"]])
    assert long["num_test"] == (lengths > long["max_length"]).sum() > 5
    assert sum(map(sum, report["confusion_matrix"])) == 60


def test_an_epoch_is_measured_on_texts(windows_run: Path, news: Path) -> None:
    (epoch,) = report_of(windows_run)["epochs"]
    rows = load(news)["validation"]
    probabilities = Classifier(str(windows_run)).probabilities(list(rows["text"]))
    metrics = classification_metrics(probabilities, rows["label"])
    assert epoch["validation_error_rate"] == metrics["error_rate"]
    assert epoch["validation_loss"] == pytest.approx(metrics["nll"], rel=1e-4)


@pytest.mark.parametrize("flags", [["--loss", "dml"], ["--loss", "kr-ls", "--label_matrices"]])
def test_other_losses_train_on_windows(train_short: Callable[..., Path], news: Path, flags: list[str]) -> None:
    folder = train_short("textrnn", *WINDOWS, *flags)
    rows = load(news)["test"]
    np.testing.assert_allclose(
        Classifier(str(folder)).probabilities(list(rows["text"])), predictions(folder)[0], atol=1e-5
    )


def test_each_window_has_the_teachers_logits_for_its_text(
    tmp_path: Path, run_folder: Path, news: Path, windows_run: Path
) -> None:
    flags = ["--dataset", str(news), "--max_length", "12", "--output_dir", str(tmp_path), *WINDOWS]
    run, args = parse_training([*flags, "--loss", "kd", "--teacher", str(run_folder)], "kr-text train")
    prepared = prepare(run, args, Start(tmp_path, None))
    texts = prepared.rows("train")["text_index"].to_numpy()
    expected = np.log(Classifier(str(run_folder)).probabilities(list(load(news)["train"]["text"])))
    assert len(texts) > 216
    given = prepared.training_batches().extra["teacher_logits"]
    np.testing.assert_allclose(given, expected[texts], atol=1e-4)


# The pipeline of transformers


def test_the_pipeline_gives_the_prediction_for_a_truncated_text(
    truncated_run: Path, kr_text: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    texts = ["the team won the final " * 100, "inflation " * 300 + "software " * 300, "the bank"]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    assert kr_text("predict", str(truncated_run), str(tmp_path / "texts.txt")) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    classify: Any = pipeline("text-classification", model=str(truncated_run), device="cpu")
    for one, scores, prediction in zip(classify(texts), classify(texts, top_k=None), expected, strict=True):
        assert one["label"] == prediction["label"]
        got = {score["label"]: score["score"] for score in scores}
        assert got == pytest.approx(prediction["probabilities"], abs=1e-5)


def test_the_pipeline_reads_the_first_window(windows_run: Path) -> None:
    classifier = Classifier(str(windows_run))
    text = "the bank said " * 100  # known words, which are a token each
    num_words = SHORT - classifier.tokenizer.num_special_tokens_to_add()
    first = text[:150] if windows_run.name == "charcnn" else " ".join(text.split()[:num_words])
    classify: Any = pipeline("text-classification", model=str(windows_run), device="cpu")
    got = {score["label"]: score["score"] for score in classify(text, top_k=None)}
    assert got == pytest.approx(classifier(first).probabilities, abs=1e-5)


# A class that only the end of a text tells


@pytest.fixture(scope="module")
def told_late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with texts of 600 words, one of the last 40 of which tells the class."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("late") / "told_late"
    folder.mkdir()
    for split, size in (("train", 300), ("test", 90)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for row in range(size):
                words = [f"filler{rng.randrange(5)}" for _ in range(600)]
                words[rng.randrange(560, 600)] = ("alpha", "omega", "sigma")[row % 3]
                writer.writerow([" ".join(words), "ABC"[row % 3]])
    return folder


def run_told_late(kr_text: Main, data: Path, folder: Path, *flags: str) -> None:
    flags = (*flags, "--num_train_epochs", "10", "--learning_rate", "1", "--loss", "ce", "--disable_tqdm", "true")
    flags = (*flags, "--config_overrides", "num_buckets=100,max_ngram=1", "--max_length", "40")
    assert kr_text("train", "--dataset", str(data), "--output_dir", str(folder), *flags) == 0


def test_windows_find_what_truncation_cuts_off(
    kr_text: Main, told_late: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors: dict[str, Any] = {}
    for how in ("truncate", "windows"):
        folder = tmp_path / how
        run_told_late(kr_text, told_late, folder, "--long_texts", how)
        errors[how] = report_of(folder)["test_metrics"]["error_rate"]
        capsys.readouterr()
        assert kr_text("predict", str(folder), str(told_late / "test.csv")) == 0
        labels = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
        wrong = np.mean([label != "ABC"[row % 3] for row, label in enumerate(labels)])
        assert 100 * wrong == pytest.approx(errors[how])
    assert errors["windows"] < 5 < 50 < errors["truncate"]


# The note of long texts


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "longer than" in record.message]


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        ([], "216 of 216 training texts are longer than 5 tokens: truncated; --long_texts windows reads them whole"),
        (WINDOWS, "216 of 216 training texts are longer than 5 tokens: read in windows that share 1 tokens"),
        (["--max_length", "500"], None),
    ],
)
def test_a_run_says_once_how_many_texts_are_long(
    tmp_path: Path, news: Path, caplog: pytest.LogCaptureFixture, flags: list[str], note: str | None
) -> None:
    flags = ["--dataset", str(news), "--max_length", "5", "--output_dir", str(tmp_path), *flags]
    run, args = parse_training(flags, "kr-text train")
    with caplog.at_level(logging.INFO, "kr_text"):
        prepare(run, args, Start(tmp_path, None))
    assert messages(caplog) == ([note] if note else [])


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_predict_and_evaluate_say_once_how_many_texts_are_long(
    kr_text: Main, caplog: pytest.LogCaptureFixture, run_folder: Path, tmp_path: Path, command: str
) -> None:
    rows = ["the team,sports", "the bank,economy", *[f"{'the team ' * 300},sports"] * 3]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]))
    path = [str(tmp_path / "rows.csv")]
    assert kr_text(command, str(run_folder), *(path if command == "predict" else ["--dataset", *path])) == 0
    assert messages(caplog) == ["3 of 5 texts are longer than 512 tokens: truncated"]
    caplog.clear()
    (tmp_path / "rows.csv").write_text("text,label\nthe team,sports\n")
    assert kr_text("predict", str(run_folder), *path) == 0
    assert messages(caplog) == []


# Arguments


def test_the_default_stride_is_a_quarter_of_max_length(news: Path, bert: Path) -> None:
    for model, stride in (("textrnn", 12), (str(bert), 12)):
        run, _ = parse_training(["--model", model, "--max_length", "48", *WINDOWS], "kr-text train")
        tokenizer, _ = build_from(news, "--model", model, "--max_length", "48")
        assert stride_for(run, tokenizer) == stride


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_length", "12", "--stride", "10"], r"^stride must be in \[0, 9\], got 10$"),
        (["--max_length", "12", "--stride", "-1"], r"^stride must be in \[0, 9\], got -1$"),
        (["--max_length", "2"], "^max_length of windows must be at least 3, got 2$"),
    ],
)
def test_windows_must_advance(tmp_path: Path, news: Path, bert: Path, flags: list[str], message: str) -> None:
    flags = ["--dataset", str(news), "--model", str(bert), "--output_dir", str(tmp_path), *WINDOWS, *flags]
    run, args = parse_training(flags, "kr-text train")
    with pytest.raises(ValueError, match=message):
        prepare(run, args, Start(tmp_path, None))


def test_a_stride_is_for_windows_only() -> None:
    with pytest.raises(ValueError, match=r"^stride must be left out without windows, got 3: give --long_texts"):
        parse_training(["--stride", "3"], "kr-text train")
    with pytest.raises(ValueError, match=r"long_texts.*'whole'.*'truncate', 'windows'"):
        parse_training(["--long_texts", "whole"], "kr-text train")


@pytest.mark.parametrize(("flags", "length"), [([], 64), (["--max_length", "99"], 64), (["--max_length", "9"], 9)])
def test_max_length_never_exceeds_the_positions_of_a_pretrained_model(
    news: Path, bert: Path, flags: list[str], length: int
) -> None:
    assert build_from(news, "--model", str(bert), *flags)[0].model_max_length == length


def test_a_charcnn_reads_no_more_characters_than_it_has_frames(news: Path) -> None:
    flags = ["--model", "charcnn", "--config_overrides", OVERRIDES["charcnn"], "--max_length"]
    assert build_from(news, *flags, "999")[0].model_max_length == 150
    assert build_from(news, *flags, "99")[0].model_max_length == 99
