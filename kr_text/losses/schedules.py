"""The weight alpha of the residual terms as a function of the epochs completed (paper, Eqs. 9, 13, 15)."""

from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[float], float]


@dataclass(frozen=True)
class Exponential:
    """alpha * gamma^t, the paper's schedule; gamma = 0 is the baseline, from the first epoch on.

    >>> schedule = Exponential(alpha=1.0, gamma=0.5)
    >>> [schedule(epoch) for epoch in (0, 1, 2)]
    [1.0, 0.5, 0.25]
    """

    alpha: float = 1.0
    gamma: float = 0.99

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")

    def __call__(self, epoch: float) -> float:
        """Alpha after `epoch` epochs."""
        return self.alpha * self.gamma**epoch if self.gamma else 0.0  # 0 ** 0 would be 1


@dataclass(frozen=True)
class Truncated:
    """Alpha for the first `until` epochs, then 0: Eq. 15, where it is called 1* and `until` is 20."""

    until: float
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        if not self.until >= 0:
            raise ValueError(f"until must be at least 0, got {self.until}")

    def __call__(self, epoch: float) -> float:
        """Alpha after `epoch` epochs."""
        return self.alpha if epoch < self.until else 0.0


@dataclass(frozen=True)
class Constant:
    """The same alpha in every epoch."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(self, epoch: float) -> float:
        """Alpha, whatever `epoch`."""
        return self.alpha


def schedule_text(schedule: Schedule) -> str:
    """A schedule in words, the same in each process: a function by its name, since its `repr` has an address."""
    return getattr(schedule, "__qualname__", repr(schedule))


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha must be at least 0 and finite, got {alpha}")
