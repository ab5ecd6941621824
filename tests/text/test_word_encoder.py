from itertools import chain
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import trainers

import kr_text.text.word_encoder
from kr_text.text.tokenization import PAD, UNK, untrained_word_tokenizer, word_tokenizer
from kr_text.text.word_encoder import MARK, WordEncoder, count_pieces, split_at_blanks

# Characters that `tokenizers` treats specially: combining marks, other white space, removed characters, and the
# separator of the implementation; then letters and marks of scripts without blanks.
SPECIAL = " abAB\u00c9e\u0301\u0130\u03a3\t\n\u00a0\u3000\u0000\u200d\u200b\u00ad.,'[]" + MARK
UNSPACED = (
    "\u4e2d\uf900\u3005\u304b\u30ac\u3099\u30fc\uff76\uff9e\u0e40\u0e41\u0e01\u0e31\u0e49\u0e32\u0e33\u0ec0\u0e81\u0eb2"
    "\u1000\u1039\u103a\u1025\u102e\u1780\u17d2\u17b6\u0f56\u0f0b\u0f7c\u0300\ufe00\U00020000\U0003fffd"
)
TEXTS = st.lists(
    st.text(SPECIAL, max_size=30) | st.text(UNSPACED + " a\u200d.", max_size=20) | st.text(max_size=12), max_size=8
)


@given(training=TEXTS, vocab_size=st.integers(2, 12), min_frequency=st.integers(1, 3))
def test_the_vocabulary_equals_that_of_the_trainer_of_tokenizers(
    training: list[str], vocab_size: int, min_frequency: int
) -> None:
    plain = untrained_word_tokenizer()
    plain.encode_special_tokens = True
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=[PAD, UNK], show_progress=False
    )
    plain.train_from_iterator(training, trainer)
    ours = word_tokenizer([training], vocab_size=vocab_size, min_frequency=min_frequency, max_length=9)
    assert ours.get_vocab() == plain.get_vocab()


@given(training=TEXTS, texts=TEXTS, more=TEXTS, char_ngram=st.sampled_from([0, 2, 4]))
def test_ids_equal_those_of_tokenizers(training: list[str], texts: list[str], more: list[str], char_ngram: int) -> None:
    tokenizer = word_tokenizer([training], vocab_size=100, max_length=9, char_ngram=char_ngram).backend_tokenizer
    tokenizer.encode_special_tokens = True
    encoder = WordEncoder(tokenizer)
    for batch in (texts, more, texts):  # later batches contain cached pieces
        words = encoder(pa.array(batch, pa.string()))
        expected = [encoding.ids for encoding in tokenizer.encode_batch(batch)]
        assert words.ids.tolist() == list(chain.from_iterable(expected))
        assert words.lengths.tolist() == [len(ids) for ids in expected]


def test_parts_of_unknown_words_have_the_ids_of_tokenizers() -> None:
    tokenizer = word_tokenizer([["played plays display"]], vocab_size=100, max_length=9, char_ngram=4).backend_tokenizer
    texts = ["playd, dais plays", "zplay", "", f"pal{MARK}pay {'a' * 101}"]
    words = WordEncoder(tokenizer)(pa.array(texts))
    expected = [tokenizer.encode(text).ids for text in texts]
    assert len(expected[0]) > 4
    assert words.ids.tolist() == list(chain.from_iterable(expected))
    assert words.lengths.tolist() == [len(ids) for ids in expected]


def test_the_separator_may_be_a_word_of_the_vocabulary() -> None:
    tokenizer = word_tokenizer([[f"a {MARK} b"]], vocab_size=100, max_length=9).backend_tokenizer
    encoder = WordEncoder(tokenizer)
    assert (
        encoder(pa.array(["b a", f"a{MARK}b {MARK}", "a"])).ids.tolist()
        == tokenizer.encode(f"b a a{MARK}b {MARK} a").ids
    )


def test_the_cache_is_emptied_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_text.text.word_encoder, "MAX_KNOWN", 3)
    tokenizer = word_tokenizer([["a b c d e"]], vocab_size=100, max_length=9).backend_tokenizer
    encoder = WordEncoder(tokenizer)
    for text in ("a b", "c d", "d e", "b e a"):
        assert encoder(pa.array([text])).ids.tolist() == tokenizer.encode(text).ids
    assert list(encoder.places) == ["d", "e", "b", "a"]


@pytest.mark.parametrize("num_cores", [1, 2, 5])
def test_texts_are_split_at_blanks_on_any_number_of_cores(num_cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kr_text.text.word_encoder.usable_cores", lambda: num_cores)
    texts: Any = ["a b a", "", "c  b", "b"]
    pieces = split_at_blanks(pa.array(texts))
    assert pieces.distinct.take(pa.array(pieces.indices)).to_pylist() == ["a", "b", "a", "", "c", "", "b", "b"]
    assert pieces.counts.tolist() == [3, 1, 3, 1]
    assert dict(zip(*count_pieces([texts, ["a"]]), strict=True)) == {"a": 3, "b": 3, "": 2, "c": 1}
    assert dict(zip(*count_pieces([["a b"], ["a"]] * 30), strict=True)) == {"a": 60, "b": 30}
