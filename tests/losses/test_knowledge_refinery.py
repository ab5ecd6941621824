"""KRLoss against the paper: Algorithm 1 in plain Python, worked examples, gradients, properties and limits."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from kr_text.losses.knowledge_refinery import DIVERGENCES, SMOOTHINGS, KRLoss, KRLossParts, kr_terms, wrong_classes
from kr_text.losses.schedules import Constant, Truncated
from loss_cases import WEIGHTS, K, both_divergences, criterion_with, kl, random_batch, softmax

properties = settings(max_examples=30)


def smooth_label(k: int, num_labels: int, eps: float, smoothing: str) -> list[float]:
    share = eps / num_labels if smoothing == "uniform" else eps / (num_labels - 1)
    label = [share] * num_labels
    label[k] = 1 - share * (num_labels - 1)
    return label


def algorithm_1(
    logits: list[list[float]],
    labels: list[int],
    s: list[list[float]],
    *,
    alpha: float,
    label_smoothing: float,
    divergence: str,
    smoothing: str,
    class_weights: list[float] | None,
    ignore_index: int,
) -> list[float]:
    """Hard, residual, update and total, lines 3-10: means over the counted rows."""
    hard = residual = update = count = 0.0
    for z, k in zip(logits, labels, strict=True):
        if k == ignore_index:
            continue
        weights = class_weights or [1.0] * len(z)
        p = softmax(z)
        q = smooth_label(k, len(z), label_smoothing, smoothing)
        p_res = softmax([z[i] for i in range(len(z)) if i != k])
        q_res = softmax([s[k][i] for i in range(len(z)) if i != k])
        hard += weights[k] * sum(-q_i * math.log(p_i) for q_i, p_i in zip(q, p, strict=True))
        as_printed = divergence == "as_printed"
        update += weights[k] * (kl(q_res, p_res) if as_printed else kl(p_res, q_res))
        residual += weights[k] * (kl(p_res, q_res) if as_printed else kl(q_res, p_res))
        count += weights[k]
    total = hard + alpha * (residual + update)
    return [hard / count, residual / count, update / count, total / count]


@both_divergences
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_agrees_with_algorithm_1_in_plain_python(
    divergence: str, smoothing: str, label_smoothing: float, class_weights: list[float] | None, ignore_index: int
) -> None:
    logits, labels, s = random_batch()
    labels[[0, 5]] = ignore_index
    options: dict[str, Any] = {
        "label_smoothing": label_smoothing,
        "divergence": divergence,
        "smoothing": smoothing,
        "ignore_index": ignore_index,
    }
    expected = algorithm_1(
        logits.tolist(), labels.tolist(), s.tolist(), alpha=0.7, class_weights=class_weights, **options
    )
    weights = None if class_weights is None else torch.tensor(class_weights)
    criterion = criterion_with(s, alpha=0.7, class_weights=weights, **options)
    parts = criterion.parts(logits, labels)
    assert [part.item() for part in parts[:4]] == pytest.approx(expected, rel=1e-12)
    assert criterion(logits, labels).item() == pytest.approx(parts.total.item(), rel=1e-14)
    tokens = criterion.parts(logits.view(3, 4, K), labels.view(3, 4))
    assert [part.item() for part in tokens[:4]] == pytest.approx(expected, rel=1e-12)


def test_the_terms_of_each_row_are_those_of_the_loss_of_one_row() -> None:
    logits, labels, s = random_batch()
    terms = kr_terms(logits, labels, s, label_smoothing=0.1, class_weights=torch.tensor(WEIGHTS))
    assert [term.shape for term in terms] == [(12,)] * 4
    criterion = criterion_with(s, label_smoothing=0.1, class_weights=torch.tensor(WEIGHTS))
    for row in range(12):
        parts = criterion.parts(logits[[row]], labels[[row]], num_items=1)
        expected = torch.stack((*parts[:3], parts.js_divergence)).detach()
        torch.testing.assert_close(torch.stack(terms)[:, row], expected)


def test_wrong_classes_are_all_but_the_label() -> None:
    assert wrong_classes(torch.tensor([0, 2, 1]), 3).tolist() == [[1, 2], [0, 1], [0, 2]]
    assert wrong_classes(torch.tensor([], dtype=torch.long), 3).shape == (0, 2)


@pytest.mark.parametrize(("smoothing", "eps"), [("uniform", 0.3), ("wrong_classes", 0.2)])
def test_worked_example_by_hand(smoothing: str, eps: float) -> None:
    # Row 1, right class 0: z = ln(4, 3, 1), so p = (4, 3, 1) / 8 and p_res = (3/4, 1/4). S_0 = 0: q_res = (1/2, 1/2).
    #   hard      -ln(1/2)                          = 0.693147
    #   update    3/4 ln(3/2) + 1/4 ln(1/2)         = 0.130812
    #   residual  1/2 ln(2/3) + 1/2 ln 2            = 0.143841
    # Row 2, right class 2: z = ln(1, 1, 6), so p = (1, 1, 6) / 8 and p_res = (1/2, 1/2). S_2 = (ln 4, 0, any): q_res =
    # (4/5, 1/5).
    #   hard      -ln(3/4)                          = 0.287682
    #   update    1/2 ln(5/8) + 1/2 ln(5/2)         = 0.223144
    #   residual  4/5 ln(8/5) + 1/5 ln(2/5)         = 0.192745
    # Means: 0.490415, 0.176978, 0.168293; with alpha = 1 the total is 0.835686, with alpha = 0.5^2 it is 0.576733.
    logits = torch.tensor([[4.0, 3.0, 1.0], [1.0, 1.0, 6.0]]).log()
    labels = torch.tensor([0, 2])
    s = torch.tensor([[7.0, 0.0, 0.0], [5.0, -3.0, 2.0], [math.log(4), 0.0, 9.0]])
    criterion = criterion_with(s, gamma=0.5)
    parts = criterion.parts(logits, labels)
    assert (parts.hard.item(), parts.update.item()) == pytest.approx((0.490415, 0.176978), abs=1e-6)
    assert (parts.residual.item(), parts.total.item()) == pytest.approx((0.168293, 0.835686), abs=1e-6)
    criterion.set_epoch(2)
    assert criterion(logits, labels).item() == pytest.approx(0.576733, abs=1e-6)
    letter = criterion_with(s, divergence="as_printed").parts(logits, labels)  # the two are swapped
    assert (letter.update.item(), letter.residual.item()) == pytest.approx((0.168293, 0.176978), abs=1e-6)
    # Both smooth labels are (8, 1, 1) / 10 in some order. Row 1: (8 ln 2 + ln(8/3) + ln 8) / 10 = 0.860545; row 2:
    # (8 ln(4/3) + ln 8 + ln 8) / 10 = 0.646034; their mean is 0.753290.
    smooth = criterion_with(s, label_smoothing=eps, smoothing=smoothing).parts(logits, labels)
    assert smooth.hard.item() == pytest.approx(0.753290, abs=1e-6)
    assert smooth.update.item() == parts.update.item()


@both_divergences
def test_gradients_have_their_closed_form(divergence: str) -> None:
    logits, labels, s = random_batch(num_rows=5)
    logits.requires_grad_()
    criterion = criterion_with(s, divergence=divergence)
    parts = criterion.parts(logits, labels, num_items=1)  # sums over the rows
    (of_logits,) = torch.autograd.grad(parts.residual, logits)
    (of_s,) = torch.autograd.grad(parts.update, criterion.residual_matrix)
    expected_of_s = torch.zeros(K, K, dtype=torch.float64)
    for row, k in enumerate(labels.tolist()):
        wrong = [i for i in range(K) if i != k]
        p = logits[row, wrong].detach().softmax(0)
        q = s[k, wrong].softmax(0)
        if divergence == "label_first":
            # d/dz of -sum q log p and d/dS_k of -sum p log q, as for a cross-entropy.
            residual, update = p - q, q - p
        else:
            # d/dz KL(p || q): dp_i/dz_j = p_i (1_ij - p_j), so sum_i (log(p_i/q_i) + 1) dp_i/dz_j
            # = p_j (log(p_j/q_j) - KL(p || q)); the same for S_k with p and q swapped.
            residual = p * (torch.log(p / q) - (p * torch.log(p / q)).sum())
            update = q * (torch.log(q / p) - (q * torch.log(q / p)).sum())
        torch.testing.assert_close(of_logits[row, wrong], residual)
        assert of_logits[row, k] == 0
        expected_of_s[k, wrong] += update
    torch.testing.assert_close(of_s, expected_of_s)
    assert (of_s.diagonal() == 0).all()


@both_divergences
def test_gradcheck(divergence: str) -> None:
    logits, labels, s = random_batch(num_rows=4)
    labels[1] = -100
    criterion = criterion_with(s, divergence=divergence, label_smoothing=0.1, class_weights=torch.tensor(WEIGHTS))

    def term(name: str) -> Callable[[Tensor], Tensor]:
        return lambda _: getattr(criterion.parts(logits, labels), name)

    logits.requires_grad_()
    assert torch.autograd.gradcheck(term("hard"), (logits,))
    assert torch.autograd.gradcheck(term("residual"), (logits,))
    assert torch.autograd.gradcheck(term("update"), (criterion.residual_matrix,))


@both_divergences
def test_update_has_a_gradient_by_the_residual_matrix_only_and_the_rest_by_the_logits_only(divergence: str) -> None:
    logits, labels, s = random_batch()
    logits.requires_grad_()
    criterion = criterion_with(s, alpha=0.3, divergence=divergence)
    parts = criterion.parts(logits, labels)
    sources = (logits, criterion.residual_matrix)

    def gradients(part: Tensor) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(part, sources, retain_graph=True, allow_unused=True)

    hard, residual, update, total = (gradients(part) for part in parts[:4])
    assert hard[1] is None
    assert residual[1] is None
    assert update[0] is None
    assert hard[0] is not None
    assert residual[0] is not None
    assert update[1] is not None
    assert total[0] is not None
    assert total[1] is not None
    torch.testing.assert_close(total[0], hard[0] + 0.3 * residual[0])  # Eq. 10
    torch.testing.assert_close(total[1], 0.3 * update[1])  # Eq. 11


def test_a_class_absent_from_the_batch_has_no_gradient_in_its_row() -> None:
    logits, labels, s = random_batch()
    labels[labels == 2] = 1
    criterion = criterion_with(s)
    criterion(logits, labels).backward()
    gradient = criterion.residual_matrix.grad
    assert gradient is not None
    assert (gradient[2] == 0).all()
    assert (gradient[1] != 0).sum() == K - 1


class Batch(NamedTuple):
    logits: Tensor
    labels: Tensor
    s: Tensor


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    num_labels = draw(st.integers(3, 5))
    num_rows = draw(st.integers(1, 4))
    row = st.lists(st.floats(-30, 30), min_size=num_labels, max_size=num_labels)
    logits = draw(st.lists(row, min_size=num_rows, max_size=num_rows))
    labels = draw(st.lists(st.integers(0, num_labels - 1), min_size=num_rows, max_size=num_rows))
    s = draw(st.lists(row, min_size=num_labels, max_size=num_labels))
    return Batch(torch.tensor(logits).double(), torch.tensor(labels), torch.tensor(s).double())


divergences = st.sampled_from(DIVERGENCES)


def assert_same(actual: KRLossParts, expected: KRLossParts) -> None:
    assert [part.item() for part in actual] == pytest.approx([part.item() for part in expected], rel=1e-9, abs=1e-9)


@properties
@given(batches(), divergences)
def test_no_term_is_negative(batch: Batch, divergence: str) -> None:
    criterion = criterion_with(batch.s, divergence=divergence)
    parts = criterion.parts(batch.logits, batch.labels)
    assert min(parts.hard, parts.residual, parts.update, parts.js_divergence) >= -1e-12
    assert parts.js_divergence <= math.log(2) + 1e-12
    assert parts.total >= parts.hard - 1e-12


@properties
@given(batches(), divergences, st.floats(-50, 50))
def test_residual_terms_are_zero_if_p_res_equals_q_res(batch: Batch, divergence: str, shift: float) -> None:
    labels = torch.arange(len(batch.s))
    criterion = criterion_with(batch.s, divergence=divergence)
    logits = batch.s + shift
    parts = criterion.parts(logits, labels)
    assert [part.item() for part in (parts.residual, parts.update, parts.js_divergence)] == pytest.approx(
        [0] * 3, abs=1e-10
    )


@properties
@given(batches(), divergences, st.floats(-50, 50))
def test_a_shift_of_all_logits_changes_nothing(batch: Batch, divergence: str, shift: float) -> None:
    parts = criterion_with(batch.s, divergence=divergence).parts(batch.logits, batch.labels)
    shifted = criterion_with(batch.s - shift, divergence=divergence).parts(batch.logits + shift, batch.labels)
    assert_same(shifted, parts)


@properties
@given(batches(), divergences, st.floats(-50, 50))
def test_residual_terms_depend_on_neither_the_target_logit_nor_the_diagonal(
    batch: Batch, divergence: str, shift: float
) -> None:
    before = criterion_with(batch.s, divergence=divergence).parts(batch.logits, batch.labels)
    logits = batch.logits + shift * F.one_hot(batch.labels, len(batch.s))
    after = criterion_with(batch.s + shift * torch.eye(len(batch.s)), divergence=divergence).parts(logits, batch.labels)
    assert (after.residual, after.update) == (before.residual, before.update)
    criterion = criterion_with(batch.s, divergence=divergence)
    steps = [criterion.training_step(z, batch.labels)[2][1:] for z in (logits, batch.logits)]
    torch.testing.assert_close(steps[0], steps[1])


@properties
@given(batches(), divergences, st.data())
def test_a_permutation_of_the_classes_permutes_the_residual_labels(
    batch: Batch, divergence: str, data: st.DataObject
) -> None:
    order = torch.tensor(data.draw(st.permutations(range(len(batch.s)))))  # new class i was order[i]
    options: dict[str, Any] = {"divergence": divergence, "label_smoothing": 0.1}
    criterion = criterion_with(batch.s, **options)
    permuted = criterion_with(batch.s[order][:, order], **options)
    before = criterion.parts(batch.logits, batch.labels)
    after = permuted.parts(batch.logits[:, order], order.argsort()[batch.labels])
    assert_same(after, before)
    torch.testing.assert_close(permuted.residual_labels(), criterion.residual_labels()[order][:, order])
    (of_s,) = torch.autograd.grad(before.total, criterion.residual_matrix)
    (of_permuted_s,) = torch.autograd.grad(after.total, permuted.residual_matrix)
    torch.testing.assert_close(of_permuted_s, of_s[order][:, order])


@properties
@given(batches())
def test_residual_labels_are_distributions_over_the_wrong_classes(batch: Batch) -> None:
    residual_labels = criterion_with(batch.s).residual_labels()
    torch.testing.assert_close(residual_labels.sum(1), torch.ones(len(batch.s), dtype=torch.float64))
    assert (residual_labels.diagonal() == 0).all()
    assert ((residual_labels > 0) | torch.eye(len(batch.s), dtype=torch.bool)).all()
    assert not residual_labels.requires_grad


def test_residual_labels_start_uniform() -> None:
    torch.testing.assert_close(KRLoss(K).residual_labels(), (1 - torch.eye(K)) / (K - 1))


def test_two_classes_reduce_to_cross_entropy() -> None:
    with pytest.warns(
        UserWarning, match="With 2 classes the residual label has one entry, and every KR term"
    ) as record:
        criterion = KRLoss(2)
    assert [warning.filename for warning in record] == [__file__]
    logits, labels, _ = random_batch(num_labels=2)
    parts = criterion.parts(logits, labels)  # warns only once: pytest turns warnings into errors
    terms = (parts.residual, parts.update, parts.js_divergence)
    assert [term.item() for term in terms] == [0, 0, 0]
    assert parts.total.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-14)
    assert criterion.training_step(logits, labels)[2][1:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"gamma": 0.0}, {"alpha": Truncated(until=0)}])
def test_with_alpha_0_the_loss_is_cross_entropy_from_the_first_epoch(options: dict[str, Any]) -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(s, label_smoothing=0.1, **options)
    loss = criterion(logits.requires_grad_(), labels)
    assert loss == F.cross_entropy(logits, labels, label_smoothing=0.1)
    parts = criterion.parts(logits, labels)
    assert parts.total is parts.hard
    loss.backward()
    assert criterion.residual_matrix.grad is None


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore_index", [-100, -1, 2])
def test_hard_is_cross_entropy_as_in_torch(
    weights: list[float] | None, label_smoothing: float, ignore_index: int
) -> None:
    logits, labels, s = random_batch()
    labels[3] = ignore_index
    weight = None if weights is None else torch.tensor(weights).double()
    criterion = criterion_with(s, label_smoothing=label_smoothing, class_weights=weight, ignore_index=ignore_index)
    expected = F.cross_entropy(logits, labels, weight, ignore_index=ignore_index)
    if label_smoothing:  # torch weighs the entries of a smooth label, not the rows
        counted = labels != ignore_index
        rows = F.cross_entropy(logits[counted], labels[counted], reduction="none", label_smoothing=label_smoothing)
        weights_of_rows = torch.ones_like(rows) if weight is None else weight[labels[counted]]
        expected = (weights_of_rows * rows).sum() / weights_of_rows.sum()
    torch.testing.assert_close(criterion.parts(logits, labels).hard, expected)
    torch.testing.assert_close(criterion.training_step(logits, labels)[2][0], expected)


def test_a_rare_class_of_great_weight_does_not_outweigh_the_label_of_a_common_row() -> None:
    criterion = KRLoss(3, alpha=0.0, label_smoothing=0.1, class_weights=[0.4, 4.0, 18.0])
    logits = torch.zeros(1, 3, requires_grad=True)
    criterion(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.argmin() == 0  # the step raises the logit of class 0 most


@pytest.mark.parametrize("num_labels", [3, 29, 31])  # (K - 1) / K * (K / (K - 1)) is above 1 in floats for 29 and 31
def test_maximal_smoothing_over_the_wrong_classes_gives_the_uniform_label(num_labels: int) -> None:
    logits, labels, s = random_batch(num_labels=num_labels)
    criterion = criterion_with(s, label_smoothing=(num_labels - 1) / num_labels, smoothing="wrong_classes")
    hard = criterion.parts(logits, labels).hard
    torch.testing.assert_close(hard, -logits.log_softmax(1).mean())
    torch.testing.assert_close(criterion.training_step(logits, labels)[2][0], hard)


@both_divergences
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_large_logits_have_finite_losses_and_gradients(divergence: str, dtype: torch.dtype, scale: float) -> None:
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * K).repeat_interleave(K, 0)  # each pattern, each label
    logits = (scale * signs).to(dtype).requires_grad_()
    labels = torch.arange(K).repeat(2**K)
    for s in (torch.zeros(K, K), scale * torch.ones(K, K).triu(), -scale * torch.eye(K).roll(1, 0)):
        criterion = criterion_with(s, divergence=divergence)
        parts = criterion.parts(logits, labels)
        assert torch.stack(parts).isfinite().all()
        loss, of_matrix, terms = criterion.training_step(logits, labels)
        assert all(tensor.isfinite().all() for tensor in (loss, of_matrix, terms))
        for total in (parts.total, criterion(logits, labels)):
            gradients = torch.autograd.grad(total, (logits, criterion.residual_matrix))
            assert all(gradient.isfinite().all() for gradient in gradients)


@both_divergences
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(divergence: str, dtype: torch.dtype) -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(
        s.float(), divergence=divergence, label_smoothing=0.1, class_weights=torch.tensor(WEIGHTS)
    )
    logits = logits.to(dtype)
    expected = criterion.parts(logits.float(), labels)
    expected_step = criterion.training_step(logits.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = criterion.parts(logits, labels)
        step = criterion.training_step(logits, labels)
    for terms in (step, criterion.training_step(logits, labels)):
        assert all(torch.equal(term, other) for term, other in zip(terms, expected_step, strict=True))
    for parts in (under_autocast, criterion.parts(logits, labels)):
        assert [part.dtype for part in parts] == [torch.float32] * 5
        assert parts == expected
    criterion(logits.requires_grad_(), labels).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == dtype


def test_a_residual_matrix_in_half_precision_is_widened_to_float32() -> None:
    logits, labels, s = random_batch()
    rounded = s.bfloat16()
    parts = criterion_with(rounded).parts(logits.bfloat16(), labels)
    assert parts == criterion_with(rounded.float()).parts(logits.bfloat16().float(), labels)


def test_float64_logits_stay_float64_beside_a_float32_residual_matrix() -> None:
    logits, labels, _ = random_batch()
    parts = KRLoss(K).parts(logits, labels)
    assert [part.dtype for part in parts] == [torch.float64] * 5


def test_class_weights_may_be_numbers() -> None:
    logits, labels, _ = random_batch()
    weights = [2, *[1] * (K - 1)]
    assert KRLoss(K, class_weights=weights)(logits, labels) == KRLoss(K, class_weights=torch.tensor(weights).float())(
        logits, labels
    )


@both_divergences
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_a_logit_that_is_not_finite_makes_the_loss_not_finite(divergence: str, value: float, column: int) -> None:
    logits, labels, s = random_batch()
    labels[0] = 0
    logits[0, column] = value
    assert not criterion_with(s, divergence=divergence)(logits, labels).isfinite()
    without_alpha = criterion_with(s, divergence=divergence, alpha=0.0)(logits, labels)
    assert without_alpha.isfinite() == F.cross_entropy(logits, labels).isfinite()


def test_alpha_follows_the_epochs_completed() -> None:
    criterion = KRLoss(K, gamma=0.25)
    assert criterion.alpha == 1
    criterion.set_epoch(2)
    assert criterion.alpha == 0.25**2
    criterion.set_epoch(0.5)
    assert criterion.alpha == 0.5
    assert KRLoss(K).schedule(1) == 0.99
    assert KRLoss(K, alpha=2.5).alpha == 2.5


def test_any_function_of_the_epoch_may_give_alpha() -> None:
    criterion = KRLoss(K, alpha=lambda epoch: 0.5 - epoch / 4)
    assert criterion.alpha == 0.5
    criterion.set_epoch(1)
    assert criterion.alpha == 0.25
    with pytest.raises(ValueError, match=r"^alpha in epoch 3 must be at least 0 and finite, got -0\.25$"):
        criterion.set_epoch(3)
    assert criterion.alpha == 0.25
    criterion.set_epoch(2)
    assert criterion.alpha == 0


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_js_divergence_agrees_with_scipy(weights: list[float] | None) -> None:
    logits, labels, s = random_batch()
    class_weights = None if weights is None else torch.tensor(weights)
    total = count = 0.0
    for z, k in zip(logits, labels.tolist(), strict=True):
        wrong = [i for i in range(K) if i != k]
        weight = 1.0 if weights is None else weights[k]
        total += weight * jensenshannon(z[wrong].softmax(0), s[k, wrong].softmax(0)) ** 2
        count += weight
    criterion = criterion_with(s, class_weights=class_weights)
    js_divergence = criterion.parts(logits.requires_grad_(), labels).js_divergence
    assert js_divergence.item() == pytest.approx(total / count, rel=1e-9)
    assert not js_divergence.requires_grad


def test_the_residual_matrix_is_the_only_parameter_and_the_only_saved_tensor() -> None:
    logits, labels, s = random_batch()
    options: dict[str, Any] = {"label_smoothing": 0.1, "class_weights": torch.tensor(WEIGHTS)}
    fresh = KRLoss(K, **options)
    assert (fresh.residual_matrix == 0).all()
    assert fresh.residual_matrix.shape == (K, K)
    trained = criterion_with(s.float(), **options)
    assert [name for name, _ in trained.named_parameters()] == ["residual_matrix"]
    assert list(trained.state_dict()) == ["residual_matrix"]
    assert fresh(logits, labels) != trained(logits, labels)
    fresh.load_state_dict(trained.state_dict())
    assert fresh(logits, labels) == trained(logits, labels)
    assert copy.deepcopy(trained)(logits, labels) == trained(logits, labels)


def test_the_settings_are_json_and_printed() -> None:
    criterion = KRLoss(3, label_smoothing=0.1, alpha=Constant(0.5), class_weights=torch.ones(3))
    assert json.loads(json.dumps(criterion.settings())) == {
        "num_labels": 3,
        "label_smoothing": 0.1,
        "alpha": "Constant(alpha=0.5)",
        "divergence": "label_first",
        "smoothing": "uniform",
        "class_weights": [1.0, 1.0, 1.0],
        "ignore_index": -100,
    }
    assert repr(criterion).startswith("KRLoss(num_labels=3, label_smoothing=0.1, alpha=Constant(alpha=0.5), ")


def test_settings_contain_the_name_of_a_function_without_its_address() -> None:
    assert KRLoss(3, alpha=math.exp).settings()["alpha"] == "exp"


@both_divergences
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_residual_labels_converge_to_the_mean_of_p_res(divergence: str, optimizer: type[torch.optim.Optimizer]) -> None:
    # Label first, sum_i KL(p_i || q) is minimal if q is the mean of the p_i. As printed, sum_i KL(q || p_i) is minimal
    # if q is their geometric mean, normalised to sum 1.
    logits, labels, _ = random_batch(num_rows=40)
    criterion = KRLoss(K, divergence=divergence).double()
    learning_rate = 8.0 if optimizer is torch.optim.SGD else 0.05
    descent = optimizer([criterion.residual_matrix], lr=learning_rate)  # type: ignore[call-arg]  # SGD or Adam
    for _ in range(200):
        descent.zero_grad()
        criterion(logits, labels).backward()
        descent.step()
    for k in range(K):
        wrong = [i for i in range(K) if i != k]
        log_p_res = logits[labels == k][:, wrong].log_softmax(1)
        mean = log_p_res.exp().mean(0) if divergence == "label_first" else log_p_res.mean(0).softmax(0)
        torch.testing.assert_close(criterion.residual_labels()[k, wrong], mean, atol=1e-3, rtol=0)


def test_as_printed_a_class_with_vanishing_probability_gets_no_gradient_back() -> None:
    # p_res is about (e^-20, 1), q_res = (1/2, 1/2). Label first, the gradient is p - q = -1/2. As printed it is
    # p (log(p/q) - KL), about -20 e^-20.
    logits = torch.tensor([[0.0, -20.0, 0.0]], requires_grad=True)
    pull = {}
    for divergence in DIVERGENCES:
        residual = KRLoss(3, divergence=divergence).parts(logits, torch.tensor([0])).residual
        pull[divergence] = torch.autograd.grad(residual, logits)[0][0, 1].item()
    assert pull["label_first"] == pytest.approx(-0.5)
    assert -1e-6 < pull["as_printed"] < 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_labels": 1}, "num_labels must be at least 2, got 1"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1\.0"),
        ({"label_smoothing": -0.1}, r"label_smoothing must be in \[0, 1\), got -0\.1"),
        ({"label_smoothing": math.nan}, r"label_smoothing must be in \[0, 1\), got nan"),
        ({"alpha": -1}, "alpha must be at least 0 and finite, got -1"),
        ({"alpha": math.nan}, "alpha must be at least 0 and finite, got nan"),
        ({"alpha": lambda epoch: -1}, "alpha in epoch 0 must be at least 0 and finite, got -1"),
        ({"alpha": lambda epoch: math.inf}, "alpha in epoch 0 must be at least 0 and finite, got inf"),
        ({"gamma": 1.5}, r"gamma must be in \[0, 1\], got 1\.5"),
        ({"divergence": "kl"}, "divergence must be one of label_first, as_printed, got 'kl'"),
        ({"smoothing": "none"}, "smoothing must be one of uniform, wrong_classes, got 'none'"),
        (
            {"smoothing": "wrong_classes", "label_smoothing": 0.76},
            r"label_smoothing must be at most \(K - 1\) / K = 0\.75 with smoothing='wrong_classes', .* got 0\.76",
        ),
        ({"class_weights": torch.ones(3)}, r"class_weights must have shape \(4,\), got \(3,\)"),
        ({"class_weights": torch.ones(4, 1)}, r"class_weights must have shape \(4,\), got \(4, 1\)"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        KRLoss(**{"num_labels": K, **arguments})


@both_divergences
def test_runs_on_another_device(divergence: str) -> None:
    logits, labels, _ = random_batch()
    criterion = KRLoss(K, class_weights=torch.tensor(WEIGHTS), divergence=divergence).to("meta")
    loss = criterion(logits.to("meta").requires_grad_(), labels.to("meta"))
    assert (loss.device.type, loss.shape) == ("meta", ())
    loss.backward()
    assert criterion.residual_labels().device.type == "meta"
    assert criterion.parts(logits.to("meta"), labels.to("meta")).js_divergence.device.type == "meta"
    loss, gradient, terms = criterion.training_step(logits.to("meta").requires_grad_(), labels.to("meta"))
    loss.backward()
    assert (gradient.shape, terms.shape, terms.device.type) == ((K, K), (4,), "meta")


@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated")  # the compiler does
@both_divergences
def test_compiles_as_one_graph_and_follows_alpha(divergence: str) -> None:
    logits, labels, s = random_batch()
    labels[0] = -100
    criterion = criterion_with(s, label_smoothing=0.1, gamma=0.5, divergence=divergence)
    compiled = torch.compile(criterion, fullgraph=True, backend="eager")
    for epoch in range(12):  # more than torch's limit of recompilations
        criterion.set_epoch(epoch)
        torch.testing.assert_close(compiled(logits, labels), criterion(logits, labels))
    step = torch.compile(criterion.training_step, fullgraph=True, backend="eager")
    torch.testing.assert_close(step(logits, labels), criterion.training_step(logits, labels))
    parts = torch.compile(criterion.parts, fullgraph=True, backend="eager")
    torch.testing.assert_close(torch.stack(parts(logits, labels)), torch.stack(criterion.parts(logits, labels)))
