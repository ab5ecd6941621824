import csv
import gzip
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import kr_text.classifier
from kr_text.classifier import Classifier, evaluate, max_positions, read_texts
from kr_text.data.sources import load
from kr_text.evaluation.metrics import classification_metrics

TEXTS = [
    "the team won the final",
    "",
    "inflation and the bank",
    "zzz",
    "the new software " * 300,
    "Caf\u00e9 \u00e9t\u00e9",
]


@pytest.fixture(scope="module")
def classifier(run_folder: Path) -> Classifier:
    return Classifier(str(run_folder), batch_size=4)


# The classifier


def test_predictions_are_those_of_the_model_on_each_text_alone(classifier: Classifier, run_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run_folder)
    model = AutoModelForSequenceClassification.from_pretrained(run_folder).eval()
    predictions = list(classifier(TEXTS))
    assert len(predictions) == len(TEXTS)
    for text, prediction in zip(TEXTS, predictions, strict=True):
        ids = torch.tensor([tokenizer(text, truncation=True)["input_ids"]], dtype=torch.long)
        with torch.no_grad():
            expected = model(input_ids=ids).logits.double().softmax(dim=1)[0]
        names = [model.config.id2label[index] for index in range(6)]
        assert list(prediction.probabilities) == names
        assert list(prediction.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-6)
        assert prediction.label == names[int(expected.argmax())]


def test_probabilities_sum_to_1(classifier: Classifier, news: Path) -> None:
    probabilities = classifier.probabilities(list(load(news)["test"]["text"]))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)


@pytest.fixture
def without_limit(tmp_path: Path) -> Path:
    """A saved BERT of 16 positions, and a tokenizer that names no longest text."""
    backend = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1, "team": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    config = BertConfig(
        vocab_size=3,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")
    assert tokenizer.model_max_length > 10**20
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_text_is_cut_to_the_positions_of_the_model_where_the_tokenizer_has_no_limit(without_limit: Path) -> None:
    classifier = Classifier(str(without_limit))
    long, cut = classifier.probabilities(["team " * 100, "team " * 16])
    assert long.tolist() == pytest.approx(cut.tolist())


def test_a_tokenizer_that_cannot_pad_is_refused(without_limit: Path) -> None:
    path = without_limit / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in settings.items() if name != "pad_token"}))
    with pytest.raises(ValueError, match=r"model must have a tokenizer with a padding token, and that of .* has none"):
        Classifier(str(without_limit))


def test_texts_of_any_length_keep_their_order(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [TEXTS[row * 5 % len(TEXTS)] + " team" * (row % 4) for row in range(23)]
    expected = [next(classifier([text])) for text in texts]
    monkeypatch.setattr(kr_text.classifier, "CHUNK", 7)
    for got, alone in zip(classifier(texts), expected, strict=True):
        assert got.label == alone.label
        assert got.probabilities == pytest.approx(alone.probabilities, abs=1e-6)


def test_a_text_is_cut_to_what_the_model_was_trained_on(classifier: Classifier) -> None:
    length = classifier.tokenizer.model_max_length
    assert length == 512
    long, cut = classifier([" ".join(["team"] * length + ["software"] * 500), " ".join(["team"] * length)])
    assert long.probabilities == pytest.approx(cut.probabilities, abs=1e-6)
    assert cut.label == "sports"


@pytest.mark.parametrize("texts", [[""], ["", ""], ["\u200b"], ["", "the team"]])
def test_a_text_without_words_gets_a_prediction(classifier: Classifier, texts: list[str]) -> None:
    for prediction in (predictions := list(classifier(texts))):
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert len(predictions) == len(texts)


def test_no_texts_give_no_predictions(classifier: Classifier) -> None:
    assert list(classifier([])) == []


def test_endless_texts_are_read_a_chunk_at_a_time(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def endless() -> Iterator[str]:
        while True:
            read.append("the team")
            yield read[-1]

    monkeypatch.setattr(kr_text.classifier, "CHUNK", 16)
    predictions = classifier(endless())
    assert len(read) == 0
    assert len(list(itertools.islice(predictions, 10))) == 10
    assert len(read) == 16
    assert len(list(itertools.islice(predictions, 10))) == 10
    assert len(read) == 32


def test_a_folder_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"model must be a saved classifier's folder, or an id .* got 'no such folder'"
    ):
        Classifier("no such folder")


@pytest.mark.parametrize("content", ["", '{"model_type": "nothing"}', '{"model_type": "kr_text_fasttext"}'])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, content: str) -> None:
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"model must be a saved classifier's folder or id, got '{tmp_path}'"):
        Classifier(str(tmp_path))


