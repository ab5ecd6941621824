"""Row-wise Adagrad: an optimizer for embedding tables with sparse gradients."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kr_text.kernels.dispatch import use_compiled_loops


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011) that accumulates one number per row: the mean of the row's squared gradients.

    For a sparse gradient g of a row w of width d, with the row's sum s:

        s <- s + |g|^2 / d
        w <- w - lr g / sqrt(s + eps)

    A step takes time proportional to the rows that have a gradient, whatever the size of the table.
    `torch.optim.Adagrad` accepts sparse gradients too, but keeps a sum per element and runs several times more slowly.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate; the first update of a row has about this root mean square.
        eps: Added to the sum before its square root.
    """

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float = 0.1, eps: float = 1e-10
    ) -> None:
        if lr < 0:
            raise ValueError(f"lr must be at least 0, got {lr}")
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient."""
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
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            update_rows(parameter, state["sum"], *sum_by_row(gradient), lr, eps)
        else:
            gradient = gradient.flatten(1) if gradient.dim() > 1 else gradient[:, None]
            state["sum"] += gradient.square().mean(1)
            parameter -= (gradient * (lr * (state["sum"] + eps).rsqrt())[:, None]).view_as(parameter)


def update_rows(table: Tensor, sums: Tensor, rows: Tensor, gradient: Tensor, lr: float, eps: float) -> None:
    """Updates the rows (R,), each listed once, of `table` (num_rows, width) and `sums` (num_rows,) in place.

    Overwrites `gradient` (R, width); do not use it afterwards.
    """
    if use_compiled_loops(table):
        from kr_text.kernels.rowwise_adagrad_loops import update_rows_in_loops

        return update_rows_in_loops(table, sums, rows, gradient, lr, eps)
    squares = torch.linalg.vector_norm(gradient, dim=1).square_()  # reads the gradient once
    new_sums = sums.index_select(0, rows).add_(squares, alpha=1 / gradient.shape[1])
    sums.index_copy_(0, rows, new_sums)
    update = gradient.mul_((new_sums + eps).rsqrt_()[:, None])
    table.index_copy_(0, rows, table.index_select(0, rows).sub_(update, alpha=lr))


def sum_by_row(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Sums the entries of a sparse gradient by row, like `Tensor.coalesce`, which adds one entry at a time.

    Returns:
        rows: (R,), distinct and ascending.
        sums: (R, width).
    """
    rows, values = gradient._indices()[0], gradient._values()
    if _ascend(rows, values):  # as in FastText's gradient
        return rows, values
    rows, order = rows.sort()
    rows, counts = torch.unique_consecutive(rows, return_counts=True)
    return rows, F.embedding_bag(order, values, counts.cumsum(0) - counts, mode="sum")


def _ascend(rows: Tensor, values: Tensor) -> bool:
    if use_compiled_loops(values):
        from kr_text.kernels.rowwise_adagrad_loops import ascend

        return ascend(rows)
    return bool((rows[1:] > rows[:-1]).all())
