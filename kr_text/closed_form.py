"""The terms of the loss and their gradients in closed form, both from one exponential of each logit.

Autograd gets the same from `log_softmax` and `kl_div`, in several times the time: tests/test_closed_form.py compares.

For a row of class k with logits z, and s row k of S: over the wrong classes, p = softmax(z) is p_res (Eq. 4) and
q = softmax(s) is q_res (Eq. 5); their own column, k, holds 0. With u = logsumexp of the wrong logits - z_k, the network
gives sigmoid(-u) to class k, and p * sigmoid(u) to the others.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class Label(NamedTuple):
    """How much label a row has; numbers where that is the same for all rows and classes."""

    mass: Tensor | None  # (N, 1): on all classes; None for 1
    wrong: Tensor | float  # (N, 1): on all wrong classes together
    each: Tensor | float  # (N, K): on each wrong class


class Terms(NamedTuple):
    """What the loss of a batch is made of; sums are over its rows, in nats, each row weighted."""

    hard: Tensor  # the cross-entropy, a sum
    hard_slope: Tensor  # (N, K): its gradient by the logits
    p: Tensor  # (N, K)
    q: Tensor  # (N, K)
    log_ratio: Tensor  # (N, K): log(p / q)
    weights: Tensor | None  # (N, 1)

    def weigh(self, x: Tensor) -> Tensor:
        """Each row of x (N, K) times its weight."""
        return x if self.weights is None else x * self.weights

    def gap(self) -> Tensor:
        """(N, K): p - q, the gradient of KL(q || p) by the logits, and of -KL(p || q) by the rows of S."""
        return self.weigh(self.p - self.q)

    def p_to_q(self) -> Tensor:
        """KL(p || q), a sum."""
        return dot(self.weigh(self.p), self.log_ratio)

    def q_to_p(self) -> Tensor:
        """KL(q || p), a sum."""
        return -dot(self.weigh(self.q), self.log_ratio)

    def p_to_q_slope(self) -> Tensor:
        """(N, K): the gradient of KL(p || q) by the logits."""
        return self.weigh(self.p * (self.log_ratio - (self.p * self.log_ratio).sum(1, keepdim=True)))

    def q_to_p_slope(self) -> Tensor:
        """(N, K): the gradient of KL(q || p) by the rows of S."""
        return self.weigh(self.q * ((self.q * self.log_ratio).sum(1, keepdim=True) - self.log_ratio))

    def js_divergence(self) -> Tensor:
        """D_JS(p || q), a sum: with m the mean of p and q, log(p/m) = log 2 - softplus(-log(p/q))."""
        p, q = self.weigh(self.p), self.weigh(self.q)
        return p.sum() * math.log(2) - (dot(p, F.softplus(-self.log_ratio)) + dot(q, F.softplus(self.log_ratio))) / 2


def kr_terms(logits: Tensor, residual_matrix: Tensor, labels: Tensor, label: Label, weights: Tensor | None) -> Terms:
    """The terms for logits (N, K) with labels (N,) in 0..K-1, each row of which counts `weights` (N, 1), or 1."""
    own = labels[:, None]
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    z_own = z.gather(1, own)
    log_p = z.scatter(1, own, torch.finfo(z.dtype).min)
    highest = log_p.amax(1, keepdim=True)
    p = log_p.sub_(highest).exp()
    normalizer = p.sum(1, keepdim=True)
    p.div_(normalizer)
    log_normalizer = normalizer.log_()
    log_p.sub_(log_normalizer).scatter_(1, own, 0.0)
    u = highest.sub_(z_own).add_(log_normalizer)  # (N, 1)

    # Eqs. 12, 14: -sum label log prediction, where -log sigmoid(-u) = softplus(u), and -log sigmoid(u) is u less.
    hard, slope = F.softplus(u).add_(u, alpha=0.0), u.sigmoid()  # an infinite logit makes nan
    if label.mass is not None:
        hard.mul_(label.mass)
        slope.mul_(label.mass)
    hard_slope = p * slope
    hard = hard.sum()
    if isinstance(label.each, Tensor):
        hard -= (label.wrong * u).sum() + (label.each * log_p).sum()
        hard_slope -= label.each
    elif label.each:
        hard -= label.wrong * u.sum() + label.each * log_p.sum()
        hard_slope -= label.each
    hard_slope.scatter_(1, own, label.wrong - slope)

    log_q, q = log_residual_labels(residual_matrix.to(z.dtype), labels)
    return Terms(hard, hard_slope, p, q, log_p.sub_(log_q), weights)


def log_residual_labels(residual_matrix: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log q and q of each row, (N, K), both 0 in its own column."""
    lowest = torch.finfo(residual_matrix.dtype).min
    if residual_matrix.shape[0] < labels.shape[0]:
        log_q = residual_matrix.clone().fill_diagonal_(lowest).log_softmax(1)
        q = log_q.exp()
        return log_q.fill_diagonal_(0.0).index_select(0, labels), q.index_select(0, labels)
    own = labels[:, None]
    log_q = residual_matrix.index_select(0, labels).scatter_(1, own, lowest).log_softmax(1)
    q = log_q.exp()
    return log_q.scatter_(1, own, 0.0), q


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of a * b, a scalar."""
    return torch.dot(a.flatten(), b.flatten())


def with_gradient(
    value: Tensor,
    num_items: Tensor | int,
    *,
    logits: Tensor | None = None,
    slope: Tensor | None = None,
    residual_matrix: Tensor | None = None,
    pull: Tensor | None = None,
    labels: Tensor | None = None,
    alpha: float = 1.0,
) -> Tensor:
    """The scalar `value` / `num_items`, with the gradients that are known of it, divided alike.

    By `logits` (N, K) it is `slope` (N, K), by row `labels` (N,) of `residual_matrix` it is -alpha * `pull` (N, K).
    """
    function: Any = _KnownGradient  # whose `apply` has no types in torch
    result: Tensor = function.apply(value, num_items, logits, slope, residual_matrix, pull, labels, alpha)
    return result


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        num_items: Tensor | int,
        logits: Tensor | None,
        slope: Tensor | None,
        residual_matrix: Tensor | None,
        pull: Tensor | None,
        labels: Tensor | None,
        alpha: float,
    ) -> Tensor:
        ctx.save_for_backward(slope, pull, labels)
        ctx.dtypes = [None if x is None else x.dtype for x in (logits, residual_matrix)]
        ctx.num_items, ctx.alpha = num_items, alpha
        return value / num_items

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slope, pull, labels = ctx.saved_tensors
        grad = grad / ctx.num_items
        of_logits = of_matrix = None
        if slope is not None:
            of_logits = (slope * grad).to(ctx.dtypes[0])
        if pull is not None:
            rows = labels[:, None].expand_as(pull)  # scatter_add is the fastest of torch's ways to sum rows by label
            of_matrix = pull.new_zeros(2 * pull.shape[1:])
            of_matrix = of_matrix.scatter_add_(0, rows, pull * (grad * -ctx.alpha)).to(ctx.dtypes[1])
        return None, None, of_logits, None, of_matrix, None, None, None
