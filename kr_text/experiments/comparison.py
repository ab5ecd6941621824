"""Comparison of several losses over several seeds on one data set: a small grid with settings from a command line.

With folds, each loss and seed is trained once for each fold of a cross-validation, so that each row is a test row once.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypedDict

from kr_text.data.sources import fingerprint
from kr_text.experiments.code_version import commit_of_code
from kr_text.experiments.engines import Finished, Setting, run_missing
from kr_text.experiments.results import Result, read_results
from kr_text.experiments.run import Run, make_line, way_to_start, working_folder
from kr_text.experiments.significance import holm, mean_and_deviation
from kr_text.experiments.verdicts import against, over_folds
from kr_text.formats.markdown import Number, format_number, format_p_value, markdown_table
from kr_text.formats.whole_files import write_json, write_text
from kr_text.machine.process import reset_peak_memory
from kr_text.ranges import require_at_least
from kr_text.training.arguments import command_line, parse_training
from kr_text.training.load_data import load_for
from kr_text.training.settings import DATA, run_settings
from kr_text.training.train import train

PROGRAM = "kr-text compare"
# Flags of `kr-text train` that differ between the runs.
OWN_FLAGS = {"loss", "seed", "fold", "output_dir", "resume", "overwrite", "resume_from_checkpoint"}
SETTINGS_FILE = "comparison_settings.json"  # by loss; a run keeps its own in settings.json
COMPARED = {"error_rate": "error, %", "nll": "NLL, nats", "ece": "ECE"}  # metric: heading

logger = logging.getLogger(__name__)


class Compared(TypedDict):
    """One loss in a comparison.

    Attributes:
        loss: Name of the loss.
        metrics: Each metric on the test rows, by seed, and by fold within a seed; nan where it is not finite.
        difference: Mean error minus that of the baseline, in percentage points; None for the baseline itself.
        interval: 95% interval of the difference.
        p_value: Two-sided p-value, Holm-corrected: of the paired bootstrap over rows and seeds, or with folds of the
            corrected resampled t-test.
    """

    loss: str
    metrics: dict[str, list[float]]
    difference: float | None
    interval: tuple[float, float] | None
    p_value: float | None


class Comparison(TypedDict):
    """Everything that comparison.json holds.

    Attributes:
        num_train_rows: Training rows of a run; with folds, the mean over the folds.
        num_test_rows: Test rows; with folds, those of all folds together.
        num_folds: Number of folds; None without a cross-validation.
    """

    command: str
    model: str
    dataset: str
    num_train_rows: int
    num_test_rows: int
    num_folds: int | None
    seeds: list[int]
    baseline: str
    losses: list[Compared]


def compare(
    losses: Sequence[str],
    seeds: Sequence[int],
    output_dir: str,
    flags: Sequence[str],
    *,
    command: str,
    num_folds: int | None = None,
) -> Comparison:
    """Trains with every loss and every seed, in every fold, and writes comparison.json and comparison.md.

    Stores the results in `output_dir` as `kr-text run` does: finished runs are not trained again, and an interrupted
    run resumes from its last checkpoint. Models are deleted. The command in each result trains one again.

    Args:
        losses: Names of losses. The baseline is "ce", or the first loss if "ce" is not among them.
        seeds: Seeds of the runs.
        output_dir: Folder of results.
        flags: Further flags of `kr-text train`, the same for every run. "ce" ignores `--loss_overrides`, and every
            loss except "kd" ignores `--teacher`.
        command: The command line, for the report.
        num_folds: Number of folds of a cross-validation of all rows. Default: the test rows of the data set.

    Raises:
        ValueError: The arguments are invalid.
        FileExistsError: The folder holds runs with other settings or other data.
    """
    for name, values in (("losses", losses), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} must be one or more, each once, got {', '.join(map(str, values)) or 'none'}")
    if num_folds is not None:
        require_at_least(2, folds=num_folds)
    if own := sorted(_flag_names(flags) & OWN_FLAGS):
        raise ValueError(
            f"flags must be shared by all runs, got --{', --'.join(own)}: give losses, seeds and output_dir instead"
        )
    settings = _settings(losses, output_dir, flags, num_folds)
    folder = Path(output_dir)
    _check_folder(folder, settings)
    folds = _folds(num_folds)
    runs = [_run(settings[loss], loss, seed, fold) for seed in seeds for fold in folds for loss in losses]
    results = _results(runs, folder, flags)
    by_loss = {loss: [results[run.key] for run in runs if run.loss == loss] for loss in losses}
    baseline = "ce" if "ce" in losses else losses[0]
    datasets = [result.report["dataset"] for result in by_loss[baseline][: len(folds)]]
    comparison: Comparison = {
        "command": command,
        "model": by_loss[baseline][0].report["model"]["name"],
        "dataset": datasets[0]["name"],
        "num_train_rows": round(fmean(each["num_train_rows"] for each in datasets)),
        "num_test_rows": sum(each["num_test_rows"] for each in datasets),
        "num_folds": num_folds,
        "seeds": list(seeds),
        "baseline": baseline,
        "losses": against_baseline(by_loss, baseline),
    }
    write_json(comparison, folder / "comparison.json")
    write_text(comparison_markdown(comparison), folder / "comparison.md")
    return comparison


def against_baseline(by_loss: Mapping[str, Sequence[Result]], baseline: str) -> list[Compared]:
    """Compares each loss with the baseline.

    Args:
        by_loss: Results of each loss, one per seed and fold, with the same seeds and folds for all losses.
        baseline: Name of the baseline.
    """
    tests = {loss: _difference(results, by_loss[baseline]) for loss, results in by_loss.items() if loss != baseline}
    p_values = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    compared: list[Compared] = []
    for loss, results in by_loss.items():
        test = tests.get(loss)
        metrics = [result.report["test_metrics"] for result in results]
        compared.append(
            {
                "loss": loss,
                "metrics": {name: [_or_nan(each[name]) for each in metrics] for name in COMPARED},
                "difference": test.points if test else None,
                "interval": test.interval if test else None,
                "p_value": p_values.get(loss),
            }
        )
    return compared


class _Difference(NamedTuple):
    """A difference of errors in percentage points, its 95% interval and its p-value."""

    points: float
    interval: tuple[float, float]
    p_value: float


def _difference(results: Sequence[Result], baseline: Sequence[Result]) -> _Difference:
    if results[0].run.fold is None:
        verdict = against(results, baseline)
        return _Difference(verdict.difference, (verdict.low, verdict.high), verdict.p_bootstrap)
    test = over_folds(results, baseline)
    return _Difference(100 * test.difference, (100 * test.low, 100 * test.high), test.p_value)


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown table: mean and deviation over the runs, and the difference from the baseline."""
    rows = []
    for compared in comparison["losses"]:
        cells = [compared["loss"]]
        for metric in COMPARED:
            mean, deviation = mean_and_deviation(compared["metrics"][metric])
            digits = 2 if metric == "error_rate" else 4
            cells.append(f"{format_number(mean, digits)} ± {format_number(deviation, digits)}")
        if compared["interval"] is None:
            cells += ["baseline", ""]
        else:
            low, high = compared["interval"]
            assert compared["p_value"] is not None
            difference = f"{compared['difference']:+.2f} ({low:+.2f} to {high:+.2f})"
            cells += [difference, format_p_value(compared["p_value"], digits=4)]
        rows.append(cells)
    headings = ["loss", *COMPARED.values(), f"error against {comparison['baseline']}, points (95%)", "p"]
    return (
        f"# {comparison['model']} on {comparison['dataset']}\n\n"
        f"{_about(comparison)}\n\n" + markdown_table(headings, rows) + f"\n\n```sh\n{comparison['command']}\n```\n"
    )


