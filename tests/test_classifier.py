import itertools
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
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
)

import kr_text.classifier
from kr_text.classifier import Classifier, evaluate
from kr_text.data import load
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


# Predictions


def test_predictions_equal_the_model_on_each_text_alone(classifier: Classifier, run_folder: Path) -> None:
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


def test_a_call_does_not_serialize_the_tokenizer(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend_tokenizer(self: Any) -> Tokenizer:
        raise AssertionError("a call must not serialize the tokenizer")

    monkeypatch.setattr(type(classifier.tokenizer), "backend_tokenizer", property(backend_tokenizer))
    assert classifier("the team won the final").label == "sports"


def test_a_string_is_one_text(classifier: Classifier) -> None:
    assert classifier("the team won the final") == next(classifier(["the team won the final"]))
    assert classifier("the team won the final").label == "sports"


COLUMN = ["the team won the final", "inflation and the bank", ""]


@pytest.mark.parametrize(
    "texts",
    [
        tuple(COLUMN),
        iter(COLUMN),
        (text for text in COLUMN),
        np.array(COLUMN),
        np.array(COLUMN, dtype=object),
        pa.array(COLUMN),
        pa.array(COLUMN, pa.large_string()),
        pa.array(COLUMN).dictionary_encode(),
        pa.chunked_array([COLUMN[:1], COLUMN[1:]]),
        pd.Series(COLUMN, index=[5, 6, 7]),
        pd.Series(COLUMN, dtype="string"),
        pd.Series(COLUMN, dtype="category"),
        Dataset.from_dict({"text": COLUMN})["text"],
    ],
    ids=lambda texts: f"{type(texts).__module__}.{type(texts).__name__}",
)
def test_a_column_of_any_kind_is_classified_as_the_list_of_its_texts(classifier: Classifier, texts: Any) -> None:
    assert list(classifier(texts)) == list(classifier(COLUMN))


def test_an_arrow_column_is_read_in_chunks(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_text.classifier, "CHUNK", 4)
    labels = [each.label for each in classifier(pa.array(COLUMN * 3))]
    assert labels == [each.label for each in classifier(COLUMN)] * 3


@pytest.mark.parametrize(
    ("texts", "got"),
    [
        ([None, "a"], "None at index 0"),
        (["a", 1], "1 at index 1"),
        (["a", ["b"]], r"\['b'\] at index 1"),
        ([b"a"], "b'a' at index 0"),
        ([["a" * 50]], r"\['a{38} at index 0"),
        (pd.Series(["a", math.nan]), "nan at index 1"),
        (pd.Series(["a", None], dtype="string"), "<NA> at index 1"),
        (pa.array(["a", None]), "None at index 1"),
        (np.array([1, 2]), r"(np\.int64\()?1\)? at index 0"),
        (Dataset.from_dict({"text": ["a"]}), r"{'text': 'a'} at index 0"),
    ],
)
def test_an_element_that_is_no_string_is_named_by_its_index(classifier: Classifier, texts: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"^texts must be strings, got {got}$"):
        list(classifier(texts))


def test_the_index_of_an_element_counts_the_chunks_before(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kr_text.classifier, "CHUNK", 2)
    predictions = classifier(["a", "b", "c", 4])  # type: ignore[list-item]
    assert len(list(itertools.islice(predictions, 2))) == 2
    with pytest.raises(ValueError, match=r"got 4 at index 3$"):
        next(predictions)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (None, "NoneType"),
        (1, "int"),
        (b"a text", "bytes"),
        ({"text": ["a"]}, "dict"),
        (pd.DataFrame({"text": ["a"]}), "DataFrame"),
        (np.array([["a"]]), "ndarray"),
        (np.array("a"), "ndarray"),
        (pa.table({"text": ["a"]}), "Table"),
    ],
)
def test_what_is_no_column_is_refused_at_once(classifier: Classifier, texts: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^texts must be a string or a column of strings, got .*{kind}$"):
        classifier(texts)


def test_a_device_that_is_not_there_is_refused_before_the_model_is_loaded() -> None:
    with pytest.raises(ValueError, match=r"^device must be one that torch finds on this machine, cpu.*, got 'tpu'$"):
        Classifier("no such folder", device="tpu")


def test_the_device_may_be_the_cpu_where_there_is_an_accelerator(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    assert Classifier(str(run_folder), device="cpu").model.device.type == "cpu"
    assert Classifier(str(run_folder)).model.device.type == "meta"


@pytest.fixture
def without_limit(tmp_path: Path) -> Path:
    """A saved BERT with 16 positions, and a tokenizer without a maximum length."""
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


def test_a_text_is_truncated_to_the_positions_of_the_model_if_the_tokenizer_has_no_limit(without_limit: Path) -> None:
    classifier = Classifier(str(without_limit))
    long, cut = classifier.probabilities(["team " * 100, "team " * 16])
    assert long.tolist() == pytest.approx(cut.tolist())


def test_a_tokenizer_without_a_padding_token_is_an_error(without_limit: Path) -> None:
    path = without_limit / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in settings.items() if name != "pad_token"}))
    with pytest.raises(
        ValueError, match=r"model must have a tokenizer with a padding token, but the tokenizer of .* has none"
    ):
        Classifier(str(without_limit))


