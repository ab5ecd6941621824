"""Shell commands on the report page, for the folder that contains the results folder."""

import os
import shlex
from pathlib import Path

from kr_text.experiments.grids import Grid
from kr_text.report.study import Study

NOISY_DATA = "python scripts/make_noisy_data.py data runs/noisy_data"


def run_commands(study: Study, grid: Grid) -> list[str]:
    """Commands that produce the results of a section."""
    if grid.section == "noise":
        return [NOISY_DATA, f"{_run(study, grid)} --data runs/noisy_data data"]
    if grid.section == "cost":
        return [_timed_run(study, grid)]
    timed = study.section_grids("cost") if grid.section == "table4" else []
    return [f"{_run(study, grid)} --data data", *(_timed_run(study, each) for each in timed)]


def report_command(study: Study) -> str:
    """Command that writes the page."""
    grids = "" if study.grids_folder == study.folder else f" --grids {_path(study, study.grids_folder)}"
    return f"kr-text report {_path(study, study.folder)}{grids}"


def _run(study: Study, grid: Grid) -> str:
    path = _path(study, study.grids_folder / f"{grid.name}.yaml")
    results = "" if study.grids_folder == study.folder else f" --results {_path(study, study.folder)}"
    return f"kr-text run {path}{results}"


def _timed_run(study: Study, grid: Grid) -> str:
    """Runs one at a time, each in a new process, so that its time and memory can be measured."""
    return f"{_run(study, grid)} --data data --fresh --workers 1"


def _path(study: Study, path: Path) -> str:
    return shlex.quote(Path(os.path.relpath(path, study.folder.parent)).as_posix())