def _about(comparison: Comparison) -> str:
    """The paragraph above the table: the rows and runs, and what the numbers are."""
    seeds, num_folds = comparison["seeds"], comparison["num_folds"]
    train, num_test = f"{comparison['num_train_rows']:,} training rows", f"{comparison['num_test_rows']:,}"
    names = f"seeds {', '.join(map(str, seeds))}"
    if num_folds is None:
        return (
            f"{train}, {num_test} test rows, {names}; mean ± standard deviation over the seeds. Differences are paired "
            "by row and by seed. Their intervals and p-values come from a bootstrap over rows and seeds with the "
            "Behrens-Fisher distribution; the p-values are Holm-corrected."
        )
    return (
        f"{num_folds} folds: each of the {num_test} rows is a test row once for each seed. {train} in a fold, {names}; "
        f"mean ± standard deviation over the {num_folds * len(seeds)} runs. Differences are paired by row and by "
        "seed. Their intervals and p-values come from the corrected resampled t-test over the folds (Nadeau & Bengio "
        "2003), since the training rows of two folds overlap; the p-values are Holm-corrected."
    )


def _folds(num_folds: int | None) -> list[str | None]:
    return [None] if num_folds is None else [f"{number}/{num_folds}" for number in range(1, num_folds + 1)]


