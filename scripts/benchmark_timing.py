"""Two sides timed in turn, and what came out."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How much work a benchmark does."""

    rounds: int
    rows: int | None  # of the training set; None for all
    steps: int  # of training
    seconds: float  # of each call of the loss


FULL = Size(rounds=5, rows=None, steps=20, seconds=0.5)
QUICK = Size(rounds=1, rows=1000, steps=2, seconds=0.01)


@dataclass(frozen=True)
class Row:
    """One comparison, a figure for each round: ratios of times, ours over theirs, or what `unit` says."""

    path: str
    peer: str
    work: str
    reach: float
    figures: list[float]
    unit: str = "x"
    seconds: list[list[float]] | None = None  # of ours and of theirs, a pair for each round

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.figures)


def in_turn(ours: Callable[[], float | None], theirs: Callable[[], float | None], rounds: int) -> list[list[float]]:
    """Seconds of ours and of theirs in each round, after one that does not count; a side may time itself."""
    timed = []
    for _ in range(rounds + 1):
        timed.append([seconds(side) for side in (ours, theirs)])
    return timed[1:]


def seconds(side: Callable[[], float | None]) -> float:
    """What it says that it took, or took."""
    gc.collect()
    began = time.perf_counter()
    own = side()
    return time.perf_counter() - began if own is None else own


def ratios(timed: list[list[float]]) -> list[float]:
    """Ours over theirs."""
    return [ours / theirs for ours, theirs in timed]
