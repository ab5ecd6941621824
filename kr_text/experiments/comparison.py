"""Several losses over several seeds on one data set, compared with paired tests."""

import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from kr_text.data.sources import fingerprint
from kr_text.experiments.significance import holm, mean_and_deviation, paired_bootstrap
from kr_text.formats.markdown import format_number, markdown_table
from kr_text.formats.whole_files import write_json, write_text
from kr_text.training.arguments import command_line, parse_training
from kr_text.training.prepare import load_for
from kr_text.training.report import PREDICTIONS_FILE, Report
from kr_text.training.resume import last_checkpoint
from kr_text.training.settings import DATA, run_settings, saved_settings
from kr_text.training.train import train

OWN_FLAGS = {"loss", "seed", "output_dir", "resume", "overwrite", "resume_from_checkpoint"}  # differ from run to run
COMPARED = {"error_rate": "error, %", "nll": "NLL, nats", "ece": "ECE"}  # metric: heading


class Compared(TypedDict):
    """One loss: each metric's value for each seed, and its error against the baseline's, in percentage points."""

    loss: str
    metrics: dict[str, list[float]]
    difference: float | None
    interval: tuple[float, float] | None
    p_value: float | None


class Comparison(TypedDict):
    """A line for each loss; p-values are those of a paired bootstrap over rows and seeds, Holm-corrected."""

    command: str
    model: str
    dataset: str
    num_train_rows: int
    num_test_rows: int
    seeds: list[int]
    baseline: str
    losses: list[Compared]


def compare(
    losses: Sequence[str], seeds: Sequence[int], output_dir: str, flags: Sequence[str], *, command: str
) -> Comparison:
    """Trains with every loss and every seed, and writes comparison.json and comparison.md.

    Each run has a folder of its own, `LOSS-seedN`. A run that is finished is not trained again, one that was cut off
    goes on from its last checkpoint.

    Args:
        losses: names as for `kr-text train`; "ce" is the baseline, or the first one where it is left out.
        seeds: of the runs.
        output_dir: where everything goes.
        flags: further flags of `kr-text train`, the same for every run; `--loss_overrides` are of all losses but "ce",
            which has none, and `--teacher` of "kd".
        command: the command line, for the report.

    Raises:
        ValueError: flags that do not fit; FileExistsError: the folder holds runs with other flags.
    """
    for name, values in (("losses", losses), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} must be one or more, each once, got {', '.join(map(str, values)) or 'none'}")
    if own := sorted(_flag_names(flags) & OWN_FLAGS):
        raise ValueError(f"flags must be those that all runs share, got --{', --'.join(own)}; see losses and seeds")
    runs = {
        (loss, seed): _argv(flags, loss, seed, f"{output_dir}/{loss}-seed{seed}") for seed in seeds for loss in losses
    }
    for argv in runs.values():
        _check_folder(argv)
    _check_data(list(runs.values()))
    reports = {key: _finished(argv) or _train(argv) for key, argv in runs.items()}
    baseline = "ce" if "ce" in losses else losses[0]
    some = reports[baseline, seeds[0]]
    result: Comparison = {
        "command": command,
        "model": some["model"]["name"],
        "dataset": some["dataset"]["name"],
        "num_train_rows": some["dataset"]["num_train_rows"],
        "num_test_rows": some["dataset"]["num_test_rows"],
        "seeds": list(seeds),
        "baseline": baseline,
        "losses": _against_baseline(losses, seeds, baseline, reports, Path(output_dir)),
    }
    write_json(result, Path(output_dir) / "comparison.json")
    write_text(comparison_markdown(result), Path(output_dir) / "comparison.md")
    return result


def comparison_markdown(result: Comparison) -> str:
    """The comparison as a Markdown table: mean and deviation over the seeds, and the error against the baseline's."""
    rows = []
    for compared in result["losses"]:
        cells = [compared["loss"]]
        for metric in COMPARED:
            mean, deviation = mean_and_deviation(compared["metrics"][metric])
            digits = 2 if metric == "error_rate" else 4
            cells.append(f"{format_number(mean, digits)} ± {format_number(deviation, digits)}")
        if compared["interval"] is None:
            cells += ["baseline", ""]
        else:
            low, high = compared["interval"]
            cells += [f"{compared['difference']:+.2f} ({low:+.2f} to {high:+.2f})", f"{compared['p_value']:.4f}"]
        rows.append(cells)
    headings = ["loss", *COMPARED.values(), f"error against {result['baseline']}, points (95%)", "p"]
    return (
        f"# {result['model']} on {result['dataset']}\n\n"
        f"{result['num_train_rows']:,} training rows, {result['num_test_rows']:,} test rows, seeds "
        f"{', '.join(map(str, result['seeds']))}; mean ± standard deviation over the seeds. Differences are paired, "
        "row by row and seed by seed: a bootstrap over rows and seeds, with the distribution of Behrens and Fisher; "
        "p-values are Holm-corrected.\n\n" + markdown_table(headings, rows) + f"\n\n```sh\n{result['command']}\n```\n"
    )


