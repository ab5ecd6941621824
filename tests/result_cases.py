"""Results of runs that never ran: what the tests of results, engines, verdicts and choices share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from kr_text.experiments.predictions import compact
from kr_text.experiments.results import Result, add_result, read_results
from kr_text.experiments.run import Line, Outcome, Run


def outcome(
    run: Run, *, correct: Sequence[bool] = (True, True, False), validation: float = 10.0, seconds: float = 1.0
) -> Outcome:
    """Of test rows that are all of class 0, right or wrong as told; the errors are in %."""
    labels = np.zeros(len(correct), dtype=np.int64)
    report: dict[str, Any] = {
        "validation_metrics": {"error_rate": validation},
        "test_metrics": {"error_rate": 100 - 100 * float(np.mean(correct))},
        "wall_time_seconds": {"total": seconds, "training": seconds, "evaluation": 0.0},
    }
    line: dict[str, Any] = {
        "key": run.key,
        "run": run.given(),
        "commit": None,
        "report": report,
        "wrong_labels": None,
        "teacher": None,
    }
    return Outcome(cast(Line, line), compact(np.where(np.array(correct)[:, None], [0.8, 0.2], [0.3, 0.7]), labels))


def result(folder: Path, run: Run, **of_outcome: Any) -> Result:
    """The same, added to a folder and read from it."""
    add_result(folder, outcome(run, **of_outcome))
    return read_results(folder)[run.key]
