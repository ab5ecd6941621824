"""Losses by name: their settings, and what each of them learns."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kr_text.losses import LOSSES, NAMES, KRLoss, SofteningLoss, make_loss, named_loss
from kr_text.losses.by_name import OTHERS
from kr_text.losses.kr_variants import ClassMeanKR, WeightedKR
from kr_text.losses.label_softening import LabelConfusion, LabelSmoothingPlusPlus
from kr_text.losses.schedules import Truncated

MODEL = nn.Linear(3, 4)  # three features, four classes
NOTHING, LABELS, MATRIX_AND_LABELS, MATRIX = (False, False), (False, True), (True, True), (True, False)
LEARNS = {  # whether a loss has a learned matrix, and learned residual labels after some steps
    "ls": MATRIX,  # alpha is 0, so the matrix never moves
    "kr": MATRIX_AND_LABELS,
    "kr-ls": MATRIX_AND_LABELS,
    "ols": NOTHING,
    "ls++": MATRIX_AND_LABELS,
    "cp": NOTHING,
    "tf-kd": NOTHING,
    "lcm": NOTHING,
    "kr-mean": LABELS,  # running means, with no logits behind them
    "kr-weighted": MATRIX_AND_LABELS,
    "kd": NOTHING,
    "dml": NOTHING,
}


def train(criterion: KRLoss | SofteningLoss, num_steps: int = 3) -> None:
    """Some steps of all parameters on random rows."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(criterion.parameters(), lr=1.0) if list(criterion.parameters()) else None
    for _ in range(num_steps):
        features, logits, peer = (torch.randn(16, width, generator=generator) for width in (3, 4, 4))
        labels = torch.randint(4, (16,), generator=generator)
        more: list[Tensor] = []
        if isinstance(criterion, SofteningLoss):
            more += [features] * criterion.needs_features + [peer] * (criterion.needs_teacher or criterion.needs_peer)
        criterion(logits.requires_grad_(), labels, *more).backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
    if isinstance(criterion, SofteningLoss):
        criterion.end_epoch()


def test_every_loss_can_be_made_by_its_name_alone() -> None:
    losses = {name: make_loss(name, MODEL, 4, {}) for name in NAMES}
    assert [name for name, loss in losses.items() if loss is None] == ["ce"]
    confusion = losses["lcm"]
    assert isinstance(confusion, LabelConfusion)
    assert confusion.settings()["num_features"] == 3


def test_the_table_of_learned_things_names_every_loss() -> None:
    assert LEARNS.keys() == set(NAMES) - {"ce"}


@pytest.mark.parametrize("name", LEARNS)
def test_a_loss_that_has_taken_no_step_has_learned_no_residual_labels(name: str) -> None:
    criterion = make_loss(name, MODEL, 4, {})
    assert criterion is not None
    assert criterion.learned_residual_labels() is None
    assert (criterion.learned_matrix() is not None) == LEARNS[name][0]


@pytest.mark.parametrize("name", LEARNS)
def test_learned_matrix_and_residual_labels_of_every_loss_after_some_steps(name: str) -> None:
    criterion = make_loss(name, MODEL, 4, {})
    assert criterion is not None
    train(criterion)
    matrix, labels = criterion.learned_matrix(), criterion.learned_residual_labels()
    assert (matrix is not None, labels is not None) == LEARNS[name]
    if matrix is not None:
        assert matrix.shape == (4, 4)
        assert not matrix.requires_grad
    if labels is not None:
        torch.testing.assert_close(labels.sum(1), torch.ones(4))
        assert (labels.diagonal() == 0).all()
        assert not labels.requires_grad
    if matrix is not None and labels is not None:
        off_diagonal = ~torch.eye(4, dtype=torch.bool)
        of_matrix = matrix[off_diagonal].view(4, 3).softmax(1)
        torch.testing.assert_close(labels[off_diagonal].view(4, 3), of_matrix)


