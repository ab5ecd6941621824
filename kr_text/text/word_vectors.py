"""Pretrained word vectors in GloVe or word2vec text format, loaded into the word embeddings of a model."""

import codecs
import gzip
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from kr_text.text.char_ngrams import CONTINUES


class Coverage(NamedTuple):
    """Coverage of a vocabulary by a file of word vectors.

    Attributes:
        found: Ids of the words that got a vector.
        num_words: Number of words in the vocabulary, without the special tokens.
    """

    found: set[int]
    num_words: int


def load_word_vectors(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: str | os.PathLike[str]
) -> Coverage:
    """Loads word vectors into the word embeddings of a model, from a file with one word per line.

    A line is `word number ... number` (GloVe). The files of word2vec and fastText start with a line `count dim`. A name
    that ends in `.gz` is read as gzip. The file is streamed into a copy of the embeddings, so that an error leaves the
    model unchanged.

    A word of the vocabulary gets the vector of the same word in the file. If the file lacks it, it gets the vector of
    the first word that the tokenizer normalizes to it (lower case, composed): `Paris` for `paris`. All other words
    keep their random initial values, as do `[UNK]` and the n-grams of FastText; the padding row stays zero. The
    embeddings are trained like any other weight.

    Args:
        model: Model with word embeddings of the same width as the file.
        tokenizer: Tokenizer of the model, from `word_tokenizer`.
        path: File of word vectors, in UTF-8.

    Returns:
        The words in the vocabulary that got a vector, and the number of words in the vocabulary.

    Raises:
        ValueError: If the model has no word embeddings, the tokenizer has more words than the model, the file has no
            word of the vocabulary, or it is malformed, with its line.
    """
    file, table = Path(path), _word_table(model, tokenizer)
    weight = table.weight.detach().clone()
    special = set(tokenizer.all_special_tokens)
    vocab = tokenizer.get_vocab().items()
    rows = {word: row for word, row in vocab if word not in special and not word.startswith(CONTINUES)}
    normalizer = tokenizer.backend_tokenizer.normalizer
    exact: set[int] = set()
    normalized: set[int] = set()
    for line, word, numbers in _lines(file, table.embedding_dim):
        row, seen = rows.get(word), exact
        if row is None and normalizer is not None:
            row, seen = rows.get(normalizer.normalize_str(word)), normalized
        if row is None or row in exact or row in seen:
            continue
        weight[row] = torch.tensor(_floats(numbers, f"{file}: line {line}"))
        seen.add(row)
    found = exact | normalized
    if not found:
        raise ValueError(
            f"word_vectors must have words of the training texts, got {file}, which has none of their {len(rows):,}: "
            "choose vectors of the same language"
        )
    with torch.no_grad():
        table.weight.copy_(weight)
    return Coverage(found, len(rows))


def _word_table(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> nn.Embedding:
    try:
        table = cast(nn.Embedding, model.get_input_embeddings())
    except NotImplementedError:
        raise ValueError(
            f"model must have word embeddings, got {type(model).__name__}, which reads characters: "
            "use FastText, TextRNN or Transformer"
        ) from None
    vocab_size = model.config.vocab_size
    if len(tokenizer) > vocab_size:
        raise ValueError(f"tokenizer must have at most the {vocab_size} words of the model, got {len(tokenizer)}")
    return table


def _lines(file: Path, embedding_dim: int) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, word and numbers of each line; the first line determines the format and the vector width."""
    num_words, count = 0, None
    for line, text in enumerate(_text_lines(file), start=1):
        fields = text.split(" ")
        if line == 1:
            has_header = len(fields) == 2 and all(field.isdecimal() for field in fields)
            dim = int(fields[1]) if has_header else _num_numbers(fields)
            if dim != embedding_dim:
                rule = f"vectors must have the embedding width of the model, {embedding_dim} numbers"
                raise ValueError(f"{file}: line 1: {rule}, got {dim}")
            if has_header:
                count = int(fields[0])
                continue
        if len(fields) <= embedding_dim:
            raise ValueError(f"{file}: line {line}: must have {embedding_dim} numbers, got {len(fields) - 1}")
        num_words += 1
        yield line, " ".join(fields[:-embedding_dim]), fields[-embedding_dim:]  # words of GloVe 840B contain blanks
    if not num_words:
        raise ValueError(f"{file}: must have at least one word, got an empty file")
    if count is not None and num_words != count:
        raise ValueError(f"{file}: must have {count} words as line 1 states, got {num_words}: is it complete?")


def _num_numbers(fields: list[str]) -> int:
    """Count of numbers at the end of a line. The word before them may contain blanks, and may itself be a number."""
    others = [place for place, field in enumerate(fields) if not _is_number(field)]
    return len(fields) - 1 - max(others, default=0)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _text_lines(file: Path) -> Iterator[str]:
    """Lines of the file, split only at newlines: words of GloVe contain other Unicode line separators."""
    line = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for raw in stream:
                line += 1
                text = raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw
                yield text.decode().rstrip("\r\n ")  # lines of word2vec end with a blank
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x} at place {error.start + 1} of the line"
        raise ValueError(f"{file}: line {line}: must be UTF-8 text, got {got}: convert a binary file to text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file}: line {line + 1}: must be a whole gzip file, got: {error}") from None


def _floats(numbers: list[str], where: str) -> list[float]:
    values = []
    for number in numbers:
        try:
            values.append(float(number))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise ValueError(f"{where}: must have {len(numbers)} numbers, got {number!r}")
    return values
