"""The loops against the same from PyTorch's operations, on fresh random inputs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kr_text import kernels
from kr_text.kernels.row_loops import adagrad_rows, cut, mean_bags, table_gradient
from kr_text.models.fasttext import FastTextConfig, FastTextForSequenceClassification

SIZES: dict[str, Any] = {"vocab_size": 30, "num_buckets": 1000, "max_ngram": 2, "pad_token_id": 0}


@pytest.fixture(params=[1, 2, 5], ids="{} threads".format)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def random_texts(num_texts: int, vocab_size: int, pad: int) -> tuple[Tensor, Tensor]:
    """Words and offsets; some texts are empty, and most have padding behind them."""
    lengths = torch.randint(0, 60, (num_texts,))
    texts = [torch.randint(8, vocab_size, (length,)) for length in lengths.tolist()]
    for text in texts:
        text[torch.randint(len(text) + 1, ()) :] = pad
    return torch.cat(texts), lengths.cumsum(0) - lengths


def mean_and_gradient(
    monkeypatch: pytest.MonkeyPatch, loops: bool, sparse: bool, words: Tensor, offsets: Tensor, **sizes: Any
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    model: Any = FastTextForSequenceClassification(FastTextConfig(**sizes)).double()
    nn.init.normal_(model.embedding.weight)
    model.embedding.sparse = sparse
    monkeypatch.setattr(kernels, "HAS_NUMBA", loops)
    means = model.mean_embedding(words, offsets)
    (means * torch.arange(means.numel()).view_as(means).cos()).sum().backward()
    return means.detach(), model.embedding.weight.grad


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("max_ngram", [1, 2, 4])
@pytest.mark.parametrize("pad", [0, 7])
def test_means_and_gradients_are_those_of_operations(
    monkeypatch: pytest.MonkeyPatch, sparse: bool, max_ngram: int, pad: int
) -> None:
    words, offsets = random_texts(300, 200, pad)
    sizes = {"vocab_size": 200, "num_buckets": 3000, "max_ngram": max_ngram, "pad_token_id": pad, "embedding_dim": 11}
    both = [mean_and_gradient(monkeypatch, loops, sparse, words, offsets, **sizes) for loops in (True, False)]
    torch.testing.assert_close(both[0][0], both[1][0])
    gradients = [gradient.to_dense() for _, gradient in both]
    assert gradients[0].any()
    torch.testing.assert_close(*gradients)
    assert both[0][1].is_sparse == sparse


def test_a_sparse_gradient_has_each_row_once_in_order() -> None:
    words, offsets = random_texts(300, 30, 0)
    means, bags = mean_bags(torch.randn(1030, 4), words, offsets, **SIZES)
    rows = table_gradient(bags, torch.randn_like(means), 1030)._indices()[0]
    assert (rows.diff() > 0).all()
    assert len(rows) > 500


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 10, 33])
def test_adagrad_is_that_of_operations(dtype: torch.dtype, width: int) -> None:
    table, squares = torch.randn(500, width, dtype=dtype), torch.rand(500, dtype=dtype)
    rows = torch.randperm(500)[:300].sort().values
    gradient = torch.randn(300, width, dtype=dtype)
    expected_squares = squares.index_add(0, rows, gradient.square().mean(1))
    scale = (expected_squares[rows, None] + 1e-3).rsqrt()
    expected = table.index_add(0, rows, gradient * scale, alpha=-0.3)
    adagrad_rows(table, squares, rows, gradient, 0.3, 1e-3)
    torch.testing.assert_close(squares, expected_squares)
    torch.testing.assert_close(table, expected)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=50))
def test_pieces_are_cut_as_slices_are(pieces: list[tuple[int, int]]) -> None:
    source = np.arange(50, dtype=np.int32)
    begins, lengths = (np.array([piece[part] for piece in pieces], dtype=np.int64) for part in (0, 1))
    expected = [number for begin, length in pieces for number in source[begin : begin + length].tolist()]
    assert cut(source, begins, lengths).tolist() == expected


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
def test_nothing_outside_the_table_is_read(words: list[int], offsets: list[int], message: str) -> None:
    with pytest.raises(IndexError, match=message):
        mean_bags(torch.randn(1030, 4), torch.tensor(words), torch.tensor(offsets), **SIZES)
