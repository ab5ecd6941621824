import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from kr_text.models import (
    CharCNNConfig,
    CharCNNForSequenceClassification,
    FastTextConfig,
    FastTextForSequenceClassification,
    TextRNNConfig,
    TextRNNForSequenceClassification,
    TransformerConfig,
    TransformerForSequenceClassification,
)
from kr_text.text.tokenization import character_tokenizer, word_tokenizer
from kr_text.text.word_vectors import load_word_vectors

GLOVE = "the 1 2 3 4\ncat 0.5 -0.25 1e-3 0\nzebra 9 9 9 9\n"
EXPECTED = {"the": [1.0, 2.0, 3.0, 4.0], "cat": [0.5, -0.25, 1e-3, 0.0]}


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """[PAD], [UNK], the, cat, cafe, dog."""
    return word_tokenizer([["the the the cat cat Caf\u00e9 dog"]], vocab_size=10, max_length=10)


def fasttext(**kwargs: Any) -> FastTextForSequenceClassification:
    torch.manual_seed(0)
    return FastTextForSequenceClassification(
        FastTextConfig(**{"vocab_size": 6, "embedding_dim": 4, "num_buckets": 5, **kwargs})
    )


def textrnn() -> TextRNNForSequenceClassification:
    return TextRNNForSequenceClassification(TextRNNConfig(vocab_size=6, embedding_dim=4))


def transformer() -> TransformerForSequenceClassification:
    return TransformerForSequenceClassification(TransformerConfig(vocab_size=6, hidden_size=4, num_attention_heads=2))


