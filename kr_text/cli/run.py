"""Command `kr-text run`."""

import argparse
from functools import partial
from pathlib import Path

from kr_text.cli.parser import CommandParser, positive

SUMMARY = "run grids of experiments"
DESCRIPTION = (
    "Runs every experiment in the grids that has no result yet, and adds the results to a folder. If interrupted, the "
    "same command continues where it stopped. The format of a grid is described in kr_text/experiments/grids.py."
)


def add_flags(parser: CommandParser) -> None:
    """Adds the flags of `kr-text run`."""
    parser.add_argument("grids", nargs="+", metavar="GRID", help="YAML file with a grid of runs")
    parser.add_argument(
        "--results",
        default="results",
        metavar="FOLDER",
        help="folder that the results are added to; default: %(default)s",
    )
    parser.add_argument(
        "--data",
        nargs="*",
        default=["data"],
        metavar="FOLDER",
        help="folders with data sets; other data sets come from the Hub; default: data",
    )
    parser.add_argument(
        "--work",
        default="runs/experiments",
        metavar="FOLDER",
        help="working folder of unfinished runs; default: %(default)s",
    )
    parser.add_argument(
        "--only", metavar="FIELD=VALUE,...", help="run only the runs with these values, such as model=fasttext,seed=1"
    )
    parser.add_argument(
        "--training", metavar="FIELD=VALUE,...", help="training arguments that all runs get in addition to their own"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="number of runs at a time; default: the number of cores, or 1 with an accelerator or with --fresh",
    )
    parser.add_argument(
        "--engine",
        default="local",
        choices=["local", "ray"],
        help="local: processes of this machine; ray: a Ray cluster; default: %(default)s",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start a new process for each run, to measure its peak memory"
    )
    parser.set_defaults(execute=_run)


def _run(flags: argparse.Namespace) -> None:
    from kr_text.experiments.code_version import commit_of_code
    from kr_text.experiments.engines import ENGINES, Setting, default_workers, run_missing
    from kr_text.experiments.grids import read_grid
    from kr_text.formats.overrides import parse_overrides

    if flags.fresh and flags.engine != "local":
        raise ValueError(f"fresh must have one worker and the engine local, got --engine {flags.engine}")
    workers = flags.workers or (1 if flags.fresh else default_workers())
    setting = Setting(tuple(flags.data), flags.work, workers, flags.fresh, commit_of_code())
    only = parse_overrides(flags.only, "only")
    grids = {path: read_grid(path).with_training(flags.training) for path in map(Path, flags.grids)}
    chosen = {path: grid.only(only) for path, grid in grids.items()}
    if not any(chosen.values()):
        raise ValueError(f"only must match a run of {', '.join(flags.grids)}, got {flags.only}")
    failures: list[str] = []
    for path, runs in chosen.items():
        print(f"{grids[path].title} ({path})", flush=True)
        failures += run_missing(runs, Path(flags.results), setting, ENGINES[flags.engine], partial(print, flush=True))
    if failures:
        num_runs = sum(map(len, chosen.values()))
        raise ValueError(f"{len(failures)} of {num_runs} runs failed, see above; the same command tries them again")
