"""Schedules of alpha."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kr_text.losses.schedules import Constant, Exponential, Truncated, alpha_at, make_schedule


def test_exponential_is_alpha_times_gamma_to_the_epochs_completed() -> None:
    # 0.8 * 0.5^t by hand: 0.8, 0.4, 0.2; half an epoch is 0.8 / sqrt(2).
    schedule = Exponential(alpha=0.8, gamma=0.5)
    assert [schedule(epoch) for epoch in (0, 1, 2)] == pytest.approx([0.8, 0.4, 0.2])
    assert schedule(0.5) == pytest.approx(0.8 / math.sqrt(2))


def test_the_papers_default_is_0_99_to_the_epoch() -> None:
    assert Exponential() == Exponential(alpha=1.0, gamma=0.99)
    assert Exponential()(200) == pytest.approx(0.99**200)


def test_gamma_0_is_the_baseline_from_the_first_epoch() -> None:
    assert [Exponential(gamma=0)(epoch) for epoch in (0, 0.5, 1)] == [0, 0, 0]


def test_gamma_1_keeps_alpha() -> None:
    assert [Exponential(alpha=0.3, gamma=1)(epoch) for epoch in (0, 7)] == [0.3, 0.3]


@given(st.floats(0, 10), st.floats(0, 1), st.floats(0, 100), st.floats(0, 100))
def test_exponential_never_increases_and_stays_between_0_and_alpha(
    alpha: float, gamma: float, a: float, b: float
) -> None:
    schedule = Exponential(alpha, gamma)
    assert alpha >= schedule(min(a, b)) >= schedule(max(a, b)) >= 0


def test_truncated_is_0_once_that_many_epochs_are_completed() -> None:
    # Eq. 15: 1 while epochs < 20, 0 from 20 on.
    schedule = Truncated(until=20)
    assert [schedule(epoch) for epoch in (0, 19, 19.9, 20, 21)] == [1, 1, 1, 0, 0]
    assert Truncated(until=2, alpha=0.3)(1) == 0.3
    assert Truncated(until=0)(0) == 0


def test_constant_is_the_same_in_every_epoch() -> None:
    assert [Constant(0.3)(epoch) for epoch in (0, 1, 100)] == [0.3] * 3
    assert Constant()(0) == 1


@pytest.mark.parametrize("alpha", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize(
    "schedule",
    [Exponential, Constant, lambda alpha: Truncated(until=1, alpha=alpha)],
    ids=["exponential", "constant", "truncated"],
)
def test_alpha_below_0_or_not_finite_is_refused(schedule: Callable[[float], object], alpha: float) -> None:
    with pytest.raises(ValueError, match=f"^alpha must be at least 0 and finite, got {alpha}$"):
        schedule(alpha)


@pytest.mark.parametrize("gamma", [-0.1, 1.01, math.nan])
def test_gamma_outside_0_to_1_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=rf"^gamma must be in \[0, 1\], got {gamma}$"):
        Exponential(gamma=gamma)


@pytest.mark.parametrize("until", [-1, math.nan, math.inf])
def test_until_below_0_or_not_finite_is_refused(until: float) -> None:
    with pytest.raises(ValueError, match=f"^until must be at least 0 and finite, got {until}$"):
        Truncated(until=until)


def test_make_schedule_gives_the_schedule_of_the_settings() -> None:
    assert make_schedule() == Exponential(1.0, 0.99)
    assert make_schedule(0.3, 0.9) == Exponential(0.3, 0.9)
    assert make_schedule(0.3, until=2) == Truncated(2, 0.3)
    schedule = Constant(0.5)
    assert make_schedule(schedule) is schedule
    with pytest.raises(ValueError, match=r"^alpha must be a number where until is given, got Constant\(alpha=0\.5\)$"):
        make_schedule(schedule, until=2)


def test_alpha_of_a_schedule_is_checked_in_each_epoch() -> None:
    assert alpha_at(Constant(0.5), 3) == 0.5
    with pytest.raises(ValueError, match=r"^alpha in epoch 3 must be at least 0 and finite, got -2$"):
        alpha_at(lambda epoch: 1 - epoch, 3)