def test_predictions_keep_the_order_of_the_texts(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [TEXTS[row * 5 % len(TEXTS)] + " team" * (row % 4) for row in range(23)]
    expected = [next(classifier([text])) for text in texts]
    monkeypatch.setattr(kr_text.classifier, "CHUNK", 7)
    for got, alone in zip(classifier(texts), expected, strict=True):
        assert got.label == alone.label
        assert got.probabilities == pytest.approx(alone.probabilities, abs=1e-6)


def test_a_text_is_truncated_to_the_length_of_training(classifier: Classifier) -> None:
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


def test_an_endless_iterator_is_read_in_chunks(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_folder_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"model must be a saved classifier's folder, or an id .* got 'no such folder'"
    ):
        Classifier("no such folder")


@pytest.mark.parametrize("content", ["", '{"model_type": "nothing"}', '{"model_type": "kr_text_fasttext"}'])
def test_a_folder_without_a_model_is_an_error(tmp_path: Path, content: str) -> None:
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"model must be a saved classifier's folder or id, got '{tmp_path}'"):
        Classifier(str(tmp_path))


def test_a_folder_without_a_config_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got '.*': no config\.json$"):
        Classifier(str(tmp_path))
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(ValueError, match=r": no config\.json; its run is not finished: .* --resume`$"):
        Classifier(str(tmp_path))


# Evaluation


def relabelled(rows: Dataset, names: list[str]) -> Dataset:
    """The same rows with the classes in the order of `names`."""
    old = rows.features["label"].names
    labels = [names.index(old[label]) for label in rows["label"]]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"text": list(rows["text"]), "label": labels}, features=features)


def test_evaluate_returns_the_metrics_of_the_rows(classifier: Classifier, news: Path) -> None:
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
def test_evaluating_rows_with_other_classes_is_an_error(classifier: Classifier, change: str) -> None:
    names = {"one more": [*classifier.names, "new"], "one less": classifier.names[1:]}.get(
        change, [*classifier.names[1:], "new"]
    )
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    rows = Dataset.from_dict({"text": ["the team"], "label": [0]}, features=features)
    with pytest.raises(ValueError, match=rf"the data's classes must be the model's, business, .*; got {names[0]}, "):
        evaluate(classifier, rows)


def test_bf16_changes_probabilities_by_less_than_2_percent(run_folder: Path) -> None:
    exact, rounded = Classifier(str(run_folder)), Classifier(str(run_folder), bf16=True)
    texts = ["the bank raised its rates", "the team won", ""]
    np.testing.assert_allclose(rounded.probabilities(texts), exact.probabilities(texts), atol=0.02)
    assert (rounded.probabilities(texts) != exact.probabilities(texts)).any()


def test_truncated_weights_are_an_error(tmp_path: Path, run_folder: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "model.safetensors").write_bytes((run_folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model must be a saved classifier's folder or id, got '.*run': "):
        Classifier(str(folder))


TINY: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def saved_bert(folder: Path, run_folder: Path, model_class: Any, **settings: Any) -> str:
    """Saves a tiny BERT of the given class with a tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(run_folder)
    model_class(BertConfig(vocab_size=len(tokenizer), **TINY, **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_an_encoder_without_a_classification_head_is_an_error(tmp_path: Path, run_folder: Path) -> None:
    folder = saved_bert(tmp_path, run_folder, BertModel)
    with pytest.raises(ValueError, match=r"must be a trained classifier, but .* lacks classifier\.bias"):
        Classifier(folder)


@pytest.mark.parametrize("settings", [{"num_labels": 1}, {"problem_type": "multi_label_classification"}])
def test_a_head_that_is_not_single_label_is_an_error(
    tmp_path: Path, run_folder: Path, settings: dict[str, Any]
) -> None:
    folder = saved_bert(tmp_path, run_folder, BertForSequenceClassification, **settings)
    with pytest.raises(ValueError, match="model must choose one of at least 2 classes"):
        Classifier(folder)