def _argv(flags: Sequence[str], loss: str, seed: int, folder: str) -> list[str]:
    """The flags of one run, its folder last."""
    given = _flag_names(flags)
    left_out = [name for name, heeded in (("loss_overrides", loss != "ce"), ("teacher", loss == "kd")) if not heeded]
    without = [f"--{name}=" for name in left_out if name in given]
    return [*flags, *without, "--loss", loss, "--seed", str(seed), "--output_dir", folder]


def _flag_names(flags: Sequence[str]) -> set[str]:
    return {flag[2:].partition("=")[0].replace("-", "_") for flag in flags if flag.startswith("--")}


def _check_data(runs: Sequence[list[str]]) -> None:
    """Refuses runs that were made with other data, as of a file that was changed since."""
    there = {argv[-1]: (saved_settings(Path(argv[-1])) or {}).get(DATA) for argv in runs}
    if not any(there.values()):
        return
    run, _ = parse_training(runs[0], "kr-text compare")
    now = fingerprint(load_for(run))
    if other := [folder for folder, found in there.items() if found not in (None, now)]:
        raise FileExistsError(f"{other[0]} holds a run on data that have changed since; choose another output_dir")


def _check_folder(argv: list[str]) -> None:
    """Refuses wrong flags, and a folder with a run, finished or cut off, that other settings made."""
    folder, settings = Path(argv[-1]), run_settings(*parse_training(argv, "kr-text compare"))
    if not (folder / "report.json").exists() and not any(folder.glob("checkpoint-*")):
        return
    there = saved_settings(folder)
    if there is None:
        raise FileExistsError(f"{folder} holds a run that is not of this comparison; choose another output_dir")
    names = (there.keys() | settings.keys()) - {DATA}
    if other := sorted(name for name in names if there.get(name) != settings.get(name)):
        raise FileExistsError(f"{folder} holds a run with another {', '.join(other)}; choose another output_dir")


def _finished(argv: list[str]) -> Report | None:
    path = Path(argv[-1]) / "report.json"
    return cast(Report, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _train(argv: list[str]) -> Report:
    folder = Path(argv[-1])
    how = "--resume" if last_checkpoint(folder) else "--overwrite"  # a checkpoint cut off in writing is no use
    run, args = parse_training([*argv, how], "kr-text compare")
    report = train(run, args, command=command_line(["kr-text", "train", *argv]), started=time.time())
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    return report


def _against_baseline(
    losses: Sequence[str], seeds: Sequence[int], baseline: str, reports: dict[tuple[str, int], Report], folder: Path
) -> list[Compared]:
    errors = _errors({loss: [folder / f"{loss}-seed{seed}" for seed in seeds] for loss in losses})
    tests = {loss: paired_bootstrap(errors[loss], errors[baseline]) for loss in losses if loss != baseline}
    p_values = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    compared: list[Compared] = []
    for loss in losses:
        test = tests.get(loss)
        metrics = [reports[loss, seed]["test_metrics"] for seed in seeds]
        compared.append(
            {
                "loss": loss,
                "metrics": {name: [_finite(each[name]) for each in metrics] for name in COMPARED},
                "difference": 100 * test.difference if test else None,
                "interval": (100 * test.low, 100 * test.high) if test else None,
                "p_value": p_values.get(loss),
            }
        )
    return compared


def _finite(value: float | None) -> float:
    """An infinite NLL, which a report read from its file has as None, is nan: it has no mean over the seeds."""
    return math.nan if value is None or math.isinf(value) else value


def _errors(folders: dict[str, list[Path]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Of each loss (seeds, rows): whether its runs got each test row wrong."""
    errors: dict[str, npt.NDArray[np.bool_]] = {}
    labels: npt.NDArray[np.int64] | None = None
    for loss, of_seeds in folders.items():
        wrong = []
        for folder in of_seeds:
            saved: dict[str, npt.NDArray[Any]] = load_file(folder / PREDICTIONS_FILE)
            labels = saved["labels"] if labels is None else labels
            if not np.array_equal(saved["labels"], labels):
                raise ValueError(f"{folder} must have the test rows of the other runs, got others: remove it")
            wrong.append(saved["probabilities"].argmax(axis=1) != labels)
        errors[loss] = np.stack(wrong)
    return errors
