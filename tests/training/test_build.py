import logging
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from kr_text.classifier import Classifier
from kr_text.data.sources import load
from kr_text.evaluation.metrics import classification_metrics
from kr_text.models import FastTextConfig, FastTextForSequenceClassification
from kr_text.text.char_ngrams import char_ngram_table
from kr_text.training.computed_recipes import fasttext_recipe
from kr_text.training.data_size import data_size
from training_cases import OVERRIDES, Train, build_from, predictions


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, news: Path) -> Path:
    """The folder of a small BERT with two classes."""
    words = sorted({word for text in load(news)["train"]["text"] for word in text.split()})
    vocab = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        id2label={0: "ham", 1: "spam"},
    )
    folder = tmp_path_factory.mktemp("pretrained") / "bert"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_a_pretrained_model_is_fine_tuned_to_a_different_number_of_classes(
    tmp_path: Path, train_small: Train, bert: Path, news: Path
) -> None:
    flags = ["--model", str(bert), "--num_train_epochs", "1", "--learning_rate", "0.001"]
    report = train_small(tmp_path, *flags, "--config_overrides", "hidden_dropout_prob=0.0")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(model, BertForSequenceClassification)
    assert model.config.num_labels == 6
    assert model.config.hidden_dropout_prob == 0.0
    assert model.config.id2label == dict(enumerate(report["dataset"]["class_names"]))
    rows = load(news)["test"]
    probabilities, labels = predictions(tmp_path)
    np.testing.assert_allclose(probabilities, Classifier(str(tmp_path)).probabilities(list(rows["text"])), atol=1e-5)
    assert report["test_metrics"] == classification_metrics(probabilities, labels)


def test_a_pretrained_model_starts_from_its_weights(bert: Path, news: Path) -> None:
    _, model = build_from(news, "--model", str(bert))
    before = BertForSequenceClassification.from_pretrained(bert)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, before.bert.embeddings.word_embeddings.weight)


@pytest.mark.parametrize(("flags", "length"), [([], 64), (["--max_length", "10"], 10), (["--max_length", "99"], 64)])
def test_max_length_never_exceeds_the_limit_of_a_pretrained_tokenizer(
    bert: Path, news: Path, flags: list[str], length: int
) -> None:
    tokenizer, _ = build_from(news, "--model", str(bert), *flags)
    assert tokenizer.model_max_length == length


def test_a_trained_run_is_fine_tuned_to_different_classes(tmp_path: Path, train_small: Train, run_folder: Path) -> None:
    data = tmp_path / "two"
    data.mkdir()
    rows = "".join(f"the {word} of it,{word}\n" for word in ("yes", "no") * 10)
    (data / "train.csv").write_text("text,label\n" + rows)
    flags = ["--model", str(run_folder), "--dataset", str(data), "--config_overrides", "", "--num_train_epochs", "1"]
    report = train_small(tmp_path / "run", *flags, "--loss", "ce")
    assert report["dataset"]["class_names"] == ["no", "yes"]
    assert FastTextForSequenceClassification.from_pretrained(tmp_path / "run").config.num_labels == 2


def test_two_classes_train_with_a_warning(tmp_path: Path, train_small: Train) -> None:
    data = tmp_path / "two"
    data.mkdir()
    rows = "".join(f"the {word} of it,{word}\n" for word in ("yes", "no") * 10)
    (data / "train.csv").write_text("text,label\n" + rows)
    (data / "test.csv").write_text("text,label\n" + rows)
    with pytest.warns(UserWarning, match="With 2 classes"):
        report = train_small(tmp_path / "run", "--dataset", str(data), "--learning_rate", "1")
    assert report["test_metrics"]["error_rate"] == 0.0
    assert report["residual_labels"] is None  # there is nothing to learn


@pytest.mark.parametrize("alphabet", ["zhang", "data"])
def test_charcnn_has_an_input_for_each_character_of_its_alphabet(news: Path, alphabet: str) -> None:
    flags = ["--model", "charcnn", "--config_overrides", OVERRIDES["charcnn"], "--alphabet", alphabet]
    tokenizer, model = build_from(news, *flags)
    letters = set("".join(load(news)["train"]["text"]).lower()) - {" "}
    assert len(tokenizer) == model.config.vocab_size == {"zhang": 71, "data": 2 + len(letters)}[alphabet]
    assert model.characters.weight.shape[1] == len(tokenizer) - 2
    assert letters <= set(tokenizer.get_vocab())


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_without_a_whole_model_is_refused(tmp_path: Path, news: Path, bert: Path, missing: str) -> None:
    folder = tmp_path / "part"
    shutil.copytree(bert, folder)
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=f"^model must be one of {', '.join(OVERRIDES)}, or a pretrained .*/part'"):
        build_from(news, "--model", str(folder))


