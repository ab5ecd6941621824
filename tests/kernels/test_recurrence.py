import pytest
import torch
from torch import nn

from kr_text.kernels.recurrence import recur, reverse_rows, reversed_indices


def test_reverse_rows_reverses_the_words_and_keeps_the_padding() -> None:
    x = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8], [9, 0, 0, 0, 0], [0, 0, 0, 0, 0]])[:, :, None]
    indices = reversed_indices(5, torch.tensor([3, 5, 1, 0]))
    reversed_rows = reverse_rows(x, indices)
    assert reversed_rows[:, :, 0].tolist() == [[3, 2, 1, 0, 0], [8, 7, 6, 5, 4], [9, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert torch.equal(reverse_rows(reversed_rows, indices), x)


def test_gradients_of_reverse_rows_are_correct() -> None:
    x = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    indices = reversed_indices(5, torch.tensor([3, 5, 0]))
    assert torch.autograd.gradcheck(reverse_rows, (x, indices))
    assert torch.autograd.gradgradcheck(reverse_rows, (x, indices))


@pytest.mark.parametrize(("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_without_bf16_recurs_in_float32(
    monkeypatch: pytest.MonkeyPatch, supported: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    seen = []

    class Cell(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            seen.append((x @ x).dtype)
            return (x,)

    with torch.autocast("cpu", torch.bfloat16):
        recur(Cell(), torch.randn(1, 3, 3))
    assert seen == [dtype]
