"""Made-up results, shared by the tests of results, engines, verdicts, comparisons and choices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from kr_text.experiments.predictions import compact
from kr_text.experiments.results import Result, add_result, read_results
from kr_text.experiments.run import Line, Run


def line_of(
    run: Run,
    *,
    correct: Sequence[bool] = (True, True, False),
    validation: float = 10.0,
    seconds: float = 1.0,
    nll: float | None = 1.0,
) -> Line:
    """A result whose test rows all have class 0 and are correct as given; errors are in %."""
    labels = np.zeros(len(correct), dtype=np.int64)
    report: dict[str, Any] = {
        "validation_metrics": {"error_rate": validation},
        "test_metrics": {"error_rate": 100 - 100 * float(np.mean(correct)), "nll": nll, "ece": 0.1},
        "wall_time_seconds": {"total": seconds, "training": seconds, "evaluation": 0.0},
    }
    line: dict[str, Any] = {
        "key": run.key,
        "run": run.given(),
        "commit": None,
        "report": report,
        "wrong_labels": None,
        "teacher": None,
        "predictions": compact(np.where(np.array(correct)[:, None], [0.8, 0.2], [0.3, 0.7]), labels),
    }
    return cast(Line, line)


def result(folder: Path, run: Run, **of_line: Any) -> Result:
    """A made-up result, added to a folder and read from it."""
    add_result(folder, line_of(run, **of_line))
    return read_results(folder)[run.key]
