"""Several losses over several seeds on one data set, compared with paired tests."""

import json
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from kr_text.arguments import parse_training
from kr_text.reports import Report, format_number, markdown_table, write_json, write_text
from kr_text.statistics import holm, mean_and_deviation, paired_bootstrap
from kr_text.training import PREDICTIONS_FILE, train

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
        flags: further flags of `kr-text train`, the same for every run.
        command: the command line, for the report.

    Raises:
        ValueError: flags that do not fit; FileExistsError: the folder holds runs with other flags.
    """
    runs = {
        (loss, seed): [*flags, "--loss", loss, "--seed", str(seed), "--output_dir", f"{output_dir}/{loss}-seed{seed}"]
        for seed in seeds
        for loss in losses
    }
    for argv in runs.values():
        parse_training(argv, "kr-text compare")  # what is wrong shows before the first run
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
        "row by row and seed by seed: bootstrap over rows and seeds, p-values Holm-corrected.\n\n"
        + markdown_table(headings, rows)
        + f"\n\n```sh\n{result['command']}\n```\n"
    )


def _finished(argv: list[str]) -> Report | None:
    """The report of a run that these flags made, if there is one."""
    path = Path(argv[-1]) / "report.json"
    if not path.exists():
        return None
    report = cast(Report, json.loads(path.read_text(encoding="utf-8")))
    if report["command"] != _command(argv):
        raise FileExistsError(
            f"{path.parent} holds a run with other flags, {report['command']}; choose another output_dir"
        )
    return report


def _train(argv: list[str]) -> Report:
    folder = Path(argv[-1])
    resume = ["--resume"] if any(folder.glob("checkpoint-*")) else []
    run, args = parse_training([*argv, *resume], "kr-text compare")
    report = train(run, args, command=_command(argv), started=time.time())
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    return report


def _command(argv: list[str]) -> str:
    return shlex.join(["kr-text", "train", *argv])


def _against_baseline(
    losses: Sequence[str], seeds: Sequence[int], baseline: str, reports: dict[tuple[str, int], Report], folder: Path
) -> list[Compared]:
    errors = {loss: np.stack([_errors(folder / f"{loss}-seed{seed}") for seed in seeds]) for loss in losses}
    tests = {loss: paired_bootstrap(errors[loss], errors[baseline]) for loss in losses if loss != baseline}
    p_values = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    compared: list[Compared] = []
    for loss in losses:
        test = tests.get(loss)
        metrics = [reports[loss, seed]["test_metrics"] for seed in seeds]
        compared.append(
            {
                "loss": loss,
                "metrics": {name: [cast(float, each[name]) for each in metrics] for name in COMPARED},
                "difference": 100 * test.difference if test else None,
                "interval": (100 * test.low, 100 * test.high) if test else None,
                "p_value": p_values.get(loss),
            }
        )
    return compared


def _errors(folder: Path) -> npt.NDArray[np.bool_]:
    """(rows,): whether the run got each test row wrong."""
    saved: dict[str, npt.NDArray[Any]] = load_file(folder / PREDICTIONS_FILE)
    wrong: npt.NDArray[np.bool_] = saved["probabilities"].argmax(axis=1) != saved["labels"]
    return wrong
