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
    [("abc", 4, []), ("abcd", 4, ["abcd"]), ("abc", 1, ["a", "##b", "##c"]), ("\u00e9t\u00e9s", 3, ["été", "##tés"])],
)
def test_the_ngrams_of_a_word(word: str, length: int, expected: list[str]) -> None:
    assert char_ngrams(word, length) == expected


def test_the_tokens_are_the_ngrams_of_two_words_by_frequency_then_the_characters() -> None:
    # play: 3 words; ##play, ##laye, ##ayed, disp, ##ispl, ##spla and ##lays: one word each.
    characters = sorted(set("".join(WORDS)))
    singles = [*characters, *(f"##{character}" for character in characters)]
    assert subword_tokens(WORDS, 4, 100) == ["play", *singles]
    # pla: 3 words; ##lay: all 4; ##ays, ##aye, ##yed, ...: one word each.
    assert subword_tokens(WORDS, 3, 100) == ["##lay", "pla", *singles]
    assert subword_tokens(WORDS, 3, 1) == ["##lay", *singles]


def test_an_ngram_twice_in_one_word_counts_once() -> None:
    assert "##abab" not in subword_tokens(["xabababab"], 4, 100)


# Unknown words


def test_a_known_word_is_one_token_and_an_unknown_word_is_split_into_known_parts() -> None:
    training = "played plays display"
    assert tokens_of("played playd", training) == ["played", "play", "##d"]
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
    tokens = ["[PAD]", "[UNK]", "plays", "play", "sun", "##lays", "##ays"]
    table = char_ngram_table({token: index for index, token in enumerate(tokens)}, 4, 3, 0)
    expected = np.zeros((7, 3))
    expected[2] = [3, 5, 0]  # play, ##lays
    assert table.dtype == np.int32
    np.testing.assert_array_equal(table, expected)


@pytest.mark.parametrize(("width", "kept"), [(5, "abcde"), (4, "abde"), (3, "abe"), (2, "ae"), (1, "a")])
def test_a_word_with_too_many_ngrams_has_those_at_its_ends(width: int, kept: str) -> None:
    vocab = {"a": 1, **{f"##{character}": index + 2 for index, character in enumerate("bcde")}, "abcde": 0}
    ids = [1 + "abcde".index(character) for character in kept]
    assert char_ngram_table(vocab, 1, width, 9)[0].tolist() == ids


def test_the_padding_is_the_given_token() -> None:
    assert char_ngram_table({"word": 0, "pad": 1}, 4, 2, 1).tolist() == [[1, 1], [1, 1]]
