from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from kr_text.kernels import dispatch
from kr_text.kernels.rowwise_adagrad import RowwiseAdagrad, sum_by_row, update_rows


@pytest.fixture(params=[True, False], ids=["loops", "operations"], autouse=True)
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs each test with compiled loops and with PyTorch's operations."""
    monkeypatch.setattr(dispatch, "HAS_NUMBA", request.param)


@pytest.fixture(params=[1, 2, 5], ids="{} threads".format)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def table_and_ids() -> tuple[nn.Embedding, Tensor]:
    torch.manual_seed(0)
    return nn.Embedding(10, 3), torch.tensor([[1, 4, 1], [7, 7, 7]])


def test_worked_example() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    optimizer = RowwiseAdagrad([weight], lr=0.5)
    weight.grad = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    optimizer.step()
    size = 12.5**0.5  # root of the mean of 9 and 16
    torch.testing.assert_close(weight.detach(), torch.tensor([[1 - 0.5 * 3 / size, 1 - 0.5 * 4 / size], [2.0, 2.0]]))
    weight.grad = torch.tensor([[6.0, 8.0], [1.0, 1.0]])
    optimizer.step()
    later = 62.5**0.5  # root of 12.5 plus the mean of 36 and 64
    expected = [[1 - 0.5 * 3 / size - 0.5 * 6 / later, 1 - 0.5 * 4 / size - 0.5 * 8 / later], [1.5, 1.5]]
    torch.testing.assert_close(weight.detach(), torch.tensor(expected))


def test_rows_of_one_element_reduce_to_adagrad() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    both = RowwiseAdagrad([ours], lr=0.1), torch.optim.Adagrad([theirs], lr=0.1)
    for _ in range(4):
        ours.grad = torch.randn(5)
        theirs.grad = ours.grad.clone()
        for optimizer in both:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_a_sparse_gradient_gives_the_updates_of_the_dense_one() -> None:
    tables = [table_and_ids()[0] for _ in range(2)]
    ids = table_and_ids()[1]
    tables[0].sparse = True
    each = [RowwiseAdagrad(table.parameters()) for table in tables]
    for step in range(3):
        for table, optimizer in zip(tables, each, strict=True):
            optimizer.zero_grad()
            for rows in ids:  # accumulated
                (table(rows + step).square().sum() * 2).backward()
            optimizer.step()
    torch.testing.assert_close(tables[0].weight, tables[1].weight)
    sums = [optimizer.state[table.weight]["sum"] for table, optimizer in zip(tables, each, strict=True)]
    torch.testing.assert_close(*sums)


def test_rows_without_a_gradient_do_not_change() -> None:
    table, ids = table_and_ids()
    before = table.weight.detach().clone()
    table.sparse = True
    table(ids).sum().backward()
    RowwiseAdagrad(table.parameters()).step()
    moved = (table.weight.detach() != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [1, 4, 7]


def test_sum_by_row_equals_coalesce() -> None:
    table, ids = table_and_ids()
    table.sparse = True
    (table(ids) * torch.randn(2, 3, 3)).sum().backward()
    gradient = table.weight.grad
    assert gradient is not None
    rows, sums = sum_by_row(gradient)
    coalesced = gradient.coalesce()
    assert torch.equal(rows, coalesced.indices()[0])
    torch.testing.assert_close(sums, coalesced.values())


def test_a_loaded_state_continues_the_run() -> None:
    runs = []
    for interrupted in (False, True):
        table, ids = table_and_ids()
        optimizer = RowwiseAdagrad(table.parameters())
        for step in range(4):
            if interrupted and step == 2:
                state = optimizer.state_dict()
                optimizer = RowwiseAdagrad(table.parameters(), lr=1.0)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            table(ids).square().sum().backward()
            optimizer.step()
        runs.append(table.weight)
    assert torch.equal(*runs)


def test_a_negative_learning_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="lr must be at least 0, got -1"):
        RowwiseAdagrad([nn.Parameter(torch.ones(1))], lr=-1.0)


def test_sum_by_row_does_not_copy_distinct_ascending_rows() -> None:
    rows, values = torch.tensor([1, 4, 6]), torch.randn(3, 2)
    gradient = torch.sparse_coo_tensor(rows[None], values, (9, 2), check_invariants=True)
    assert sum_by_row(gradient)[1].data_ptr() == gradient._values().data_ptr()


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 10, 33])
def test_updates_follow_the_equations(dtype: torch.dtype, width: int) -> None:
    table, sums = torch.randn(500, width, dtype=dtype), torch.rand(500, dtype=dtype)
    rows = torch.randperm(500)[:300].sort().values
    gradient = torch.randn(300, width, dtype=dtype)
    expected_sums = sums.index_add(0, rows, gradient.square().mean(1))
    scale = (expected_sums[rows, None] + 1e-3).rsqrt()
    expected = table.index_add(0, rows, gradient * scale, alpha=-0.3)
    update_rows(table, sums, rows, gradient.clone(), 0.3, 1e-3)
    torch.testing.assert_close(sums, expected_sums)
    torch.testing.assert_close(table, expected)
