"""Timing of two sides in turn, and the row of results that it gives."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Amount of work of a benchmark."""

    rounds: int
    rows: int | None  # training rows; None for all
    steps: int  # training steps
    seconds: float  # duration of the loss in a round


FULL = Size(rounds=5, rows=None, steps=20, seconds=0.5)
QUICK = Size(rounds=1, rows=1000, steps=2, seconds=0.01)


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        path: What is measured.
        peer: What it is compared with; "-" if with nothing.
        work: What both sides do in a round.
        reach: Target that the median should not exceed.
        figures: Result of each round: our time divided by theirs, or a number in `unit`.
        unit: "x" for a ratio, else the unit of `figures`.
        seconds: Our seconds and their seconds in each round.
    """

    path: str
    peer: str
    work: str
    reach: float
    figures: list[float]
    unit: str = "x"
    seconds: list[list[float]] | None = None

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.figures)


def in_turn(ours: Callable[[], float | None], theirs: Callable[[], float | None], rounds: int) -> list[list[float]]:
    """Runs both sides in turn and returns the pairs of seconds; a first round is not counted."""
    timed = []
    for _ in range(rounds + 1):
        timed.append([seconds(side) for side in (ours, theirs)])
    return timed[1:]


def seconds(side: Callable[[], float | None]) -> float:
    """Self-reported seconds of a side, else its measured wall time."""
    gc.collect()
    began = time.perf_counter()
    reported = side()
    return time.perf_counter() - began if reported is None else reported


def ratios(timed: list[list[float]]) -> list[float]:
    """Our seconds divided by theirs, for each round."""
    return [ours / theirs for ours, theirs in timed]
