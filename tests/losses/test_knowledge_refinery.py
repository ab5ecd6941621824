import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from kr_text.losses.knowledge_refinery import DIVERGENCES, SMOOTHINGS, KRLoss, KRLossParts
from kr_text.losses.schedules import Constant, Truncated

K = 4
WEIGHTS = [0.5, 2.0, 1.0, 3.0]
both_divergences = pytest.mark.parametrize("divergence", DIVERGENCES)
properties = settings(max_examples=30, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """For tensors this small, threads only wait for one another."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def criterion_with(s: Tensor, **settings: Any) -> KRLoss:
    """A KRLoss with this residual matrix, and of its type."""
    criterion = KRLoss(len(s), **settings).to(s.dtype)
    criterion.load_state_dict({"residual_matrix": s})
    return criterion


def random_batch(num_rows: int = 12, num_labels: int = K, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K), labels (N,) and S (K, K), the floats in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_rows, num_labels, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_labels, (num_rows,), generator=generator)
    s = torch.randn(num_labels, num_labels, generator=generator, dtype=torch.float64)
    return logits, labels, s


def softmax(z: list[float]) -> list[float]:
    total = sum(math.exp(z_i) for z_i in z)
    return [math.exp(z_i) / total for z_i in z]


def kl(p: list[float], q: list[float]) -> float:
    return sum(p_i * math.log(p_i / q_i) for p_i, q_i in zip(p, q, strict=True))


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
    """Hard, residual, update, total: lines 3-10, the mean over the rows that count."""
    hard = residual = update = count = 0.0
    for z, k in zip(logits, labels, strict=True):
        if k == ignore_index:
            continue
        weights = class_weights or [1.0] * len(z)
        p = softmax(z)
        q = smooth_label(k, len(z), label_smoothing, smoothing)
        p_res = softmax([z[i] for i in range(len(z)) if i != k])
        q_res = softmax([s[k][i] for i in range(len(z)) if i != k])
        hard += sum(-w_i * q_i * math.log(p_i) for w_i, q_i, p_i in zip(weights, q, p, strict=True))
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
    # The layout of token classification, (batch, seq_len, K).
    tokens = criterion.parts(logits.view(3, 4, K), labels.view(3, 4))
    assert [part.item() for part in tokens[:4]] == pytest.approx(expected, rel=1e-12)


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
    # To the letter, the two divergences change places.
    letter = criterion_with(s, divergence="as_printed").parts(logits, labels)
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
    parts = criterion.parts(logits, labels, num_items=1)  # the sum over the rows
    (of_logits,) = torch.autograd.grad(parts.residual, logits)
    (of_s,) = torch.autograd.grad(parts.update, criterion.residual_matrix)
    expected_of_s = torch.zeros(K, K, dtype=torch.float64)
    for row, k in enumerate(labels.tolist()):
        wrong = [i for i in range(K) if i != k]
        p = logits[row, wrong].detach().softmax(0)
        q = s[k, wrong].softmax(0)
        if divergence == "label_first":
            # d/dz of -sum q log p and d/dS_k of -sum p log q are those of a cross-entropy.
            residual, update = p - q, q - p
        else:
            # d/dz KL(p || q): dp_i/dz_j = p_i (1_ij - p_j), so sum_i (log(p_i/q_i) + 1) dp_i/dz_j
            # = p_j (log(p_j/q_j) - KL(p || q)); the same for S_k with p and q exchanged.
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
def test_update_moves_only_the_residual_matrix_and_the_rest_only_the_network(divergence: str) -> None:
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


def test_a_class_absent_from_the_batch_keeps_its_row() -> None:
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
def test_residual_terms_vanish_where_the_residual_labels_are_right(batch: Batch, divergence: str, shift: float) -> None:
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
def test_residual_terms_see_neither_the_target_logit_nor_the_diagonal(
    batch: Batch, divergence: str, shift: float
) -> None:
    before = criterion_with(batch.s, divergence=divergence).parts(batch.logits, batch.labels)
    logits = batch.logits + shift * F.one_hot(batch.labels, len(batch.s))
    after = criterion_with(batch.s + shift * torch.eye(len(batch.s)), divergence=divergence).parts(logits, batch.labels)
    assert (after.residual, after.update) == (before.residual, before.update)


@properties
@given(batches(), divergences, st.data())
def test_a_permutation_of_the_classes_permutes_the_residual_labels_alike(
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
    parts = criterion.parts(logits, labels)  # without a second warning: pytest makes it an error
    terms = (parts.residual, parts.update, parts.js_divergence)
    assert [term.item() for term in terms] == [0, 0, 0]
    assert parts.total.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-14)


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"gamma": 0.0}, {"alpha": Truncated(until=0)}])
def test_without_alpha_it_is_cross_entropy_from_the_first_epoch(options: dict[str, Any]) -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(s, label_smoothing=0.1, **options)
    loss = criterion(logits.requires_grad_(), labels)
    assert loss == F.cross_entropy(logits, labels, label_smoothing=0.1)
    loss.backward()
    assert criterion.residual_matrix.grad is None


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore_index", [-100, -1, 2])
def test_hard_is_the_cross_entropy_of_torch(
    weights: list[float] | None, label_smoothing: float, ignore_index: int
) -> None:
    logits, labels, s = random_batch()
    labels[3] = ignore_index
    weight = None if weights is None else torch.tensor(weights).double()
    criterion = criterion_with(s, label_smoothing=label_smoothing, class_weights=weight, ignore_index=ignore_index)
    expected = F.cross_entropy(logits, labels, weight, ignore_index=ignore_index, label_smoothing=label_smoothing)
    torch.testing.assert_close(criterion.parts(logits, labels).hard, expected)


@pytest.mark.parametrize("num_labels", [3, 29, 31])  # (K - 1) / K * (K / (K - 1)) is above 1 in floats for 29 and 31
def test_the_most_smoothing_over_the_wrong_classes_is_the_uniform_label(num_labels: int) -> None:
    logits, labels, s = random_batch(num_labels=num_labels)
    criterion = criterion_with(s, label_smoothing=(num_labels - 1) / num_labels, smoothing="wrong_classes")
    hard = criterion.parts(logits, labels).hard
    torch.testing.assert_close(hard, -logits.log_softmax(1).mean())


@both_divergences
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_10_000_stay_finite(divergence: str, dtype: torch.dtype) -> None:
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * K).repeat_interleave(K, 0)  # each pattern, each label
    logits = (1e4 * signs).to(dtype).requires_grad_()
    labels = torch.arange(K).repeat(2**K)
    for s in (torch.zeros(K, K), 1e4 * torch.ones(K, K).triu(), -1e4 * torch.eye(K).roll(1, 0)):
        criterion = criterion_with(s, divergence=divergence)
        parts = criterion.parts(logits, labels)
        assert torch.stack(parts).isfinite().all()
        assert criterion.parts(logits, labels).js_divergence.isfinite()
        gradients = torch.autograd.grad(parts.total, (logits, criterion.residual_matrix))
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
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = criterion.parts(logits, labels)
    for parts in (under_autocast, criterion.parts(logits, labels)):
        assert [part.dtype for part in parts] == [torch.float32] * 5
        assert parts == expected
    criterion(logits.requires_grad_(), labels).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == dtype


def test_a_residual_matrix_in_half_precision_is_read_in_float32() -> None:
    logits, labels, s = random_batch()
    rounded = s.bfloat16()
    parts = criterion_with(rounded).parts(logits.bfloat16(), labels)
    assert parts == criterion_with(rounded.float()).parts(logits.bfloat16().float(), labels)


def test_float64_logits_stay_float64_beside_a_float32_residual_matrix() -> None:
    logits, labels, _ = random_batch()
    parts = KRLoss(K).parts(logits, labels)
    assert [part.dtype for part in parts] == [torch.float64] * 5


def test_one_row_without_a_batch_dimension() -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(s)
    assert criterion(logits[0], labels[0]) == criterion(logits[:1], labels[:1])


@pytest.mark.parametrize("num_rows", [3, 0])
def test_no_label_that_counts_gives_nan_as_torch_does(num_rows: int) -> None:
    logits, labels = torch.zeros(num_rows, K), torch.full((num_rows,), -100)
    assert F.cross_entropy(logits, labels).isnan()
    assert KRLoss(K)(logits, labels).isnan()
    # Beside other batches that are accumulated it adds nothing.
    assert KRLoss(K)(logits, labels, num_items=5) == 0


@both_divergences
@pytest.mark.parametrize("method", ["forward", "parts", "training_step"])
def test_where_no_label_counts_nothing_moves(divergence: str, method: str) -> None:
    """The loss is nan, and torch's cross-entropy has a gradient of 0 there too."""
    criterion = KRLoss(K, divergence=divergence)
    logits = torch.zeros(3, K, requires_grad=True)
    result = getattr(criterion, method)(logits, torch.full((3,), -100))
    loss = result if isinstance(result, Tensor) else result.total if method == "parts" else result[0]
    loss.backward()
    assert loss.isnan()
    assert torch.equal(cast(Tensor, logits.grad), torch.zeros(3, K))
    of_matrix = result[1] if method == "training_step" else criterion.residual_matrix.grad
    assert torch.equal(cast(Tensor, of_matrix), torch.zeros(K, K))


def test_class_weights_may_be_numbers() -> None:
    logits, labels, _ = random_batch()
    weights = [2, *[1] * (K - 1)]
    assert KRLoss(K, class_weights=weights)(logits, labels) == KRLoss(K, class_weights=torch.tensor(weights).float())(
        logits, labels
    )


def test_a_label_out_of_range_is_named_when_labels_are_counted() -> None:
    criterion = KRLoss(K, class_weights=torch.ones(K))
    with pytest.raises(ValueError, match=rf"labels must be in 0\.\.{K - 1}, or -100 to be ignored, got {K}"):
        criterion.count(torch.tensor([0, K]))


@both_divergences
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_a_logit_that_is_not_finite_makes_the_loss_so(divergence: str, value: float, column: int) -> None:
    logits, labels, s = random_batch()
    labels[0] = 0
    logits[0, column] = value
    assert not criterion_with(s, divergence=divergence)(logits, labels).isfinite()
    without_alpha = criterion_with(s, divergence=divergence, alpha=0.0)(logits, labels)
    assert without_alpha.isfinite() == F.cross_entropy(logits, labels).isfinite()


@both_divergences
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("weights", [None, torch.tensor(WEIGHTS)])
def test_a_logit_that_is_not_finite_in_an_ignored_row_changes_nothing(
    divergence: str, value: float, weights: Tensor | None
) -> None:
    logits, labels, s = random_batch()
    labels[0] = -100
    criterion = criterion_with(s, divergence=divergence, class_weights=weights)
    expected = criterion.parts(logits, labels)
    logits[0] = value
    parts = criterion.parts(logits.requires_grad_(), labels)
    assert parts == expected
    assert criterion.parts(logits, labels).js_divergence.isfinite()
    (gradient,) = torch.autograd.grad(parts.total, logits)
    assert (gradient[0] == 0).all()
    assert gradient.isfinite().all()


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
    with pytest.raises(ValueError, match=r"^alpha must be at least 0 and finite, got -0\.25 in epoch 3$"):
        criterion.set_epoch(3)
    assert criterion.alpha == 0.25
    criterion.set_epoch(2)
    assert criterion.alpha == 0


@pytest.mark.parametrize("weights", [None, torch.tensor(WEIGHTS).double()])
def test_batches_divided_by_the_count_of_all_add_up_to_the_whole(weights: Tensor | None) -> None:
    logits, labels, s = random_batch()
    labels[[1, 2, 8]] = -100
    criterion = criterion_with(s, label_smoothing=0.1, class_weights=weights)
    num_items = criterion.count(labels)
    assert num_items == (9 if weights is None else weights[labels[labels != -100]].sum())
    assert criterion.count(labels.view(3, 4)) == num_items
    whole = criterion.parts(logits, labels)
    split = [criterion.parts(logits[rows], labels[rows], num_items) for rows in (slice(0, 3), slice(3, 12))]
    torch.testing.assert_close(torch.stack(split[0]) + torch.stack(split[1]), torch.stack(whole))
    js_divergences = [
        criterion.parts(logits[rows], labels[rows], num_items).js_divergence for rows in ([0, 1], range(2, 12))
    ]
    torch.testing.assert_close(sum(js_divergences), criterion.parts(logits, labels).js_divergence)


def test_num_items_may_be_a_plain_number() -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(s)
    torch.testing.assert_close(criterion(logits, labels, 24), criterion(logits, labels) / 2)
    torch.testing.assert_close(
        criterion.parts(logits, labels, 24).js_divergence, criterion.parts(logits, labels).js_divergence / 2
    )


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


def test_the_residual_matrix_is_the_one_parameter_and_all_that_is_saved() -> None:
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


def test_prints_its_settings_and_gives_them_as_json() -> None:
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


def test_settings_name_a_function_without_its_address() -> None:
    assert KRLoss(3, alpha=math.exp).settings()["alpha"] == "exp"


@both_divergences
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_residual_labels_learn_the_mean_of_p_res(divergence: str, optimizer: type[torch.optim.Optimizer]) -> None:
    # Label first, sum_i KL(p_i || q) is least where q is the mean of the p_i. To the letter, sum_i KL(q || p_i) is
    # least where q is their geometric mean, scaled to sum to 1.
    logits, labels, _ = random_batch(num_rows=40)
    criterion = KRLoss(K, divergence=divergence).double()
    learning_rate = 8.0 if optimizer is torch.optim.SGD else 0.05
    descent = optimizer([criterion.residual_matrix], lr=learning_rate)  # type: ignore[call-arg]  # a class of either
    for _ in range(200):
        descent.zero_grad()
        criterion(logits, labels).backward()
        descent.step()
    for k in range(K):
        wrong = [i for i in range(K) if i != k]
        log_p_res = logits[labels == k][:, wrong].log_softmax(1)
        mean = log_p_res.exp().mean(0) if divergence == "label_first" else log_p_res.mean(0).softmax(0)
        torch.testing.assert_close(criterion.residual_labels()[k, wrong], mean, atol=1e-3, rtol=0)


def test_to_the_letter_a_network_does_not_return_to_a_class_it_has_dropped() -> None:
    # p_res = (e^-20, 1) nearly, q_res = (1/2, 1/2). Label first, the pull back is p - q = -1/2; to the letter it is
    # p (log(p/q) - KL) = -20 e^-20 nearly, and so gone.
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
        ({"alpha": lambda epoch: -1}, "alpha must be at least 0 and finite, got -1 in epoch 0"),
        ({"alpha": lambda epoch: math.inf}, "alpha must be at least 0 and finite, got inf in epoch 0"),
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


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 4]), r"labels must be in 0\.\.3, or -100 to be ignored, got 4"),
        (torch.zeros(2, 4), torch.tensor([-1, 0]), r"labels must be in 0\.\.3, or -100 to be ignored, got -1"),
        (torch.zeros(1, 2, 4), torch.tensor([[-100, 9]]), r"labels must be in 0\.\.3, or -100 to be ignored, got 9"),
        (torch.zeros(2, 5), torch.tensor([0, 1]), r"logits must have num_labels = 4 columns, got shape \(2, 5\)"),
        (torch.zeros(4, 1), torch.tensor([0]), r"logits must have num_labels = 4 columns, got shape \(4, 1\)"),
        (torch.tensor(0.0), torch.tensor(0), r"logits must have num_labels = 4 columns, got shape \(\)"),
        (torch.zeros(2, 4), torch.tensor([0]), r"labels must have shape \(2,\), got \(1,\)"),
        (torch.zeros(2, 4), torch.tensor([[0], [1]]), r"labels must have shape \(2,\), got \(2, 1\)"),
        (torch.zeros(2, 3, 4), torch.tensor([0] * 6), r"labels must have shape \(2, 3\), got \(6,\)"),
        (torch.zeros(2, 4), torch.tensor([0.0, 1.0]), r"labels must be whole numbers, got torch\.float32"),
        (torch.zeros(2, 4), torch.tensor([False, True]), r"labels must be whole numbers, got torch\.bool"),
    ],
)
def test_wrong_batches_are_refused(logits: Tensor, labels: Tensor, message: str) -> None:
    criterion = KRLoss(4)
    for method in (criterion, criterion.parts):
        with pytest.raises(ValueError, match=f"^{message}$"):
            method(logits, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_may_be_of_any_whole_type(dtype: torch.dtype) -> None:
    logits, labels, s = random_batch()
    criterion = criterion_with(s, class_weights=torch.tensor(WEIGHTS))
    assert criterion(logits, labels.to(dtype)) == criterion(logits, labels)
    assert criterion.count(labels.to(dtype)) == torch.tensor(WEIGHTS)[labels].sum()


def test_runs_on_another_device() -> None:
    logits, labels, _ = random_batch()
    criterion = KRLoss(K, class_weights=torch.tensor(WEIGHTS)).to("meta")
    loss = criterion(logits.to("meta").requires_grad_(), labels.to("meta"))
    assert (loss.device.type, loss.shape) == ("meta", ())
    loss.backward()
    assert criterion.residual_labels().device.type == "meta"
    assert criterion.parts(logits.to("meta"), labels.to("meta")).js_divergence.device.type == "meta"
    loss, gradient, terms = criterion.training_step(logits.to("meta").requires_grad_(), labels.to("meta"))
    loss.backward()
    assert (gradient.shape, terms.shape, terms.device.type) == ((K, K), (4,), "meta")


@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated")  # the compiler does
def test_compiles_as_one_graph_and_follows_alpha() -> None:
    logits, labels, s = random_batch()
    labels[0] = -100
    criterion = criterion_with(s, label_smoothing=0.1, gamma=0.5)
    compiled = torch.compile(criterion, fullgraph=True, backend="eager")
    for epoch in range(12):  # above the number of times that torch is ready to compile anew
        criterion.set_epoch(epoch)
        torch.testing.assert_close(compiled(logits, labels), criterion(logits, labels))
    step = torch.compile(criterion.training_step, fullgraph=True, backend="eager")
    torch.testing.assert_close(step(logits, labels), criterion.training_step(logits, labels))


def test_importing_the_losses_imports_nothing_beside_torch() -> None:
    program = (
        "import sys, torch; before = set(sys.modules); import kr_text.losses.by_name; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["kr_text"]
