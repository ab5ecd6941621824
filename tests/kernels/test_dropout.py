import pytest
import torch

from kr_text.kernels.dropout import Dropout, WordDropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dropped_share_is_p_and_the_rest_is_scaled(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1001, 1003, dtype=dtype)  # not a multiple of four
    y = Dropout(p)(x)
    num_kept, n = int((y != 0).sum()), x.numel()
    deviation = (n * p * (1 - p)) ** 0.5
    assert abs(num_kept - n * (1 - p)) < 4 * deviation
    assert y.dtype == dtype
    torch.testing.assert_close(y[y != 0].float(), torch.full((num_kept,), 1 / (1 - p)), rtol=4e-3, atol=0)


def test_elements_that_share_random_bits_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.3)(torch.ones(400_000, 4)) == 0
    together = dropped.double().T @ dropped.double() / len(dropped)
    expected = torch.full((4, 4), 0.09, dtype=torch.float64).fill_diagonal_(0.3)
    torch.testing.assert_close(together, expected, rtol=0, atol=4 * (0.25 / len(dropped)) ** 0.5)


def test_the_gradient_is_the_mask() -> None:
    x = torch.ones(1000, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_the_seed_decides_what_is_dropped() -> None:
    x, dropout = torch.ones(100), Dropout(0.5)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


def test_limits_of_p_eval_mode_and_empty_tensors() -> None:
    x = torch.randn(5, 3)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(5, 3))
    assert torch.equal(Dropout(0.9).eval()(x), x)
    assert Dropout(0.5)(torch.empty(0, 4)).shape == (0, 4)


def test_word_dropout_replaces_words_but_not_padding_and_only_in_training() -> None:
    torch.manual_seed(0)
    words = torch.randint(2, 50, (300, 400))
    words[:, 300:] = 0
    dropout = WordDropout(0.2, pad_token_id=0, unk_token_id=1)
    result = dropout(words)
    replaced = result == 1
    assert not replaced[:, 300:].any()
    assert abs(int(replaced.sum()) - 0.2 * 90_000) < 4 * (90_000 * 0.2 * 0.8) ** 0.5
    assert torch.equal(result[~replaced], words[~replaced])
    assert torch.equal(dropout.eval()(words), words)
