"""Schedules of alpha, the weight of the residual terms, over the completed epochs (paper, Eqs. 9, 13, 15)."""

from collections.abc import Callable
from dataclasses import dataclass

from kr_text.ranges import in_range

Schedule = Callable[[float], float]


@dataclass(frozen=True)
class Exponential:
    """alpha * gamma^t, the schedule of the paper; gamma = 0 is the baseline from the first epoch on.

    >>> schedule = Exponential(alpha=1.0, gamma=0.5)
    >>> [schedule(epoch) for epoch in (0, 1, 2)]
    [1.0, 0.5, 0.25]
    """

    alpha: float = 1.0
    gamma: float = 0.99

    def __post_init__(self) -> None:
        in_range("alpha", self.alpha, 0)
        in_range("gamma", self.gamma, 0, 1)

    def __call__(self, epoch: float) -> float:
        """Alpha after `epoch` epochs."""
        return self.alpha * self.gamma**epoch if self.gamma else 0.0  # 0 ** 0 would be 1


@dataclass(frozen=True)
class Truncated:
    """Alpha for the first `until` epochs, then 0: Eq. 15, where it is called 1* and `until` is 20."""

    until: float
    alpha: float = 1.0

    def __post_init__(self) -> None:
        in_range("alpha", self.alpha, 0)
        in_range("until", self.until, 0)

    def __call__(self, epoch: float) -> float:
        """Alpha after `epoch` epochs."""
        return self.alpha if epoch < self.until else 0.0


@dataclass(frozen=True)
class Constant:
    """The same alpha in every epoch."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        in_range("alpha", self.alpha, 0)

    def __call__(self, epoch: float) -> float:
        """Alpha in any epoch."""
        return self.alpha


def make_schedule(alpha: float | Schedule = 1.0, gamma: float = 0.99, until: float | None = None) -> Schedule:
    """The schedule that the settings of a loss stand for.

    Args:
        alpha: Alpha in the first epoch, or a schedule, which is returned as it is.
        gamma: Factor of alpha after each epoch; unused with `until`.
        until: Number of epochs after which alpha is 0 (Eq. 15).

    Raises:
        ValueError: A value is out of range, or `until` is given beside a schedule.
    """
    if callable(alpha):
        if until is not None:
            raise ValueError(f"alpha must be a number where until is given, got {schedule_text(alpha)}")
        return alpha
    return Exponential(alpha, gamma) if until is None else Truncated(until, alpha)


def alpha_at(schedule: Schedule, epoch: float) -> float:
    """Alpha after `epoch` epochs; ValueError if a schedule gives a negative or infinite value."""
    return in_range(f"alpha in epoch {epoch}", schedule(epoch), 0)


def schedule_text(schedule: Schedule) -> str:
    """Text of a schedule, equal in every process: the name of a function, since its `repr` contains an address."""
    return getattr(schedule, "__qualname__", repr(schedule))
