"""Word vectors in GloVe or word2vec text form -> the word table of FastText, TextRNN and Transformer."""

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


class Coverage(NamedTuple):
    """How many of the vocabulary's words a file has."""

    num_found: int
    num_words: int  # in the vocabulary, without the special tokens


def load_word_vectors(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: str | os.PathLike[str]
) -> Coverage:
    """Fills the rows of the model's word table from a file with one word a line: `word number ... number`.

    That is GloVe's form; word2vec's and fastText's begin with a line `count dim`. A name that ends in `.gz` is read as
    gzip. The file is streamed: memory holds one line and a second table, so that an error leaves the model as it was.

    A word of the file fills the row of the same word of the vocabulary. If the file lacks that, the first word which
    the tokenizer would turn into it (lower case, no accents) does: `Paris` for `paris`. The numbers are copied as they
    are. Words that the file lacks keep their random start, as do `[UNK]` and the n-grams of FastText; the padding row
    stays zero. The table is trained further like any other weight.

    Args:
        model: a model with a table of words; its width must be that of the file.
        tokenizer: the tokenizer of the model, from `word_tokenizer`.
        path: the file, in UTF-8.

    Returns:
        How many words of the vocabulary got a vector, and of how many.

    Raises:
        ValueError: if the model has no word table, the tokenizer has more words than it, or the file is wrong.
    """
    file, table = Path(path), _word_table(model, tokenizer)
    weight = table.weight.detach().clone()
    special = set(tokenizer.all_special_tokens)
    rows = {word: row for word, row in tokenizer.get_vocab().items() if word not in special}
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
    with torch.no_grad():
        table.weight.copy_(weight)
    return Coverage(len(exact | normalized), len(rows))


def _word_table(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> nn.Embedding:
    try:
        table = cast(nn.Embedding, model.get_input_embeddings())
    except NotImplementedError:
        raise ValueError(
            f"model must have a table of words, got {type(model).__name__}, which reads characters: "
            "use FastText, TextRNN or Transformer"
        ) from None
    vocab_size = model.config.vocab_size
    if len(tokenizer) > vocab_size:
        raise ValueError(f"tokenizer must have at most the {vocab_size} words of the model, got {len(tokenizer)}")
    return table


def _lines(file: Path, embedding_dim: int) -> Iterator[tuple[int, str, list[str]]]:
    """(line, word, numbers) of each word; the first line tells the form of the file and the width of its vectors."""
    num_words, count = 0, None
    for line, text in enumerate(_text_lines(file), start=1):
        fields = text.split(" ")
        if line == 1:
            has_header = len(fields) == 2 and all(field.isdecimal() for field in fields)
            dim = int(fields[1]) if has_header else len(fields) - 1
            if dim != embedding_dim:
                rule = f"vectors must have the embedding width of the model, {embedding_dim} numbers"
                raise ValueError(f"{file}: line 1: {rule}, got {dim}")
            if has_header:
                count = int(fields[0])
                continue
        if len(fields) <= embedding_dim:
            raise ValueError(f"{file}: line {line}: must have {embedding_dim} numbers, got {len(fields) - 1}")
        num_words += 1
        yield line, " ".join(fields[:-embedding_dim]), fields[-embedding_dim:]  # GloVe 840B has words with blanks
    if not num_words:
        raise ValueError(f"{file}: must have at least one word, got an empty file")
    if count is not None and num_words != count:
        raise ValueError(f"{file}: must have the {count} words that line 1 says, got {num_words}: is it whole?")


def _text_lines(file: Path) -> Iterator[str]:
    """Lines end at a newline and nowhere else: GloVe has words with other line separators of Unicode in them."""
    line = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for raw in stream:
                line += 1
                yield raw.decode().rstrip("\r\n ")  # word2vec ends its lines with a blank
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