def write(tmp_path: Path, content: str | bytes, name: str = "vectors.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(model: PreTrainedModel) -> Tensor:
    embedding: Any = model.get_input_embeddings()
    weight: Tensor = embedding.weight.detach().clone()
    return weight


def check(model: PreTrainedModel, before: Tensor, tokenizer: PreTrainedTokenizerFast, expected: dict[str, Any]) -> None:
    """Asserts that exactly the rows of the words in `expected` changed."""
    after, vocab = table(model), tokenizer.get_vocab()
    for word, vector in expected.items():
        assert torch.equal(after[vocab[word]], torch.tensor(vector)), word
    others = [row for row in range(len(after)) if row not in {vocab[word] for word in expected}]
    assert torch.equal(after[others], before[others])


@pytest.mark.parametrize("make_model", [fasttext, textrnn, transformer])
def test_words_in_the_file_get_its_vectors_and_others_keep_their_initial_values(
    make_model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = make_model()
    before = table(model)
    assert load_word_vectors(model, tokenizer, write(tmp_path, GLOVE)) == ({2, 3}, 4)
    check(model, before, tokenizer, EXPECTED)
    assert not table(model)[0].any()
    assert model.get_input_embeddings().weight.requires_grad


@pytest.mark.parametrize(
    "content",
    [
        GLOVE,
        GLOVE.rstrip("\n"),
        "3 4\n" + GLOVE,  # word2vec, fastText
        "3 4\n" + GLOVE.replace("\n", " \n"),  # lines of word2vec end with a blank
        GLOVE.replace("\n", "\r\n"),
        ". . 7 7 7 7\n" + GLOVE,  # a word with blanks in the first line
        "at 1999 a 7 7 7 7\n" + GLOVE,
        "1999 7 7 7 7\n" + GLOVE,
        "\ufeff" + GLOVE,  # a byte order mark
        "\ufeff3 4\n" + GLOVE,
        GLOVE + "dog . . 7 7 7 7\ncafe name@domain.com 8 8 8 8\n",  # GloVe 840B
        GLOVE + "a\u2028b 7 7 7 7\na\x85b 7 7 7 7\n\xa0 7 7 7 7\n",
        GLOVE + "cat 8 8 8 8\n",  # the first of two lines counts
        GLOVE + "[PAD] 8 8 8 8\n[UNK] 8 8 8 8\n",
    ],
)
def test_every_format_of_the_file_is_read(content: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = fasttext()
    before = table(model)
    assert load_word_vectors(model, tokenizer, write(tmp_path, content)) == ({2, 3}, 4)
    check(model, before, tokenizer, EXPECTED)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_gz_file_is_read_as_gzip(as_text: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = fasttext()
    before = table(model)
    path = write(tmp_path, gzip.compress(GLOVE.encode()), "vectors.txt.gz")
    load_word_vectors(model, tokenizer, str(path) if as_text else path)
    check(model, before, tokenizer, EXPECTED)


def test_the_exact_word_takes_precedence_over_other_spellings(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = fasttext()
    before = table(model)
    spellings = ["The", "the", "THE", "Caf\u00e9", "CAF\u00c9", "Dog", "cat", "CAT"]
    content = "".join(f"{word} {i} {i} {i} {i}\n" for i, word in enumerate(spellings, start=1))
    assert load_word_vectors(model, tokenizer, write(tmp_path, content)) == ({2, 3, 4, 5}, 4)
    check(model, before, tokenizer, {"the": [2.0] * 4, "caf\u00e9": [4.0] * 4, "dog": [6.0] * 4, "cat": [7.0] * 4})


def test_a_file_without_words_of_the_vocabulary_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = fasttext()
    before = table(model)
    message = (
        r"^word_vectors must have words of the training texts, got .*vectors\.txt, which has none of their 4: choose"
    )
    with pytest.raises(ValueError, match=message):
        load_word_vectors(model, tokenizer, write(tmp_path, "zebra 9 9 9 9\n"))
    check(model, before, tokenizer, {})


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
def test_the_file_is_streamed(name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    content = (GLOVE * 20_000).encode()  # 900 kB
    path = write(tmp_path, gzip.compress(content, 1) if name.endswith("gz") else content, name)
    model = fasttext()
    tracemalloc.start()
    load_word_vectors(model, tokenizer, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 450_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"must have at least one word, got an empty file"),
        ("3 4\n", r"must have at least one word, got an empty file"),
        ("the 1 2 3\n", r"line 1: .* the embedding width of the model, 4 numbers, got 3"),
        ("the 1 2 3 4 5\n", r"line 1: .* the embedding width of the model, 4 numbers, got 5"),
        ("1000 300\nthe 1\n", r"line 1: .* the embedding width of the model, 4 numbers, got 300"),
        ("a line of words that is no vector\n", r"line 1: .* 4 numbers, got 0"),
        (GLOVE + "dog 1 2 3\n", r"line 4: must have 4 numbers, got 3"),
        (GLOVE + "dog 1 2", r"line 4: must have 4 numbers, got 2"),  # truncated
        ("the 1 2 3 4\n\ncat 1 2 3 4\n", r"line 2: must have 4 numbers, got 0"),
        (GLOVE + "dog 1 2 x 4\n", r"line 4: must have 4 numbers, got 'x'"),
        (GLOVE + "dog 1 2 nan 4\n", r"line 4: must have 4 numbers, got 'nan'"),
        (GLOVE + "dog 1 2 3 inf\n", r"line 4: must have 4 numbers, got 'inf'"),
        (GLOVE + "dog 1 2  4\n", r"line 4: must have 4 numbers, got ''"),
        ("4 4\n" + GLOVE, r"must have 4 words as line 1 states, got 3: is it complete\?"),
        ("2 4\n" + GLOVE, r"must have 2 words as line 1 states, got 3: is it complete\?"),
        (GLOVE.encode() + b"d\xffg 1 2 3 4\n", r"line 4: must be UTF-8 text, got byte 0xff at place 2 of the line"),
        (b"2 4\nthe \x00\x00\x80\x3f\n", r"line 2: must be UTF-8 text, got byte 0x80 at place 7 of the line: convert"),
    ],
)
def test_a_malformed_file_is_an_error_and_changes_nothing(
    content: str | bytes, message: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = fasttext()
    before = table(model)
    with pytest.raises(ValueError, match=rf"vectors\.txt: {message}"):
        load_word_vectors(model, tokenizer, write(tmp_path, content))
    assert torch.equal(table(model), before)


@pytest.mark.parametrize(
    "content", [GLOVE.encode(), gzip.compress(GLOVE.encode(), mtime=0)[:-20], b""], ids=["text", "truncated", "empty"]
)
def test_a_damaged_gzip_file_is_an_error(content: bytes, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vectors\.gz: (line \d+: must be a whole gzip file|must have at least one)"):
        load_word_vectors(fasttext(), tokenizer, write(tmp_path, content, "vectors.gz"))


def test_a_missing_file_is_an_error(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        load_word_vectors(fasttext(), tokenizer, tmp_path / "missing.txt")


def test_charcnn_has_no_word_embeddings(tmp_path: Path) -> None:
    model = CharCNNForSequenceClassification(CharCNNConfig(num_frames=123, num_filters=2, dense_size=2))
    with pytest.raises(ValueError, match=r"^model must have word embeddings, got CharCNNFor.*which reads characters"):
        load_word_vectors(model, character_tokenizer(max_length=123), write(tmp_path, GLOVE))


def test_a_tokenizer_with_more_words_than_the_model_is_an_error(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """The n-grams of FastText are in the same table: a word beyond `vocab_size` would land among them."""
    with pytest.raises(ValueError, match=r"^tokenizer must have at most the 5 words of the model, got 6$"):
        load_word_vectors(fasttext(vocab_size=5), tokenizer, write(tmp_path, GLOVE))
