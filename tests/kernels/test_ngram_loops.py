"""FastText's compiled loops against PyTorch's operations, on random texts."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kr_text.kernels import dispatch
from kr_text.kernels.ngram_loops import NgramSizes, mean_bags, table_gradient
from kr_text.models.fasttext import FastTextConfig, FastTextForSequenceClassification

SIZES = NgramSizes(vocab_size=30, num_buckets=1000, max_ngram=2, pad_token_id=0)


@pytest.fixture(params=[1, 2, 5], ids="{} threads".format)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def random_texts(num_texts: int, vocab_size: int, pad: int) -> tuple[Tensor, Tensor]:
    """Words and offsets; some texts are empty, and most end with padding."""
    lengths = torch.randint(0, 60, (num_texts,))
    texts = [torch.randint(8, vocab_size, (length,)) for length in lengths.tolist()]
    for text in texts:
        text[torch.randint(len(text) + 1, ()) :] = pad
    return torch.cat(texts), lengths.cumsum(0) - lengths


def fill_char_ngrams(table: Tensor, pad: int) -> None:
    """Random character n-grams of each word, 0 to all that have a place, then padding."""
    num_words, width = table.shape
    table.random_(8, num_words)
    counts = torch.randint(0, width + 1, (num_words, 1))
    counts[pad] = 0
    table.masked_fill_(torch.arange(width) >= counts, pad)


def mean_and_gradient(
    monkeypatch: pytest.MonkeyPatch, loops: bool, sparse: bool, words: Tensor, offsets: Tensor, **sizes: Any
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    model: Any = FastTextForSequenceClassification(FastTextConfig(**sizes)).double()
    nn.init.normal_(model.embedding.weight)
    if model.char_ngrams is not None:
        fill_char_ngrams(model.char_ngrams, model.config.pad_token_id)
    model.embedding.sparse = sparse
    monkeypatch.setattr(dispatch, "HAS_NUMBA", loops)
    means = model.mean_embedding(words, offsets)
    (means * torch.arange(means.numel()).view_as(means).cos()).sum().backward()
    return means.detach(), model.embedding.weight.grad


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("max_ngram", [1, 2, 4])
@pytest.mark.parametrize("char_ngram", [0, 4])
@pytest.mark.parametrize("pad", [0, 7])
def test_means_and_gradients_equal_pytorchs_operations(
    monkeypatch: pytest.MonkeyPatch, sparse: bool, max_ngram: int, char_ngram: int, pad: int
) -> None:
    words, offsets = random_texts(300, 200, pad)
    sizes: dict[str, int] = {
        "vocab_size": 200,
        "num_buckets": 3000,
        "max_ngram": max_ngram,
        "pad_token_id": pad,
        "embedding_dim": 11,
    }
    sizes |= {"char_ngram": char_ngram, "max_char_ngrams": 5}
    both = [mean_and_gradient(monkeypatch, loops, sparse, words, offsets, **sizes) for loops in (True, False)]
    torch.testing.assert_close(both[0][0], both[1][0])
    gradients = [gradient.to_dense() for _, gradient in both]
    assert gradients[0].any()
    torch.testing.assert_close(*gradients)
    assert both[0][1].is_sparse == sparse


def test_a_sparse_gradient_lists_each_row_once_in_order() -> None:
    words, offsets = random_texts(300, 30, 0)
    means, bags = mean_bags(torch.randn(1030, 4), words, offsets, SIZES)
    rows = table_gradient(bags, torch.randn_like(means), 1030)._indices()[0]
    assert (rows.diff() > 0).all()
    assert len(rows) > 500


@pytest.mark.parametrize(
    ("words", "offsets", "message"),
    [
        ([1, 30], [0], "input_ids must be in 0..29, got 30"),
        ([1, -2], [0], "input_ids must be in 0..29, got -2"),
        ([1, 2], [0, 3], "offsets must ascend from 0 to at most 2, the number of words"),
        ([1, 2], [1, 0], "offsets must ascend from 0 to at most 2"),
        ([1, 2], [-1, 0], "offsets must ascend from 0 to at most 2"),
    ],
)
def test_a_word_or_an_offset_out_of_range_is_refused(words: list[int], offsets: list[int], message: str) -> None:
    with pytest.raises(IndexError, match=message):
        mean_bags(torch.randn(1030, 4), torch.tensor(words), torch.tensor(offsets), SIZES)
