from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from transformers import PreTrainedTokenizerFast

import kr_text.text.encoding
from encoding_cases import LABELS, TEXTS, data, with_special_tokens, words
from kr_text.models.tokenizer import ClassifierTokenizer, classifier_tokenizer
from kr_text.text.batches import Batches
from kr_text.text.encoding import TextEncoder, encode
from kr_text.text.tokenization import character_tokenizer, word_tokenizer
from kr_text.text.windows import mean_probabilities, split_into_windows, text_labels, text_logits
from kr_text.text.word_encoder import Words

WORDS = [f"w{index}" for index in range(9)]
LONG = [" ".join(WORDS[(index * index + index) % 9] for index in range(length)) for length in (0, 1, 8, 9, 10, 37, 80)]


def numbered(lengths: list[int]) -> Words:
    """Texts of these lengths, whose ids are 0, 1, 2, ..."""
    return Words(np.arange(sum(lengths), dtype=np.int32), np.array(lengths, dtype=np.int64))


def rows_of(words: Words) -> list[list[int]]:
    return [part.tolist() for part in np.split(words.ids, words.lengths.cumsum())[:-1]]


# Splitting


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(1, 9), st.data())
def test_windows_cover_each_text_and_share_as_many_ids_as_asked(
    lengths: list[int], max_length: int, draw: st.DataObject
) -> None:
    stride = draw.draw(st.integers(0, max_length - 1))
    texts = numbered(lengths)
    windows, index = split_into_windows(texts, max_length, stride)
    assert windows.ids.dtype == np.int32
    parts: dict[int, list[list[int]]] = {text: [] for text in range(len(lengths))}
    for text, row in zip(index.tolist(), rows_of(windows), strict=True):
        parts[text].append(row)
    for text, whole in enumerate(rows_of(texts)):
        first, *others = parts[text]
        for before, after in zip(parts[text], others, strict=False):
            assert len(before) == max_length
            assert before[len(before) - stride :] == after[:stride]
            assert len(after) > stride
        assert first + [token for row in others for token in row[stride:]] == whole


def test_a_text_that_fits_is_one_window() -> None:
    windows, index = split_into_windows(numbered([0, 5, 4]), 5, 2)
    assert index.tolist() == [0, 1, 2]
    assert windows.lengths.tolist() == [0, 5, 4]


# Encoding


def with_words(max_length: int) -> PreTrainedTokenizerFast:
    return word_tokenizer([[" ".join(WORDS)]], vocab_size=20, max_length=max_length)


def windowed(tokenizer: PreTrainedTokenizerFast, stride: int = 3) -> ClassifierTokenizer:
    return classifier_tokenizer(tokenizer, stride)


