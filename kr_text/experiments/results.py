"""A folder of results: a line of JSON for each run that is finished, and its predictions beside it.

runs.jsonl                   one line a run
predictions/KEY.parquet      what it predicted for the test rows
NAME.yaml                    grids: which runs belong together, see kr_text/grids.py
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from kr_text.experiments.predictions import Predictions, read_predictions, write_predictions
from kr_text.experiments.run import Line, Outcome, Run
from kr_text.formats.whole_files import finite
from kr_text.training.report import Report

RUNS_FILE = "runs.jsonl"


@dataclass(frozen=True)
class Result:
    """A finished run."""

    run: Run
    line: Line
    folder: Path

    @property
    def report(self) -> Report:
        """What `kr-text train` reports of it."""
        return self.line["report"]

    def predictions(self) -> Predictions:
        """Its predictions for the test rows."""
        return read_predictions(_predictions_file(self.folder, self.line["key"]))


def read_results(folder: Path) -> dict[str, Result]:
    """The finished runs by their keys. The last line counts only if it is whole: a run cut off in writing is none.

    Raises:
        ValueError: another line is no result.
    """
    path = folder / RUNS_FILE
    if not path.exists():
        return {}
    results: dict[str, Result] = {}
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            line: Line = json.loads(text)
            results[line["key"]] = Result(Run(**line["run"]), line, folder)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number} must be a result, got {text[:40]!r}: {error!r}") from error
    return results


def add_result(folder: Path, outcome: Outcome) -> None:
    """Adds a run: first its predictions, whole, then its line, which alone says that it is finished.

    Several processes may add to a folder at a time. A run that is there already stays as it is.
    """
    key = outcome.line["key"]
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    path = folder / RUNS_FILE
    with FileLock(f"{path}.lock"), path.open("r+b" if path.exists() else "w+b") as file:
        content = file.read()
        end = _end_of_whole_lines(content)
        if f'"key": "{key}"'.encode() in content[:end]:  # another process was at the same run
            return
        write_predictions(outcome.predictions, _predictions_file(folder, key))
        text = json.dumps(finite(outcome.line), ensure_ascii=False, allow_nan=False) + "\n"
        file.seek(end)
        file.truncate()
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _end_of_whole_lines(content: bytes) -> int:
    return content.rfind(b"\n") + 1


def _predictions_file(folder: Path, key: str) -> Path:
    return folder / "predictions" / f"{key}.parquet"
