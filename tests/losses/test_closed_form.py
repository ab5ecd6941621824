"""The terms in closed form against the same terms as autograd makes them from log_softmax, on fresh random inputs."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kr_text import KRLoss


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(1)


def plain_terms(criterion: KRLoss, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Hard, residual, update and D_JS, means over the rows that count, with each own column left out."""
    logits, num_labels = logits.float(), criterion.num_labels
    kept = labels != criterion.ignore_index
    logits, labels = logits[kept], labels[kept]
    weights = torch.ones(num_labels) if criterion.class_weights is None else criterion.class_weights
    wrong_classes = torch.tensor([[j for j in range(num_labels) if j != label] for label in labels.tolist()])
    log_p = logits.gather(1, wrong_classes).log_softmax(1)
    log_q = criterion.residual_matrix[labels].gather(1, wrong_classes).log_softmax(1)
    log_mean = torch.log((log_p.exp() + log_q.exp()) / 2)
    update, residual = kl_divergence(log_p.detach(), log_q), kl_divergence(log_q.detach(), log_p)
    if criterion.divergence == "as_printed":
        update, residual = kl_divergence(log_q, log_p.detach()), kl_divergence(log_p, log_q.detach())
    rows = weights[labels] / weights[labels].sum()
    smoothing = criterion.label_smoothing
    if criterion.smoothing == "wrong_classes":
        smoothing *= num_labels / (num_labels - 1)
    return {
        "hard": F.cross_entropy(logits, labels, weights, label_smoothing=smoothing),
        "residual": residual @ rows,
        "update": update @ rows,
        "js_divergence": (kl_divergence(log_p, log_mean) + kl_divergence(log_q, log_mean)) @ rows / 2,
    }


def gradients(loss: Tensor, criterion: KRLoss, logits: Tensor) -> list[Tensor]:
    return list(
        torch.autograd.grad(
            loss, [logits, criterion.residual_matrix], retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )


@pytest.mark.parametrize(("num_rows", "num_labels"), [(64, 5), (7, 40)])  # rows of S: for all classes, for the labels
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing": 0.2}, {"label_smoothing": 0.2, "smoothing": "wrong_classes"}]
)
@pytest.mark.parametrize("divergence", ["label_first", "as_printed"])
def test_equals_autograd(
    num_rows: int, num_labels: int, ignored: bool, weighted: bool, settings: dict[str, Any], divergence: str
) -> None:
    logits, labels = torch.randn(num_rows, num_labels, requires_grad=True), torch.randint(num_labels, (num_rows,))
    if ignored:
        labels[::3] = -100
    weights = torch.rand(num_labels) + 0.1 if weighted else None
    criterion = KRLoss(num_labels, alpha=0.7, class_weights=weights, divergence=divergence, **settings)
    torch.nn.init.normal_(criterion.residual_matrix)
    parts, plain = criterion.parts(logits, labels), plain_terms(criterion, logits, labels)
    for name, expected in plain.items():
        torch.testing.assert_close(getattr(parts, name), expected.detach() if name == "js_divergence" else expected)
    for name in ("hard", "residual", "update"):
        torch.testing.assert_close(
            gradients(getattr(parts, name), criterion, logits), gradients(plain[name], criterion, logits)
        )
    total = plain["hard"] + 0.7 * (plain["residual"] + plain["update"])
    torch.testing.assert_close(criterion(logits, labels), total)
    torch.testing.assert_close(
        gradients(criterion(logits, labels), criterion, logits), gradients(total, criterion, logits)
    )
    loss, matrix_gradient, terms = criterion.training_step(logits, labels)
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(
        [gradients(loss, criterion, logits)[0], matrix_gradient], gradients(total, criterion, logits)
    )
    torch.testing.assert_close(terms, torch.stack(list(plain.values())))
    assert not gradients(loss, criterion, logits)[1].any()


def test_leaves_the_logits_as_they_are() -> None:
    logits, labels = torch.randn(6, 4), torch.randint(4, (6,))
    before = logits.clone()
    KRLoss(4, label_smoothing=0.1)(logits, labels)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("num_rows", [9, 3])  # classes first, and rows first
def test_class_weights_may_be_of_another_precision(num_rows: int) -> None:
    logits, labels = torch.randn(num_rows, 4, requires_grad=True), torch.randint(4, (num_rows,))
    weights = torch.rand(4, dtype=torch.float64) + 0.1
    criterion = KRLoss(4, label_smoothing=0.1, class_weights=weights)
    expected = F.cross_entropy(logits, labels, weights.float(), label_smoothing=0.1)
    torch.testing.assert_close(criterion.parts(logits, labels).hard, expected, check_dtype=False)
    criterion(logits, labels).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.float32