# Evaluation


def relabelled(rows: Dataset, names: list[str]) -> Dataset:
    """The same rows with the same classes in another order."""
    old = rows.features["label"].names
    labels = [names.index(old[label]) for label in rows["label"]]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"text": list(rows["text"]), "label": labels}, features=features)


def test_evaluation_gives_all_metrics_of_the_rows(classifier: Classifier, news: Path) -> None:
    rows = load(news)["test"]
    probabilities = classifier.probabilities(list(rows["text"]))
    assert evaluate(classifier, rows) == classification_metrics(probabilities, np.asarray(rows["label"]))


def test_classes_are_matched_by_name(classifier: Classifier, news: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_text.classifier, "CHUNK", 25)
    rows = load(news)["test"]
    names = rows.features["label"].names
    in_another_order = relabelled(rows, [names[index] for index in (3, 0, 5, 1, 4, 2)])
    assert list(in_another_order["label"]) != list(rows["label"])
    assert evaluate(classifier, in_another_order) == pytest.approx(evaluate(classifier, rows), rel=1e-6)


@pytest.mark.parametrize("change", ["one more", "one less", "another"])
def test_other_classes_are_refused(classifier: Classifier, change: str) -> None:
    names = {"one more": [*classifier.names, "new"], "one less": classifier.names[1:]}.get(
        change, [*classifier.names[1:], "new"]
    )
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    rows = Dataset.from_dict({"text": ["the team"], "label": [0]}, features=features)
    with pytest.raises(ValueError, match=rf"the data's classes must be the model's, business, .*; got {names[0]}, "):
        evaluate(classifier, rows)


# Files


def write(path: Path, text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return str(path)


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "one\n\n two \r\nthr\u00e9e\r four", ["one", "", "two", "thr\u00e9e\r four"]),
        ("a", 'text\n"quoted"\n', ["text", '"quoted"']),
        ("a.csv", 'id,text\n1,"one, ""1"""\n2,"two\nlines"\n\n3,\n', ['one, "1"', "two\nlines", ""]),
        ("a.csv", "\ufefftext,id\r\n one ,1\r\n", ["one"]),  # as Excel saves it
        ("a.tsv", 'id\ttext\n1\t"one, 1"\n', ["one, 1"]),
        ("a.jsonl", '{"text": "one\\nline", "id": 1}\n\n{"text": null}\n{"text": ""}\n', ["one\nline", "", ""]),
        ("a.json", '{"text": "\\u00e9"}', ["\u00e9"]),
        ("empty.txt", "", []),
        ("empty.csv", "", []),
        ("empty.jsonl", "", []),
        ("header.csv", "text,id\n", []),
    ],
)
def test_texts_are_read_from_every_kind_of_file(
    tmp_path: Path, name: str, text: str, expected: list[str], gz: str
) -> None:
    assert list(read_texts(write(tmp_path / f"{name}{gz}", text))) == expected


def test_columns_are_joined_without_the_empty_ones_as_in_training(tmp_path: Path) -> None:
    rows = [["title", "label", "body"], ["one", "x", " two "], ["", "x", "three"], ["four", "x", " "]]
    path = tmp_path / "train.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*rows, *([f"y{row}", "y", ""] for row in range(5))])
    texts = list(read_texts(str(path), "title, body"))
    assert texts == ["one two", "three", "four", "y0", "y1", "y2", "y3", "y4"]
    data = load(path, text_column="title, body", cache_dir=tmp_path / "cache", validation_size=2)
    assert sorted(text for split in data.values() for text in split["text"]) == sorted(texts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,body\n1,one\n", "row 1: must have the column 'text', has id, body; give --text_column"),
        ("a.csv", "text,id\none,1\ntwo\n", "row 3: must have 2 fields, as the header, got 1"),
        ("a.csv", "text,id\none,1,2\n", "row 2: must have 2 fields, as the header, got 3"),
        ("a.csv", 'text\none\n"two\n', "row 3: unexpected end of data"),
        ("a.csv", 'text\n"one" 1\n', "row 2: ',' expected after '\"'"),
        ("a.csv", b"text\none\n\xff\n", "row 3: must be UTF-8, got: 'utf-8' codec can't decode byte 0xff"),
        ("a.txt", b"one\n" * 5 + b"tw\xe9\n" + b"three\n" * 5000, "row 6: must be UTF-8"),
        ("a.jsonl", '{"text": "a"}\n{"body": "b"}\n', "row 2: must have the column 'text', has body; give"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', "row 2: Expecting ',' delimiter"),
        ("a.jsonl", '["text"]\n', r"row 1: must be one JSON object, got \['text'\]"),
        ("a.jsonl", '"a text"\n', "row 1: must be one JSON object, got 'a text'"),
        ("a.jsonl", "null\n", "row 1: must be one JSON object, got None"),
        ("a.jsonl", '{"text": 5}\n', "row 1: text must be a text, got 5"),
        ("a.jsonl", '{"text": ["a"]}\n', r"row 1: text must be a text, got \['a'\]"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        list(read_texts(path))


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"one\n" * 100)[:-10]], ids=["not gzip", "cut off"])
def test_a_file_that_is_not_all_gzip_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path}: row \d+: must be a whole file"):
        list(read_texts(str(path)))