@pytest.mark.parametrize("loss", [KRLoss, WeightedKR, LabelSmoothingPlusPlus])
def test_a_frozen_matrix_has_learned_no_residual_labels(loss: Any) -> None:
    criterion = loss(4)
    train(criterion)
    criterion.requires_grad_(False)
    assert criterion.learned_residual_labels() is None


def test_the_learned_matrix_is_the_parameter_of_the_loss() -> None:
    kr, plus = KRLoss(4), LabelSmoothingPlusPlus(4)
    for criterion, parameter in ((kr, kr.residual_matrix), (plus, plus.c_matrix)):
        train(criterion)
        matrix = criterion.learned_matrix()
        assert matrix is not None
        assert torch.equal(matrix, parameter)


def test_learned_residual_labels_of_class_means_are_a_copy() -> None:
    criterion = ClassMeanKR(4)
    train(criterion)
    before = criterion.learned_residual_labels()
    assert before is not None
    assert torch.equal(before, criterion.class_means)
    train(criterion)
    assert not torch.equal(before, criterion.class_means)


def test_named_losses_have_the_settings_of_the_paper() -> None:
    settings = {}
    for name in LOSSES:
        if criterion := named_loss(name, 4):
            settings[name] = (criterion.label_smoothing, criterion.schedule(0), round(criterion.schedule(1), 12))
    assert settings == {"ls": (0.1, 0.0, 0.0), "kr": (0.0, 1.0, 0.99), "kr-ls": (0.1, 1.0, 0.99)}
    assert named_loss("ce", 4) is None


def test_settings_override_those_of_a_named_loss() -> None:
    criterion = named_loss("kr-ls", 4, alpha=0.5, gamma=0.9, divergence="as_printed")
    assert criterion is not None
    assert (criterion.label_smoothing, criterion.schedule(0), criterion.schedule(1)) == (0.1, 0.5, 0.45)
    assert (criterion.divergence, criterion.residual_matrix.shape) == ("as_printed", (4, 4))
    other = named_loss("kr-ls", 4, label_smoothing=0.2)
    assert other is not None
    assert (other.label_smoothing, other.schedule(0), other.divergence) == (0.2, 1.0, "label_first")


@pytest.mark.parametrize("name", LOSSES)
def test_make_loss_and_named_loss_make_the_same_loss(name: str) -> None:
    made, named = make_loss(name, MODEL, 4, {}), named_loss(name, 4)
    assert (made and made.settings()) == (named and named.settings())


@pytest.mark.parametrize(
    ("settings", "alphas"), [({"until": 2}, [1, 1, 0, 0]), ({"until": 1, "alpha": 0.3}, [0.3, 0, 0, 0])]
)
def test_until_ends_alpha_after_that_many_epochs(settings: dict[str, Any], alphas: list[float]) -> None:
    criterion = named_loss("kr", 4, **settings)
    assert criterion is not None
    assert [criterion.schedule(epoch) for epoch in range(4)] == alphas


@pytest.mark.parametrize("name", ["kr", "kr-mean", "kr-weighted"])
def test_every_loss_with_a_schedule_takes_until(name: str) -> None:
    loss = make_loss(name, MODEL, 4, {"until": 2, "alpha": 0.3})
    assert isinstance(loss, KRLoss | ClassMeanKR | WeightedKR)
    assert loss.schedule == Truncated(until=2, alpha=0.3)