def test_truncated_weights_are_refused(tmp_path: Path, news: Path, bert: Path) -> None:
    folder = tmp_path / "part"
    shutil.copytree(bert, folder)
    (folder / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^model must be one of"):
        build_from(news, "--model", str(folder))


@pytest.mark.parametrize("char_ngram", [0, 4])
def test_the_word_embeddings_start_from_the_word_vectors(
    tmp_path: Path, news: Path, caplog: pytest.LogCaptureFixture, char_ngram: int
) -> None:
    caplog.set_level(logging.INFO, logger="kr_text")
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("bank 1 2 3 4\nunheard 5 6 7 8\n")
    overrides = f"{OVERRIDES['fasttext']},char_ngram={char_ngram}"
    tokenizer, model = build_from(news, "--config_overrides", overrides, "--word_vectors", str(vectors))
    row = tokenizer.get_vocab()["bank"]
    assert model.embedding.weight[row].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert model.embedding.weight.abs().gt(0.25).any(dim=1).sum() == 1  # the others are within 1 / embedding_dim
    tokens = " ".join(load(news)["train"]["text"]).split()
    num_words = sum(token[:2] != "##" for token in tokenizer.get_vocab()) - 2
    share = 100 * tokens.count("bank") / len(tokens)
    found = f"vectors for 1 of the {num_words} words of the vocabulary ({100 / num_words:.1f}%)"
    assert f"{vectors}: {found}, {share:.1f}% of the tokens of the training rows" in caplog.messages


def test_word_vectors_without_a_word_of_the_texts_are_refused(tmp_path: Path, news: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("unheard 1 2 3 4\n")
    with pytest.raises(ValueError, match=r"^word_vectors must have words of the training texts, got .*vectors\.txt"):
        build_from(news, "--config_overrides", OVERRIDES["fasttext"], "--word_vectors", str(vectors))


@pytest.mark.parametrize("model", ["charcnn", "bert"])
def test_word_vectors_are_refused_for_models_without_word_embeddings_to_fill(
    tmp_path: Path, news: Path, bert: Path, model: str
) -> None:
    with pytest.raises(ValueError, match="must"):
        build_from(news, "--model", str(bert) if model == "bert" else model, "--word_vectors", str(tmp_path / "v.txt"))


def test_config_overrides_override_the_recipe(news: Path) -> None:
    _, model = build_from(news, "--config_overrides", "embedding_dim=3,max_ngram=1")
    config = cast(FastTextConfig, model.config)
    computed = fasttext_recipe(data_size(load(news)["train"])).config
    assert (config.embedding_dim, config.max_ngram, config.num_buckets) == (3, 1, computed["num_buckets"])
    assert config.char_ngram == computed["char_ngram"] == 4
    assert model.embedding.weight.shape == (config.vocab_size, 3)
    assert model.config.num_labels == 6


def test_the_model_has_the_character_ngrams_of_its_tokenizer(news: Path) -> None:
    tokenizer, model = build_from(news, "--config_overrides", "char_ngram=3,max_char_ngrams=5,num_buckets=50")
    vocab = tokenizer.get_vocab()
    assert torch.equal(model.char_ngrams, torch.from_numpy(char_ngram_table(vocab, 3, 5, 0)))
    assert model.char_ngrams.any()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("embeding_dim=3", r"fields of FastTextConfig \(.*embedding_dim.*\), got 'embeding_dim=3': key embeding_dim"),
        ("embedding_dim", "config_overrides must be FIELD=VALUE,FIELD=VALUE"),
        ("embedding_dim=", "config_overrides must be FIELD=VALUE,FIELD=VALUE"),
        ("embedding_dim=wide", "config_overrides must be FIELD=VALUE,FIELD=VALUE.*'wide'"),
        ("embedding_dim=0", "embedding_dim must be at least 1, got 0"),
        ("to_dict=1", "config_overrides must be FIELD=VALUE"),
        ("max_ngram=1,num_labels=3", "config_overrides must not set num_labels, which the data determine, got 'max_ng"),
        ("vocab_size=3", "config_overrides must not set vocab_size, which the data determine"),
    ],
)
def test_wrong_config_overrides_are_refused(news: Path, overrides: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_from(news, "--config_overrides", overrides)


@pytest.mark.parametrize("model", ["fasttext", "charcnn"])
def test_texts_are_truncated_to_max_length(news: Path, model: str) -> None:
    tokenizer, _ = build_from(news, "--model", model, "--max_length", "5")
    assert tokenizer.model_max_length == 5
    assert len(tokenizer("the bank of the people said that it is new", truncation=True)["input_ids"]) == 5


def test_characters_are_truncated_to_the_frames_of_the_model(news: Path) -> None:
    tokenizer, model = build_from(news, "--model", "charcnn", "--config_overrides", OVERRIDES["charcnn"])
    assert tokenizer.model_max_length == model.config.num_frames == 150


def test_a_half_precision_model_is_trained_in_float32(tmp_path: Path, news: Path, bert: Path) -> None:
    shutil.copytree(bert, tmp_path / "half")
    BertForSequenceClassification.from_pretrained(bert).bfloat16().save_pretrained(tmp_path / "half")
    _, model = build_from(news, "--model", str(tmp_path / "half"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_model_with_more_outputs_than_logits_is_reported(tmp_path: Path, bert: Path, train_small: Train) -> None:
    flags = ["--model", str(bert), "--num_train_epochs", "1", "--label_matrices", "true"]
    report = train_small(tmp_path, *flags, "--config_overrides", "output_hidden_states=true")
    assert report["dataset"]["num_test_rows"] == 60
    assert report["label_matrices"]
