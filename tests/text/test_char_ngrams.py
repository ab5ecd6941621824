import doctest

import numpy as np
import pytest

import kr_text.text.char_ngrams
from kr_text.text.char_ngrams import char_ngram_table, char_ngrams, subword_tokens
from kr_text.text.tokenization import word_tokenizer

WORDS = ["play", "plays", "played", "display"]


def tokens_of(text: str, training: str, **kwargs: int) -> list[str]:
    sizes = {"vocab_size": 100, "max_length": 50, "char_ngram": 4, **kwargs}
    return word_tokenizer([[training]], **sizes).tokenize(text)


# Character n-grams


def test_the_example_of_the_docstring_holds() -> None:
    assert doctest.testmod(kr_text.text.char_ngrams) == (0, 1)


@pytest.mark.parametrize(
    ("word", "length", "expected"),
    [
        ("abc", 4, []),
        ("abcd", 4, ["abc", "##abcd", "##bcd"]),
        ("abc", 2, ["a", "##ab", "##bc", "##c"]),
        ("\u00e9t\u00e9s", 3, ["ét", "##été", "##tés", "##és"]),
    ],
)
def test_the_ngrams_of_a_word(word: str, length: int, expected: list[str]) -> None:
    assert char_ngrams(word, length) == expected


def test_the_tokens_are_the_ngrams_of_two_words_by_frequency_then_the_characters() -> None:
    # play, plays, played and display have ##play; the three that start with it have pla; play and display end in ##lay.
    characters = sorted(set("".join(WORDS)))
    singles = [*characters, *(f"##{character}" for character in characters)]
    assert subword_tokens(WORDS, 4, 100) == ["##play", "pla", "##lay", *singles]
    assert subword_tokens(WORDS, 4, 1) == ["##play", *singles]


def test_an_ngram_twice_in_one_word_counts_once() -> None:
    assert "##abab" not in subword_tokens(["xabababab"], 4, 100)


# Unknown words


def test_a_known_word_is_one_token_and_an_unknown_word_is_split_into_known_parts() -> None:
    training = "played plays display"
    assert tokens_of("played playd", training) == ["played", "pla", "##y", "##d"]
    assert tokens_of("xplay", "played plays display x") == ["x", "##play"]
    assert tokens_of("Dais", training) == ["d", "##a", "##i", "##s"]


def test_only_a_word_with_a_new_character_is_unknown() -> None:
    assert tokens_of("pal zpal palz", "played plays") == ["p", "##a", "##l", "[UNK]", "[UNK]"]


def test_without_ngrams_an_unknown_word_is_not_split() -> None:
    assert tokens_of("played playd", "played plays", char_ngram=0) == ["played", "[UNK]"]


def test_the_words_have_the_ids_that_they_have_without_ngrams() -> None:
    vocab, plain = (
        word_tokenizer([[" ".join(WORDS)]], vocab_size=100, max_length=9, char_ngram=length).get_vocab()
        for length in (4, 0)
    )
    assert plain.items() < vocab.items()
    assert sorted(vocab.values()) == list(range(len(vocab)))


# The table


def test_the_table_has_the_known_ngrams_of_each_longer_word() -> None:
    tokens = ["[PAD]", "[UNK]", "plays", "pla", "sun", "##lays", "##ays", "##play"]
    table = char_ngram_table({token: index for index, token in enumerate(tokens)}, 4, 5, 0)
    expected = np.zeros((8, 5))
    expected[2] = [3, 7, 5, 6, 0]  # pla, ##play, ##lays, ##ays
    assert table.dtype == np.int32
    np.testing.assert_array_equal(table, expected)


@pytest.mark.parametrize(("width", "kept"), [(4, [1, 2, 3, 4]), (3, [1, 2, 4]), (2, [1, 4]), (1, [1])])
def test_a_word_with_too_many_ngrams_has_those_at_its_ends(width: int, kept: list[int]) -> None:
    vocab = {"plays": 0, "pla": 1, "##play": 2, "##lays": 3, "##ays": 4}
    assert char_ngram_table(vocab, 4, width, 9)[0].tolist() == kept


def test_the_padding_is_the_given_token() -> None:
    assert char_ngram_table({"word": 0, "pad": 1}, 4, 2, 1).tolist() == [[1, 1], [1, 1]]