def test_what_comes_before_a_wrong_row_is_read(tmp_path: Path) -> None:
    texts = read_texts(write(tmp_path / "a.jsonl", '{"text": "one"}\n{'))
    assert next(texts) == "one"
    with pytest.raises(ValueError, match="row 2"):
        next(texts)


def test_a_field_of_a_csv_file_may_be_long(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"text\n{'word ' * 100_000}\n")
    (text,) = read_texts(path)
    assert len(text) == 499_999


def test_a_file_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {row}"}) + "\n" for row in range(10_000)) + "{")
    assert list(itertools.islice(read_texts(str(path)), 3)) == ["text 0", "text 1", "text 2"]


def test_bf16_changes_the_probabilities_a_little(run_folder: Path) -> None:
    exact, rounded = Classifier(str(run_folder)), Classifier(str(run_folder), bf16=True)
    texts = ["the bank raised its rates", "the team won", ""]
    np.testing.assert_allclose(rounded.probabilities(texts), exact.probabilities(texts), atol=0.02)
    assert (rounded.probabilities(texts) != exact.probabilities(texts)).any()


def test_a_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "TEXTS.CSV").write_text("id,text\n1,a\n2,b\n")
    assert list(read_texts(str(tmp_path / "TEXTS.CSV"))) == ["a", "b"]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text,text\na,b\n")
    with pytest.raises(ValueError, match=r"texts\.csv: row 1: must have the column 'text' once, has text, text"):
        list(read_texts(str(tmp_path / "texts.csv")))


def test_weights_that_are_cut_off_are_refused(tmp_path: Path, run_folder: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "model.safetensors").write_bytes((run_folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model must be a saved classifier's folder or id, got '.*run': "):
        Classifier(str(folder))


TINY: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def saved_bert(folder: Path, run_folder: Path, model_class: Any, **settings: Any) -> str:
    """A tiny BERT, or one with a head, and a tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(run_folder)
    model_class(BertConfig(vocab_size=len(tokenizer), **TINY, **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_an_encoder_without_a_head_is_no_classifier(tmp_path: Path, run_folder: Path) -> None:
    folder = saved_bert(tmp_path, run_folder, BertModel)
    with pytest.raises(ValueError, match=r"must be a trained classifier, and .* is without classifier\.bias"):
        Classifier(folder)


@pytest.mark.parametrize("settings", [{"num_labels": 1}, {"problem_type": "multi_label_classification"}])
def test_heads_that_do_not_choose_a_class_are_refused(
    tmp_path: Path, run_folder: Path, settings: dict[str, Any]
) -> None:
    folder = saved_bert(tmp_path, run_folder, BertForSequenceClassification, **settings)
    with pytest.raises(ValueError, match="model must give each text one of several classes"):
        Classifier(folder)


def test_positions_of_robertas_kind_begin_after_that_of_padding() -> None:
    roberta = RobertaForSequenceClassification(RobertaConfig(vocab_size=9, max_position_embeddings=20, **TINY))
    assert max_positions(roberta) == 18
    roberta(input_ids=torch.full((1, 18), 5))
    with pytest.raises((IndexError, RuntimeError)):
        roberta(input_ids=torch.full((1, 19), 5))
    assert max_positions(BertForSequenceClassification(BertConfig(max_position_embeddings=20, **TINY))) == 20


def test_half_of_a_surrogate_pair_is_refused_by_its_row(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n{"text": "b \\ud83d"}\n')
    with pytest.raises(ValueError, match=r"texts\.jsonl: row 2: text must be Unicode, got half of a surrogate pair"):
        list(read_texts(str(tmp_path / "texts.jsonl")))
