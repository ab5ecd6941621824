from typing import Any

import pytest
from torch import nn

from kr_text.losses.by_name import NAMES, make_loss
from kr_text.losses.kr_variants import ClassMeanKR
from kr_text.losses.label_softening import LabelConfusion
from kr_text.losses.schedules import Truncated

MODEL = nn.Linear(3, 4)  # three features, four classes


def test_every_loss_can_be_made_by_its_name_alone() -> None:
    losses = {name: make_loss(name, MODEL, 4, {}) for name in NAMES}
    assert [name for name, loss in losses.items() if loss is None] == ["ce"]
    confusion = losses["lcm"]
    assert isinstance(confusion, LabelConfusion)
    assert confusion.settings()["num_features"] == 3


@pytest.mark.parametrize("name", ["kr", "kr-mean", "kr-weighted"])
def test_until_is_for_every_loss_with_a_schedule(name: str) -> None:
    loss = make_loss(name, MODEL, 4, {"until": 2, "alpha": 0.3})
    assert loss is not None
    assert loss.schedule == Truncated(until=2, alpha=0.3)


def test_settings_are_left_as_they_were() -> None:
    settings = {"until": 2, "alpha": 0.3}
    assert isinstance(make_loss("kr-mean", MODEL, 4, settings), ClassMeanKR)
    assert settings == {"until": 2, "alpha": 0.3}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
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
