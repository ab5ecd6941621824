"""Fast word tokenization with a cache of pieces, the text between two blanks; same ids as the tokenizer.

A corpus of millions of words has a few hundred thousand distinct pieces. `tokenizers`, which tokenizes every text from
scratch, takes ten times as long. In Chinese, Japanese, Thai and Lao, which have no blanks between words, a piece also
begins at each letter that always begins a token.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from kr_text.kernels.ragged import Ints, ranges
from kr_text.machine.process import usable_cores
from kr_text.text.scripts import FIRST_LETTER

MARK = "\u2042"  # separates pieces that are tokenized together; a punctuation mark, hence always a separate word
TOGETHER = 256  # pieces tokenized as one text
MAX_KNOWN = 500_000  # pieces in the cache


class Pieces(NamedTuple):
    """Texts split into pieces.

    Attributes:
        distinct: Distinct pieces.
        indices: Indices into `distinct` of the pieces of all texts, concatenated, (num_pieces,).
        counts: Number of pieces in each text, (num_texts,).
    """

    distinct: pa.StringArray
    indices: Ints
    counts: Ints


class Words(NamedTuple):
    """Rows of token ids of different lengths.

    Attributes:
        ids: Ids of all rows, concatenated, (num_tokens,).
        lengths: Number of ids in each row, (num_rows,).
    """

    ids: npt.NDArray[np.int32]
    lengths: Ints


def split_at_blanks(texts: pa.Array) -> Pieces:
    """Splits each text at each blank, and before each `FIRST_LETTER` of a script without blanks, on all cores."""
    num_threads = usable_cores()
    step = max(1, -(-len(texts) // num_threads))
    with ThreadPoolExecutor(num_threads) as pool:
        lists = list(pool.map(_split, (texts[begin : begin + step] for begin in range(0, len(texts), step))))
    pieces = pa.chunked_array([encoded for encoded, _ in lists], pa.dictionary(pa.int32(), pa.string()))
    chunks = pieces.unify_dictionaries().chunks
    if not chunks:
        return Pieces(pa.array([], pa.string()), np.empty(0, np.int64), np.empty(0, np.int64))
    indices = np.concatenate([chunk.indices.to_numpy() for chunk in chunks], dtype=np.int64)
    return Pieces(chunks[0].dictionary, indices, np.concatenate([counts for _, counts in lists], dtype=np.int64))


def _split(texts: pa.Array) -> tuple[pa.DictionaryArray, Ints]:
    if not pc.all(pc.string_is_ascii(texts)).as_py():
        texts = pc.replace_substring_regex(texts, FIRST_LETTER, r" \1")
    lists = pc.split_pattern(texts, " ")
    return lists.flatten().dictionary_encode(), lists.value_lengths().to_numpy()


def count_pieces(batches: Iterable[pa.Array | list[str]]) -> tuple[list[str], Ints]:
    """Distinct pieces of the texts, and the number of occurrences of each."""
    tables = [pa.table({"piece": pa.array([], pa.string()), "count": pa.array([], pa.int64())})]
    for batch in batches:
        pieces = split_at_blanks(pa.array(batch, pa.string()) if isinstance(batch, list) else batch)
        tables.append(pa.table({"piece": pieces.distinct, "count": np.bincount(pieces.indices).astype(np.int64)}))
        if len(tables) > 20:
            tables = [_sum_counts(tables)]
    total = _sum_counts(tables)
    return total["piece"].to_pylist(), total["count"].to_numpy()


def _sum_counts(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).group_by("piece").aggregate([("count", "sum")]).rename_columns(["piece", "count"])


def join_pieces(pieces: list[str]) -> list[str]:
    """Joins pieces to long texts, which `tokenizers` handles faster than many short ones."""
    return [f" {MARK} ".join(pieces[begin : begin + TOGETHER]) for begin in range(0, len(pieces), TOGETHER)]


class WordEncoder:
    """Encoder with the ids of a tokenizer that splits at blanks and looks up words, like `word_tokenizer`.

    Args:
        tokenizer: Tokenizer without padding or truncation.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.marked = Tokenizer.from_str(tokenizer.to_str())
        self.marked.encode_special_tokens = tokenizer.encode_special_tokens  # the string lacks this
        vocab = tokenizer.get_vocab()
        self.mark_id = vocab.setdefault(MARK, len(vocab))
        self.marked.model = type(tokenizer.model)(vocab, unk_token=tokenizer.model.unk_token)  # WordLevel or WordPiece
        self.forget()

    def forget(self) -> None:
        """Empties the cache of pieces."""
        self.places: dict[str, int] = {}
        self.ids = np.empty(0, dtype=np.int32)
        self.offsets = np.zeros(1, dtype=np.int64)  # (number of pieces + 1,)

    def __call__(self, texts: pa.Array) -> Words:
        """Ids of each text."""
        pieces = split_at_blanks(texts)
        if len(self.places) > MAX_KNOWN:
            self.forget()
        distinct = pieces.distinct.to_pylist()
        places = self._places(distinct)
        new = np.flatnonzero(places < 0)
        if len(new):
            self._learn([distinct[index] for index in new.tolist()])
            places[new] = np.arange(len(self.places) - len(new), len(self.places))
        begins = self.offsets[:-1][places][pieces.indices]
        lengths = np.diff(self.offsets)[places][pieces.indices]
        ends = np.concatenate([[0], lengths.cumsum()])[np.concatenate([[0], pieces.counts.cumsum()])]  # per text
        return Words(self.ids.take(ranges(begins, lengths)), np.diff(ends))

    def _places(self, pieces: list[str]) -> Ints:
        """Index into `offsets` of each piece, -1 if it is not in the cache."""
        return np.fromiter(map(self.places.get, pieces, repeat(-1)), np.int64, len(pieces))

    def _learn(self, pieces: list[str]) -> None:
        words = self.words_of_pieces(pieces)
        self.places.update(zip(pieces, range(len(self.places), len(self.places) + len(pieces)), strict=True))
        self.ids = np.concatenate([self.ids, words.ids])
        self.offsets = np.concatenate([self.offsets, self.offsets[-1] + words.lengths.cumsum()])

    def words_of_pieces(self, pieces: list[str]) -> Words:
        """Ids of each piece, without the cache."""
        if any(MARK in piece for piece in pieces):
            encoded = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(pieces)]
            flat = np.fromiter(chain.from_iterable(encoded), np.int32)
            return Words(flat, np.fromiter(map(len, encoded), np.int64, len(encoded)))
        encoded = [[*encoding.ids, self.mark_id] for encoding in self.marked.encode_batch_fast(join_pieces(pieces))]
        flat = np.fromiter(chain.from_iterable(encoded), np.int32)
        marks = np.flatnonzero(flat == self.mark_id)
        return Words(np.delete(flat, marks), np.diff(marks, prepend=-1) - 1)
