from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kr_text.kernels import dispatch
from kr_text.models.fasttext import FastTextConfig, FastTextForSequenceClassification, ngram_ids


@pytest.fixture(params=[True, False], ids=["loops", "operations"], autouse=True)
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs each test with compiled loops and with PyTorch's operations."""
    assert dispatch.HAS_NUMBA
    monkeypatch.setattr(dispatch, "HAS_NUMBA", request.param)


def make_model(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    model: Any = FastTextForSequenceClassification(FastTextConfig(num_labels=3, **kwargs)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def ngram_ids_by_loops(words: list[int], config: FastTextConfig) -> list[int]:
    """Table rows of a text, by fastText's loops over 64-bit integers that wrap around."""
    rows = list(words)
    for n in range(2, config.max_ngram + 1):
        for start in range(len(words) - n + 1):
            hashed = words[start]
            for word in words[start + 1 : start + n]:
                hashed = (hashed * 116_049_371 + word + 2**63) % 2**64 - 2**63
            rows.append(config.vocab_size + hashed % config.num_buckets)
    return rows


def rows_of_texts(texts: list[list[int]], config: FastTextConfig) -> list[list[int]]:
    """Sorted table rows of each text, without padding."""
    words = torch.tensor([word for text in texts for word in text], dtype=torch.long)
    begins = [sum(map(len, texts[:text])) for text in range(len(texts) + 1)]
    ids = ngram_ids(words, torch.tensor(begins[:-1]), config).tolist()
    rows = [[row for word in ids[begin:end] for row in word] for begin, end in pairwise(begins)]
    return [sorted(row for row in text if row != config.pad_token_id) for text in rows]


def test_worked_example_of_ngram_ids() -> None:
    config = FastTextConfig(vocab_size=10, num_buckets=100, max_ngram=3)
    # Modulo 100 the multiplier 116,049,371 is 71. Bigrams: 3 * 71 + 5 = 218 and 5 * 71 + 4 = 359, in buckets 18 and 59.
    # Trigram: 218 * 71 + 4 = 15,482, in bucket 82. The buckets start at row 10.
    assert ngram_ids(torch.tensor([3, 5, 4]), torch.tensor([0]), config).tolist() == [
        [3, 28, 92],
        [5, 69, 0],
        [4, 0, 0],
    ]


def test_worked_example_of_the_mean() -> None:
    model = FastTextForSequenceClassification(
        FastTextConfig(vocab_size=10, num_buckets=100, max_ngram=3, embedding_dim=2)
    )
    with torch.no_grad():
        model.embedding.weight.fill_(1000.0)
        for row, value in zip([3, 5, 4, 28, 69, 92], [1.0, 2.0, 3.0, 4.0, 5.0, 9.0], strict=True):
            model.embedding.weight[row] = torch.tensor([value, -value])
        model.classifier.weight.copy_(torch.eye(2))
        model.classifier.bias.copy_(torch.tensor([0.5, 0.0]))
    # The mean of 1, 2, 3, 4, 5 and 9 is 4.
    assert model(torch.tensor([[3, 5, 4]])).logits.tolist() == [[4.5, -4.0]]


@given(
    words=st.lists(st.integers(1, 29_999), max_size=12),
    max_ngram=st.integers(1, 6),
    num_buckets=st.sampled_from([1, 7, 500_000, 2_000_000]),
)
def test_ngram_ids_agree_with_plain_loops(words: list[int], max_ngram: int, num_buckets: int) -> None:
    config = FastTextConfig(vocab_size=30_000, max_ngram=max_ngram, num_buckets=num_buckets)
    assert rows_of_texts([words], config) == [sorted(ngram_ids_by_loops(words, config))]


@pytest.mark.parametrize("pad_token_id", [0, 7])
def test_no_ngram_extends_into_padding_or_another_text(pad_token_id: int) -> None:
    config = FastTextConfig(vocab_size=30, max_ngram=4, num_buckets=1000, pad_token_id=pad_token_id)
    texts = [[3, 5, 4, 9, 2, 3], [6, 8, 9], [5, 1], [2], []]
    expected = [sorted(ngram_ids_by_loops(text, config)) for text in texts]
    assert rows_of_texts(texts, config) == expected
    assert rows_of_texts([text + [pad_token_id] * (6 - len(text)) for text in texts], config) == expected


@pytest.mark.parametrize("max_ngram", [1, 2, 3])
@pytest.mark.parametrize("pad_token_id", [0, 7])
def test_logits_agree_with_plain_loops(max_ngram: int, pad_token_id: int) -> None:
    model = make_model(vocab_size=30, max_ngram=max_ngram, num_buckets=1000, embedding_dim=4, pad_token_id=pad_token_id)
    texts = [[3, 5, 4, 9, 2, 3], [6, 8, 9], [5, 1], [2]]
    rows = torch.tensor([text + [pad_token_id] * (6 - len(text)) for text in texts])
    expected = []
    for text in texts:
        ids = ngram_ids_by_loops(text, model.config)
        mean = [sum(model.embedding.weight[row, i].item() for row in ids) / len(ids) for i in range(4)]
        weight, bias = model.classifier.weight.tolist(), model.classifier.bias.tolist()
        expected.append(
            [sum(w * m for w, m in zip(weight[k], mean, strict=True)) + bias[k] for k in range(model.config.num_labels)]
        )
    torch.testing.assert_close(model(rows).logits, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_logits_of_an_empty_text_are_the_bias() -> None:
    model = make_model(vocab_size=30, num_buckets=100)
    assert torch.equal(model(torch.zeros(1, 0, dtype=torch.long)).logits[0], model.classifier.bias)


def test_word_order_matters_with_bigrams_but_not_without() -> None:
    text, other = torch.tensor([[3, 5, 4, 9]]), torch.tensor([[4, 9, 3, 5]])
    unigrams = make_model(vocab_size=30, max_ngram=1)
    bigrams = make_model(vocab_size=30, max_ngram=2, num_buckets=1000)
    torch.testing.assert_close(unigrams(text).logits, unigrams(other).logits, rtol=0, atol=1e-12)
    assert not torch.allclose(bigrams(text).logits, bigrams(other).logits)


def test_a_model_of_words_alone_has_no_buckets() -> None:
    assert make_model(vocab_size=30, max_ngram=1, num_buckets=1000).embedding.num_embeddings == 30
    assert make_model(vocab_size=30, max_ngram=2, num_buckets=1000).embedding.num_embeddings == 1030


def test_initial_weights_are_those_of_the_fasttext_library() -> None:
    torch.manual_seed(0)
    model = FastTextForSequenceClassification(FastTextConfig(vocab_size=500, embedding_dim=10, num_buckets=500))
    assert not model.classifier.weight.any()
    assert not model.classifier.bias.any()
    assert 0.099 < model.embedding.weight.abs().max() <= 0.1
    assert model.embedding.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("max_ngram", [1, 2, 3])
def test_flat_texts_give_the_logits_and_gradients_of_padded_texts(max_ngram: int) -> None:
    texts = [[3, 5, 4, 9, 2, 3], [], [6, 8, 9], [5, 1], [2], []]
    rows = torch.tensor([text + [0] * (6 - len(text)) for text in texts])
    words = torch.tensor([word for text in texts for word in text])
    offsets = torch.tensor([sum(map(len, texts[:text])) for text in range(len(texts))])
    padded, flat = (make_model(vocab_size=30, max_ngram=max_ngram, num_buckets=50, embedding_dim=4) for _ in range(2))
    flat.embedding.sparse = True
    logits = padded(rows).logits, flat(words, offsets=offsets).logits
    torch.testing.assert_close(*logits)
    for each in logits:
        each.square().sum().backward()
    gradient = flat.embedding.weight.grad
    assert gradient.is_sparse
    assert (gradient._indices()[0].diff() > 0).all()  # each row once, in order
    torch.testing.assert_close(gradient.to_dense(), padded.embedding.weight.grad)
    torch.testing.assert_close(flat.classifier.weight.grad, padded.classifier.weight.grad)


def test_an_accelerator_reads_no_values_back() -> None:
    """The meta device has shapes but no values."""
    model = make_model(vocab_size=30, num_buckets=50, embedding_dim=4).to("meta")
    logits = model(
        torch.zeros(7, dtype=torch.long, device="meta"), offsets=torch.zeros(3, dtype=torch.long, device="meta")
    )
    assert logits.logits.shape == (3, 3)


# Character n-grams


def model_of_char_ngrams(**kwargs: Any) -> Any:
    """A model whose word 3 has the character n-grams 6 and 7, and word 4 has 8."""
    model = make_model(**{"vocab_size": 10, "max_ngram": 1, "char_ngram": 4, "max_char_ngrams": 3, **kwargs})
    model.char_ngrams[3, :2], model.char_ngrams[4, 0] = torch.tensor([6, 7]), 8
    return model


def test_the_character_ngrams_of_a_word_are_averaged_with_it() -> None:
    model = model_of_char_ngrams()
    table = model.embedding.weight
    mean = table[[3, 6, 7, 4, 8, 5, 3, 6, 7]].mean(dim=0)
    expected = model.classifier(mean)[None].expand(2, -1)
    logits = model(torch.tensor([[3, 4, 5, 3, 0], [3, 4, 5, 3, 0]])).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    flat = model(torch.tensor([3, 4, 5, 3, 3, 4, 5, 3]), offsets=torch.tensor([0, 4])).logits
    torch.testing.assert_close(flat, expected, rtol=0, atol=1e-12)


def test_the_ngrams_of_words_stay_beside_the_character_ngrams() -> None:
    model = model_of_char_ngrams(max_ngram=2, num_buckets=100)
    mean = model.embedding.weight[[3, 6, 7, *ngram_ids_by_loops([3, 4], model.config)[2:], 4, 8]].mean(dim=0)
    torch.testing.assert_close(model(torch.tensor([[3, 4]])).logits[0], model.classifier(mean), rtol=0, atol=1e-12)


def test_the_gradient_reaches_the_character_ngrams() -> None:
    model = model_of_char_ngrams()
    model(torch.tensor([[3, 5]]), labels=torch.tensor([1])).loss.backward()
    assert model.embedding.weight.grad.any(dim=1).nonzero().flatten().tolist() == [3, 5, 6, 7]


def test_a_saved_model_has_the_character_ngrams(tmp_path: Path) -> None:
    model = model_of_char_ngrams()
    model.save_pretrained(tmp_path)
    loaded = FastTextForSequenceClassification.from_pretrained(tmp_path).double()
    assert loaded.char_ngrams is not None
    assert torch.equal(loaded.char_ngrams, model.char_ngrams)
    text = torch.tensor([[3, 4, 5]])
    assert torch.equal(loaded.eval()(text).logits, model.eval()(text).logits)


def test_a_model_without_character_ngrams_is_saved_without_a_table(tmp_path: Path) -> None:
    model = make_model(vocab_size=10, num_buckets=10)
    assert model.config.char_ngram == 0
    assert model.char_ngrams is None
    assert set(model.state_dict()) == {"embedding.weight", "classifier.weight", "classifier.bias"}
    model.save_pretrained(tmp_path)
    assert FastTextForSequenceClassification.from_pretrained(tmp_path).char_ngrams is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"char_ngram": 1}, "^char_ngram must be at least 2, got 1$"),
        ({"max_char_ngrams": 0}, "^max_char_ngrams must be at least 1, got 0$"),
    ],
)
def test_wrong_sizes_of_character_ngrams_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FastTextConfig(**fields)
