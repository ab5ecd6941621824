"""The terms of the loss and their gradients in closed form.

Autograd gets the same from `log_softmax` and `kl_div`, in several times the time: tests/test_closed_form.py compares.

For a row of class k with logits z, and s row k of S: over the wrong classes, p = softmax(z) is p_res (Eq. 4) and
q = softmax(s) is q_res (Eq. 5); their own column, k, holds 0, and that of their logarithms the least number there is.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FEW_LABELS = 32  # up to which the classes may go first


class Label(NamedTuple):
    """A row's label: `each` on every class, and `sharp` on its own; numbers where they are the same for all rows."""

    sharp: Tensor | float  # (N, 1)
    each: Tensor | float  # (N, 1) or (N, K)
    mass: Tensor | float  # (N, 1): the sum of it all

    def cross_entropy(self, log_softmax: Tensor, own: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """The sum over the rows, and (N, K) minus its gradient by the logits, from log-probabilities (N, K)."""
        sharp, each, mass = (_turned(part, dim) for part in self)
        probabilities = exp(log_softmax)
        if not isinstance(sharp, Tensor) and not isinstance(each, Tensor):
            label = torch.full_like(log_softmax, each).scatter_(dim, own, sharp + each)
            value = dot(label, log_softmax) if each else log_softmax.gather(dim, own).sum()  # 0 * inf would be nan
            return value.neg_(), label.sub_(probabilities)
        log_own = log_softmax.gather(dim, own)
        pull = probabilities.mul_(-mass).scatter_add_(dim, own, torch.zeros_like(log_own).add_(sharp)).add_(each)
        return -(sharp * log_own).sum() - (each * log_softmax).sum(), pull


def _turned(x: Any, dim: int) -> Any:
    return x.t() if isinstance(x, Tensor) and dim == 0 else x


class Terms(NamedTuple):
    """What the loss of a batch is made of; sums are over its rows, in nats, each row weighted.

    What is (N, K) here is (K, N) where `dim`, that of the classes, is 0.
    """

    hard: Tensor  # the cross-entropy, a sum
    hard_pull: Tensor  # (N, K): minus its gradient by the logits
    p: Tensor  # (N, K)
    log_p: Tensor  # (N, K)
    q: Tensor  # (N, K)
    log_q: Tensor  # (N, K), or always (K, K) for all classes where that is less
    labels: Tensor  # (N,)
    weights: Tensor | None  # (N, 1)
    dim: int

    def weigh(self, x: Tensor) -> Tensor:
        """Each row of x (N, K) times its weight."""
        return x if self.weights is None else x * self.weights

    def by_row(self, x: Tensor) -> Tensor:
        """(N, K), whatever `dim` is."""
        return x.t() if self.dim == 0 else x

    @property
    def by_class(self) -> bool:
        """Whether `log_q` has a row for each class, and not for each label."""
        return len(self.log_q) < len(self.labels)

    def take_gap(self) -> Tensor:
        """(N, K): p - q, the gradient of KL(q || p) by the logits, and of -KL(p || q) by the rows of S.

        It comes in the place of `p`, which is gone then.
        """
        return self.weigh(self.p.sub_(self.q))

    def both_ways(self, gap: Tensor, pull: Tensor) -> Tensor:
        """KL(p || q) + KL(q || p), a sum, from `take_gap()` and, as (K, K), its sums by class."""
        if self.by_class:
            return dot(gap, self.log_p) - dot(pull, self.log_q)
        return dot(gap, self.log_p) - dot(gap, self.log_q)

    def log_ratio(self) -> Tensor:
        """(N, K): log(p / q), 0 in each row's own column."""
        return self.log_p - (_rows_of(self.log_q, self.labels, self.dim) if self.by_class else self.log_q)

    def divergences(self, log_ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """KL(p || q), KL(q || p) and D_JS(p || q), sums: with m the mean, log(p/m) = log 2 - softplus(-log(p/q))."""
        p, q = self.weigh(self.p), self.weigh(self.q)
        p_to_q, q_to_p = dot(p, log_ratio), -dot(q, log_ratio)
        softplus = F.softplus(log_ratio)  # and softplus(-x) = softplus(x) - x
        js_divergence = p.sum() * math.log(2) - (dot(p + q, softplus) - p_to_q) / 2
        return p_to_q, q_to_p, js_divergence

    def p_to_q_pull(self, log_ratio: Tensor) -> Tensor:
        """(N, K): minus the gradient of KL(p || q) by the logits."""
        return self.weigh(self.p * ((self.p * log_ratio).sum(self.dim, keepdim=True) - log_ratio))

    def q_to_p_pull(self, log_ratio: Tensor) -> Tensor:
        """(N, K): minus the gradient of KL(q || p) by the rows of S."""
        return self.weigh(self.q * (log_ratio - (self.q * log_ratio).sum(self.dim, keepdim=True)))


def kr_terms(
    logits: Tensor,
    residual_matrix: Tensor,
    own_class: Tensor,
    labels: Tensor,
    label: Label,
    weights: Tensor | None,
) -> Terms:
    """The terms for logits (N, K) with labels (N,) in 0..K-1, each row of which counts `weights` (N, 1), or 1.

    `own_class` (K, K) is true on the diagonal.
    """
    z = widen(logits)
    dim = 0 if classes_go_first(logits) else 1
    if dim == 0:
        z = z.t().contiguous()
    own = labels.unsqueeze(dim)
    hard, hard_pull = label.cross_entropy(z.log_softmax(dim), own, dim)  # Eqs. 12, 14
    log_p = z.scatter(dim, own, torch.finfo(z.dtype).min).log_softmax(dim)
    log_q, q = log_residual_labels(residual_matrix.to(z.dtype), own_class, labels, dim)
    return Terms(hard, hard_pull, exp(log_p), log_p, q, log_q, labels, _turned(weights, dim), dim)


def widen(x: Tensor) -> Tensor:
    """The same in float32, or in float64 as it was."""
    return x if x.dtype == torch.float64 else x.float()


def classes_go_first(logits: Tensor) -> bool:
    """Whether to compute on (K, N) in place of logits (N, K).

    On a CPU a softmax of rows of few numbers takes many times as long as one of few rows: 113 and 7 microseconds for
    2,048 rows of 4 classes.
    """
    num_rows, num_labels = logits.shape
    return logits.device.type == "cpu" and num_labels <= FEW_LABELS and num_rows > num_labels


def log_residual_labels(residual_matrix: Tensor, own_class: Tensor, labels: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Log q, as (N, K), or (K, K) where that is less, and q of each row, (N, K) or where `dim` is 0 (K, N)."""
    lowest = torch.finfo(residual_matrix.dtype).min
    if residual_matrix.shape[0] < labels.shape[0]:
        log_q = residual_matrix.masked_fill(own_class, lowest).log_softmax(1)
        return log_q, _rows_of(exp(log_q), labels, dim)
    own = labels.unsqueeze(1)
    log_q = residual_matrix.index_select(0, labels).scatter_(1, own, lowest).log_softmax(1)
    return log_q, exp(log_q)


def _rows_of(matrix: Tensor, labels: Tensor, dim: int) -> Tensor:
    """(N, K), or where `dim` is 0 (K, N): row k of (K, K) for each label k."""
    return matrix.t().index_select(1, labels) if dim == 0 else matrix.index_select(0, labels)


def exp(x: Tensor) -> Tensor:
    """As `torch.exp`, which on large tensors takes over twice as long on the processor that it was measured on."""
    return x.exp() if x.numel() < 4096 else x.mul(1 / math.log(2)).exp2_()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of a * b, a scalar."""
    return torch.dot(a.view(-1), b.view(-1))


def sum_by_class(x: Tensor, labels: Tensor, dim: int = 1) -> Tensor:
    """(N, K), or where `dim` is 0 (K, N), -> (K, K): the sums for each label. No other of torch's ways is as fast."""
    sums = x.new_zeros(2 * x.shape[dim : dim + 1])
    if dim == 0:
        return sums.scatter_add_(1, labels.expand_as(x), x).t().contiguous()
    return sums.scatter_add_(0, labels.unsqueeze(1).expand_as(x), x)


def divisor(num_items: Tensor | int) -> Tensor | int:
    """What to divide a gradient by: 1 where no label counts. The loss is nan there, and nothing moves."""
    return num_items + (num_items == 0)


def with_gradient(
    value: Tensor,
    num_items: Tensor | int,
    logits: Tensor | None = None,
    logit_pull: Tensor | None = None,
    residual_matrix: Tensor | None = None,
    matrix_pull: Tensor | None = None,
    labels: Tensor | None = None,
    alpha: float = 1.0,
) -> Tensor:
    """The scalar `value` / `num_items`, with the gradients that are known of it, divided alike; 0 where that is 0 / 0.

    By `logits` (N, K) or (..., K) it is -`logit_pull` (N, K). By `residual_matrix` (K, K) it is -alpha * `matrix_pull`
    (K, K), or with `labels` (N,) the sums by label of that, (N, K).
    """
    function: Any = _KnownGradient  # whose `apply` has no types in torch
    result: Tensor = function.apply(value, num_items, logits, logit_pull, residual_matrix, matrix_pull, labels, alpha)
    return result


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        num_items: Tensor | int,
        logits: Tensor | None,
        logit_pull: Tensor | None,
        residual_matrix: Tensor | None,
        matrix_pull: Tensor | None,
        labels: Tensor | None,
        alpha: float,
    ) -> Tensor:
        ctx.save_for_backward(logit_pull, matrix_pull, labels)
        ctx.logits = None if logits is None else (logits.shape, logits.dtype)
        ctx.matrix_dtype = None if residual_matrix is None else residual_matrix.dtype
        ctx.num_items, ctx.alpha = divisor(num_items), alpha
        return value / num_items

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logit_pull, matrix_pull, labels = ctx.saved_tensors
        step = grad / -ctx.num_items
        of_logits = of_matrix = None
        if logit_pull is not None:
            shape, dtype = ctx.logits
            of_logits = (logit_pull * step).reshape(shape).to(dtype)
        if matrix_pull is not None:
            of_matrix = matrix_pull * (step * ctx.alpha)
            of_matrix = (of_matrix if labels is None else sum_by_class(of_matrix, labels)).to(ctx.matrix_dtype)
        return None, None, of_logits, None, of_matrix, None, None, None
