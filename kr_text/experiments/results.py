"""A folder of results: the file runs.jsonl, one line of JSON for each finished run."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from kr_text.experiments.predictions import Predictions, expand
from kr_text.experiments.run import Line, Run
from kr_text.formats.whole_files import finite
from kr_text.training.report import Report

RUNS_FILE = "runs.jsonl"


@dataclass(frozen=True)
class Result:
    """A finished run and its stored line."""

    run: Run
    line: Line

    @property
    def report(self) -> Report:
        """The report of `kr-text train`."""
        return self.line["report"]

    def predictions(self) -> Predictions:
        """The predictions of the test rows."""
        return expand(self.line["predictions"])


def read_results(folder: Path) -> dict[str, Result]:
    """Reads the finished runs, by key. Ignores an incomplete last line, which an interrupted write leaves.

    Raises:
        ValueError: Another line is not a result.
    """
    path = folder / RUNS_FILE
    if not path.exists():
        return {}
    results: dict[str, Result] = {}
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            line: Line = json.loads(text)
            results[line["key"]] = Result(Run(**line["run"]), line)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number} must be a result, got {text[:40]!r}: {error!r}") from error
    return results


def add_result(folder: Path, line: Line) -> None:
    """Appends a result. Overwrites an incomplete last line; leaves a stored result of the same run unchanged.

    Several processes may add to one folder at the same time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUNS_FILE
    with FileLock(f"{path}.lock"), path.open("r+b" if path.exists() else "w+b") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        if f'"key": "{line["key"]}"'.encode() in content[:end]:
            return
        text = json.dumps(finite(line), ensure_ascii=False, allow_nan=False) + "\n"
        file.seek(end)
        file.truncate()
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