def test_the_dictionary_of_settings_stays_unchanged() -> None:
    settings = {"until": 2, "alpha": 0.3}
    assert isinstance(make_loss("kr-mean", MODEL, 4, settings), ClassMeanKR)
    assert settings == {"until": 2, "alpha": 0.3}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ce", {"alpha": 1, "gamma": 1}, "loss 'ce' has no settings except class_weights, got alpha, gamma"),
        ("kr", {"alhpa": 1}, "settings of loss 'kr' must be arguments of KRLoss, or until: .*'alhpa'"),
        ("kr", {"label_smoothing": 2.0}, r"label_smoothing must be .* got 2\.0"),
        ("kr", {"until": "abc"}, "settings of loss 'kr' must be arguments of KRLoss, or until: "),
        ("kr", {"until": 2, "alpha": abs}, "alpha must be a number where until is given, got abs"),
        ("kr", {"until": 2, "gamma": 0.5}, r"until and gamma must not be given together, got 2 and 0\.5"),
        ("kr-mean", {"until": 2, "gamma": 0.5}, r"until and gamma must not be given together, got 2 and 0\.5"),
        ("ols", {"until": 2}, "'ols' must be arguments of OnlineLabelSmoothing: .* unexpected .* 'until'"),
        ("kd", {"weigth": 1}, "'kd' must be arguments of DistillationLoss: .* unexpected .* 'weigth'"),
        ("dml", {"weight": 1}, "'dml' must be arguments of MutualLoss: .* unexpected .* 'weight'"),
        ("kr-weighted", {"until": "abc"}, "'kr-weighted' must be arguments of WeightedKR, or until: "),
        ("lcm", {"num_labels": 3}, "'lcm' must leave num_labels to the data, got 3"),
    ],
)
def test_settings_that_a_loss_does_not_have_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loss(name, MODEL, 4, settings)


def copies(name: str, model: nn.Module, *weights: list[float] | None) -> list[Any]:
    """The loss with each of the class weights, in the same state; label smoothing off."""
    settings = [{} if each is None else {"class_weights": each} for each in weights]
    losses = []
    for each in settings:
        torch.manual_seed(0)
        losses.append(make_loss(name, model, 4, each) or nn.CrossEntropyLoss())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_class_weights_make_every_loss_a_weighted_mean_of_its_rows(name: str) -> None:
    weights = [0.5, 2.0, 0.0, 3.0]
    plain, weighted = copies(name, MODEL, None, weights)
    features, logits, peer = (torch.randn(16, width) for width in (3, 4, 4))
    labels = torch.randint(4, (16,))
    more: list[Tensor] = []
    if isinstance(weighted, SofteningLoss):
        more += [features] * weighted.needs_features + [peer] * (weighted.needs_teacher or weighted.needs_peer)
        plain.eval(), weighted.eval()
    rows = torch.stack([plain(logits[[i]], labels[[i]], *(x[[i]] for x in more)) for i in range(16)])
    of_rows = torch.tensor(weights)[labels]
    torch.testing.assert_close(weighted(logits, labels, *more), (of_rows * rows).sum() / of_rows.sum())
    assert weighted.count(labels) == of_rows.sum()
    assert weighted.settings()["class_weights"] == weights


@pytest.mark.parametrize("name", OTHERS)
def test_a_batch_without_weight_has_no_gradient(name: str) -> None:
    (criterion,) = copies(name, MODEL, [1.0, 1.0, 0.0, 1.0])
    logits, labels = torch.randn(4, 4, requires_grad=True), torch.full((4,), 2)
    more = [torch.randn(4, 3)] * criterion.needs_features
    more += [torch.randn(4, 4)] * (criterion.needs_teacher or criterion.needs_peer)
    criterion(logits, labels, *more).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", OTHERS)
def test_every_loss_checks_its_class_weights(name: str) -> None:
    with pytest.raises(ValueError, match=r"class_weights must have shape \(4,\), got \(3,\)"):
        make_loss(name, MODEL, 4, {"class_weights": [1.0, 1.0, 1.0]})


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^loss must be one of ce, ls, kr, kr-ls, ols, .*, dml, got 'kl'$"):
        make_loss("kl", MODEL, 4, {})
    with pytest.raises(ValueError, match=r"^loss must be one of ce, ls, kr, kr-ls, or a KRLoss; got 'ols'$"):
        named_loss("ols", 4)