MAKERS: dict[str, Callable[[int], PreTrainedTokenizerFast]] = {
    "words": words,
    "characters": lambda max_length: character_tokenizer(max_length=max_length),
    "special tokens": with_special_tokens,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_windows_are_those_that_the_tokenizer_overflows_into(kind: str) -> None:
    tokenizer = MAKERS[kind](8)
    encoded = encode(data(), windowed(tokenizer))["train"]
    settings: dict[str, Any] = {"truncation": True, "stride": 3, "return_overflowing_tokens": True}
    expected = tokenizer(TEXTS, **settings)
    assert list(encoded["input_ids"]) == expected["input_ids"]
    texts = expected["overflow_to_sample_mapping"]
    assert len(texts) > len(TEXTS)
    assert list(encoded["text_index"]) == texts
    assert list(encoded["labels"]) == [LABELS[text] for text in texts]
    assert list(encoded["length"]) == list(map(len, expected["input_ids"]))


def test_the_lookup_of_words_and_the_backend_give_the_same_windows() -> None:
    fast, slow = with_words(8), with_words(8)
    slow.split_special_tokens = False  # then no lookup: a text may contain special tokens
    tables = [TextEncoder(windowed(tokenizer))(LONG) for tokenizer in (fast, slow)]
    assert tables[0].num_rows > len(LONG)
    assert tables[0].equals(tables[1])


def test_each_window_has_the_special_tokens_and_all_windows_the_whole_text() -> None:
    tokenizer = with_special_tokens(8)
    text = TEXTS[3]
    rows = TextEncoder(windowed(tokenizer))([text])["input_ids"].to_pylist()
    assert {(row[0], row[-1]) for row in rows} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
    assert max(map(len, rows)) == 8
    inner = [row[1:-1] for row in rows]
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert inner[0] + [token for row in inner[1:] for token in row[3:]] == whole


@pytest.mark.parametrize("kind", MAKERS)
def test_windows_are_not_truncated_by_what_the_tokenizer_did_before(kind: str) -> None:
    fresh, used = windowed(MAKERS[kind](8)), windowed(MAKERS[kind](8))
    used(["a b c", "a"], padding="max_length", truncation=True, max_length=4)  # leaves both settings in the backend
    assert TextEncoder(used)(TEXTS).equals(TextEncoder(fresh)(TEXTS))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_first_window_of_a_long_text_is_marked(kind: str) -> None:
    tokenizer = MAKERS[kind](8)
    table = TextEncoder(windowed(tokenizer))(TEXTS)
    whole = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    marked = np.array(table["text_index"])[np.array(table["is_long"])]
    assert marked.tolist() == [text for text, length in enumerate(whole) if length > 8]


def test_the_index_of_a_text_counts_on_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_text.text.encoding, "BATCH", 3)
    tokenizer = windowed(words(8))
    encoded = encode(data(), tokenizer)["train"]
    table = TextEncoder(tokenizer)(TEXTS)
    assert list(encoded["text_index"]) == table["text_index"].to_pylist()
    assert list(encoded["input_ids"]) == table["input_ids"].to_pylist()


def test_windows_and_truncated_texts_do_not_share_a_cache(tmp_path: Path) -> None:
    rows = data()
    truncated, windows, wider = (
        encode(rows, classifier_tokenizer(words(8), stride))["train"] for stride in (None, 1, 3)
    )
    assert truncated.num_rows == len(TEXTS) < windows.num_rows < wider.num_rows


def test_batches_know_the_texts_of_windows_only() -> None:
    truncated, windows = (TextEncoder(classifier_tokenizer(words(8), stride))(TEXTS) for stride in (None, 3))
    assert Batches(truncated, 0).texts is None
    texts = Batches(windows, 0).texts
    assert texts is not None
    assert texts.tolist() == windows["text_index"].to_pylist()


# Predictions

TEXT_OF_WINDOW = np.array([2, 0, 1, 2, 0, 2])


def test_probabilities_of_a_text_are_the_mean_over_its_windows() -> None:
    p = softmax(np.random.default_rng(0).normal(size=(6, 4)), axis=1)
    expected = [p[[1, 4]].mean(axis=0), p[2], p[[0, 3, 5]].mean(axis=0)]
    np.testing.assert_allclose(mean_probabilities(p, TEXT_OF_WINDOW), expected, rtol=1e-12)
    logits = np.log(p) + np.arange(6.0)[:, None]  # a shift changes no probability
    np.testing.assert_allclose(np.exp(text_logits(logits, TEXT_OF_WINDOW)), expected, rtol=1e-12)


def test_logits_of_a_text_do_not_underflow() -> None:
    logits = np.array([[0.0, -2000.0], [0.0, -3000.0]])
    expected = log_softmax(logits, axis=1)[0] - [0, np.log(2)]
    np.testing.assert_allclose(text_logits(logits, np.zeros(2, np.int64))[0], expected, atol=1e-12)


def test_the_label_of_a_text_is_that_of_its_windows() -> None:
    assert text_labels(np.array([7, 5, 6, 7, 5, 7]), TEXT_OF_WINDOW).tolist() == [5, 6, 7]


def test_no_windows_give_no_predictions() -> None:
    nothing = np.empty(0, dtype=np.int64)
    assert mean_probabilities(np.empty((0, 3)), nothing).shape == (0, 3)
    assert text_logits(np.empty((0, 3)), nothing).shape == (0, 3)
