from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from encoding_cases import LABELS, TEXTS, data, with_special_tokens, words
from kr_text.data import load
from kr_text.text.character_encoder import CharacterEncoder
from kr_text.text.encoding import TextEncoder, encode, max_positions
from kr_text.text.tokenization import character_tokenizer, word_tokenizer
from kr_text.text.word_encoder import WordEncoder


@pytest.fixture(params=["words", "characters", "special tokens", "left truncation", "used before"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    if request.param == "characters":
        return character_tokenizer(max_length=20)
    tokenizer = with_special_tokens() if request.param == "special tokens" else words()
    if request.param == "left truncation":
        tokenizer.truncation_side = "left"
    if request.param == "used before":  # leaves padding and truncation in the backend
        tokenizer(["a b c", "a"], padding="max_length", truncation=True, max_length=2)
    return tokenizer


def test_ids_are_those_of_the_tokenizer_truncated_to_its_length(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(data(), tokenizer)["train"]
    expected = [tokenizer(text, truncation=True)["input_ids"] for text in TEXTS]
    assert max(map(len, expected)) == 20
    assert list(encoded["input_ids"]) == expected


def test_length_counts_the_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(data(), tokenizer)["train"]
    assert list(encoded["length"]) == [len(ids) for ids in encoded["input_ids"]]


def test_a_text_encoder_gives_the_ids_of_encode(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = TextEncoder(tokenizer)(TEXTS)
    expected = encode(data(), tokenizer)["train"]
    for column in ("input_ids", "length"):
        assert encoded[column].to_pylist() == list(expected[column]), column


def test_texts_longer_than_the_maximum_length_are_marked(tokenizer: PreTrainedTokenizerFast) -> None:
    exact = [*TEXTS, "a " * 18, "a " * 19, "a " * 20, "a " * 21]
    encoded = encode(data(exact, [0] * len(exact)), tokenizer)["train"]
    whole = [len(tokenizer(text, truncation=False)["input_ids"]) for text in exact]
    assert list(encoded["is_long"]) == [length > 20 for length in whole]


def test_labels_and_their_names_are_kept() -> None:
    encoded = encode(data(), words())["train"]
    assert set(encoded.column_names) == {"input_ids", "labels", "length", "is_long"}
    assert list(encoded["labels"]) == LABELS
    assert all(type(label) is int for label in encoded["labels"])


def test_a_text_without_words_has_only_the_ids_of_special_tokens() -> None:
    assert list(encode(data(["", "\u200b"], [0, 1]), words())["train"]["input_ids"]) == [[], []]
    assert list(encode(data(["", "\u200b"], [0, 1]), with_special_tokens())["train"]["length"]) == [2, 2]


def test_rows_keep_their_order_over_many_batches() -> None:
    texts = [f"{'a ' * (row % 7)}" for row in range(2500)]
    encoded = encode(data(texts, [row % 3 for row in range(2500)]), words())["train"]
    assert list(encoded["length"]) == [row % 7 for row in range(2500)]
    assert list(encoded["labels"]) == [row % 3 for row in range(2500)]
    assert encoded[6] == {"input_ids": [words().get_vocab()["a"]] * 6, "labels": 0, "length": 6, "is_long": False}


def test_encoding_does_not_change_the_tokenizer() -> None:
    tokenizer = words()
    before = tokenizer.backend_tokenizer.to_str()
    encode(data(), tokenizer)
    assert tokenizer.backend_tokenizer.to_str() == before
    assert len(tokenizer("b " * 40)["input_ids"]) == 40


def arrow_files(folder: Path) -> set[Path]:
    return set(folder.rglob("*.arrow"))


def test_a_second_call_reads_the_cache_unless_the_tokenizer_differs(news: Path, tmp_path: Path) -> None:
    rows = load(news, cache_dir=tmp_path)
    before = arrow_files(tmp_path)
    first = encode(rows, words())
    made = arrow_files(tmp_path) - before
    assert made
    again = encode(load(news, cache_dir=tmp_path), words())  # an equal tokenizer has the same cache key
    assert arrow_files(tmp_path) - before == made
    assert list(again["test"]["input_ids"]) == list(first["test"]["input_ids"])
    cut = encode(rows, words(max_length=3))
    assert arrow_files(tmp_path) - before > made
    assert max(cut["test"]["length"]) == 3


def test_roberta_positions_start_after_the_padding_index() -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "max_position_embeddings": 20,
    }
    roberta = RobertaForSequenceClassification(RobertaConfig(vocab_size=9, **sizes))
    assert max_positions(roberta) == 18
    roberta(input_ids=torch.full((1, 18), 5))
    with pytest.raises((IndexError, RuntimeError)):
        roberta(input_ids=torch.full((1, 19), 5))
    assert max_positions(BertForSequenceClassification(BertConfig(**sizes))) == 20


@pytest.mark.parametrize("kind", ["words", "parts of words", "characters"])
def test_a_saved_tokenizer_is_encoded_by_lookup_as_before(kind: str, tmp_path: Path) -> None:
    tokenizer = character_tokenizer(max_length=20, alphabet="ab\u00e9")
    if kind != "characters":
        char_ngram = 0 if kind == "words" else 4
        tokenizer = word_tokenizer([TEXTS[:2]], vocab_size=100, max_length=20, char_ngram=char_ngram)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    encoder = TextEncoder(loaded)
    assert type(encoder.encoder) is (CharacterEncoder if kind == "characters" else WordEncoder)
    assert encoder(TEXTS) == TextEncoder(tokenizer)(TEXTS)
