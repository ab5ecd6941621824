"""An optimizer for tables of which a batch touches few rows."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kr_text.kernels import takes_loops


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011) with one sum of squares for each row of a parameter, the mean over the row.

    Sparse gradients cost what their rows cost, whatever the size of the table: `torch.optim.Adagrad` takes these too,
    with a sum for each number, several times as slowly.

    Args:
        params: parameters or groups of them.
        lr: the learning rate: the first step of a row has about this size.
        eps: added to the sum of squares.
    """

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float = 0.1, eps: float = 1e-10
    ) -> None:
        if lr < 0:
            raise ValueError(f"lr must be at least 0, got {lr}")
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for all rows that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group["lr"], group["eps"])
        return loss

    def _step(self, parameter: Tensor, lr: float, eps: float) -> None:
        state = self.state[parameter]
        if not state:
            state["sum"] = parameter.new_zeros(parameter.shape[:1])
        sums, gradient = state["sum"], parameter.grad
        assert gradient is not None
        if not gradient.is_sparse:
            gradient = gradient.flatten(1) if gradient.dim() > 1 else gradient[:, None]
            sums += gradient.square().mean(1)
            parameter -= (gradient * (lr * (sums + eps).rsqrt())[:, None]).view_as(parameter)
            return
        rows, gradient = sum_by_row(gradient)
        if takes_loops(parameter):
            from kr_text.kernels.row_loops import adagrad_rows

            return adagrad_rows(parameter, sums, rows, gradient, lr, eps)
        squares = torch.linalg.vector_norm(gradient, dim=1).square_()  # in one pass
        touched = sums.index_select(0, rows).add_(squares, alpha=1 / gradient.shape[1])
        sums.index_copy_(0, rows, touched)
        step = gradient.mul_((touched + eps).rsqrt_()[:, None])
        parameter.index_copy_(0, rows, parameter.index_select(0, rows).sub_(step, alpha=lr))


def sum_by_row(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (R,), in order, and the sum for each (R, width) of a sparse gradient that may have rows several times.

    As `Tensor.coalesce`, which takes one row after the other.
    """
    rows, values = gradient._indices()[0], gradient._values()
    if _ascend(rows, values):  # once each, as from FastText
        return rows, values
    rows, order = rows.sort()
    rows, counts = torch.unique_consecutive(rows, return_counts=True)
    return rows, F.embedding_bag(order, values, counts.cumsum(0) - counts, mode="sum")


def _ascend(rows: Tensor, values: Tensor) -> bool:
    if takes_loops(values):
        from kr_text.kernels.row_loops import ascend

        return ascend(rows)
    return bool((rows[1:] > rows[:-1]).all())