def _settings(
    losses: Sequence[str], output_dir: str, flags: Sequence[str], num_folds: int | None
) -> dict[str, dict[str, Any]]:
    """For each loss, every setting except seed and fold, and a fingerprint of the data."""
    first = _folds(num_folds)[0]
    parsed = [parse_training(_argv(flags, loss, 0, first, output_dir), PROGRAM) for loss in losses]
    shared = {DATA: fingerprint(load_for(parsed[0][0])), **({"folds": num_folds} if num_folds else {})}
    settings = {loss: {**run_settings(*each), **shared} for loss, each in zip(losses, parsed, strict=True)}
    varied = {"seed", "fold"}
    return {loss: {name: each[name] for name in each if name not in varied} for loss, each in settings.items()}


def _argv(flags: Sequence[str], loss: str, seed: int, fold: str | None, folder: str) -> list[str]:
    """The flags of `kr-text train` for one run."""
    given = _flag_names(flags)
    ignored = [name for name, used in (("loss_overrides", loss != "ce"), ("teacher", loss == "kd")) if not used]
    without = [f"--{name}=" for name in ignored if name in given]
    of_run = ["--loss", loss, "--seed", str(seed), *([] if fold is None else ["--fold", fold])]
    return [*flags, *without, *of_run, "--output_dir", folder]


def _flag_names(flags: Sequence[str]) -> set[str]:
    return {flag[2:].partition("=")[0].replace("-", "_") for flag in flags if flag.startswith("--")}


def _check_folder(folder: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses a folder that holds runs with other settings or data, and notes these settings in it."""
    path = folder / SETTINGS_FILE
    there: dict[str, dict[str, Any]] = {}
    if read_results(folder) or any(_work(folder).glob("*/checkpoint-*")):
        if not path.exists():
            raise FileExistsError(f"{folder} holds runs that are not of a comparison; choose another output_dir")
        there = json.loads(path.read_text(encoding="utf-8"))
    for loss, now in settings.items():
        was = there.get(loss, now)
        if other := sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name)):
            names = ", ".join(name for name in other if name != DATA)
            what = f"another {names}" if names else "data that have changed since"
            raise FileExistsError(f"{folder} holds runs of {loss} with {what}; choose another output_dir")
    folder.mkdir(parents=True, exist_ok=True)
    write_json({**there, **settings}, path)


def _work(folder: Path) -> Path:
    return folder / "work"


def _run(settings: Mapping[str, Any], loss: str, seed: int, fold: str | None) -> Run:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return Run(settings["dataset"], settings["model"], loss, seed, settings_digest=digest, fold=fold)


def _results(runs: Sequence[Run], folder: Path, flags: Sequence[str]) -> dict[str, Result]:
    """The results of the runs, by key. Trains the missing runs one after another in this process."""

    def engine(missing: Sequence[Run], setting: Setting) -> Iterator[Finished]:
        for run in missing:
            with working_folder(run, setting.work) as where:
                argv, started = _argv(flags, run.loss, run.seed, run.fold, str(where)), time.time()
                arguments = parse_training([*argv, f"--{way_to_start(where)}"], PROGRAM)
                reset_peak_memory()
                report = train(*arguments, command=command_line(["kr-text", "train", *argv]), started=started)
                line = make_line(run, report, where, setting.commit)
            yield run, line

    setting = Setting(data=(), work=str(_work(folder)), workers=1, fresh=False, commit=commit_of_code())
    run_missing(runs, folder, setting, engine, logger.info)
    return read_results(folder)


def _or_nan(value: Number) -> float:
    """The value, or nan for a number that is not finite, such as an infinite NLL, which a stored report has as None."""
    return math.nan if value is None else value
