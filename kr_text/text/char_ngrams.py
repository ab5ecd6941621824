"""Character n-grams of words, as tokens: what unknown words are split into, and what FastText adds to known words.

Bojanowski, Grave, Joulin, Mikolov: Enriching Word Vectors with Subword Information (TACL 2017). There, n-grams are
hashed, and a word gets all of its n-grams. Here they are tokens of the vocabulary, so that a plain tokenizer can hold
them. An unknown word is split into few of them, the longest that fit, from left to right (WordPiece).
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

CONTINUES = "##"  # in front of an n-gram that does not start its word, as WordPiece has it
MIN_WORDS = 2  # words that an n-gram must occur in


def char_ngrams(word: str, length: int) -> list[str]:
    """The character n-grams of a word with its boundaries, which count as a character each.

    The first has no `CONTINUES` in front, so that it stands for the start of a word. The last is shorter than the
    others, so that it stands for the end.

    >>> char_ngrams("plays", 4)
    ['pla', '##play', '##lays', '##ays']
    """
    if len(word) < length:
        return []
    inner = [word[begin : begin + length] for begin in range(len(word) - length + 1)]
    return [word[: length - 1], *(CONTINUES + ngram for ngram in [*inner, word[1 - length :]])]


def subword_tokens(words: Iterable[str], length: int, max_tokens: int) -> list[str]:
    """Tokens for unknown words: the character n-grams of at least two words, then single characters.

    With every character of the words as a token, only a word with a character that no word has stays unknown.

    Args:
        words: Distinct words of the training texts.
        length: Number of characters in an n-gram.
        max_tokens: Maximum number of n-grams; the most frequent are kept.
    """
    counts: Counter[str] = Counter()
    characters: set[str] = set()
    for word in words:
        counts.update(set(char_ngrams(word, length)))
        characters.update(word)
    shared = sorted((ngram for ngram, count in counts.items() if count >= MIN_WORDS), key=lambda n: (-counts[n], n))
    singles = sorted(characters)
    return [*shared[:max_tokens], *singles, *(CONTINUES + character for character in singles)]


def char_ngram_table(vocab: Mapping[str, int], length: int, width: int, pad_id: int) -> npt.NDArray[np.int32]:
    """(num_tokens, width): ids of the character n-grams of each word, then padding.

    Args:
        vocab: Tokens with their ids, 0 to num_tokens - 1.
        length: Number of characters in an n-gram.
        width: Maximum number of n-grams of a word; if it has more, those at its two ends are kept.
        pad_id: Id of the padding token.
    """
    table = np.full((len(vocab), width), pad_id, dtype=np.int32)
    for word, index in vocab.items():
        if word.startswith(CONTINUES):
            continue
        ids = [vocab[ngram] for ngram in char_ngrams(word, length) if ngram in vocab]
        if len(ids) > width:
            ids = [*ids[: width - width // 2], *ids[len(ids) - width // 2 :]]
        table[index, : len(ids)] = ids
    return table
