"""Trains the four classifiers with cross-entropy and with KR-LS, each by its recipe, and tabulates what they reach.

    python scripts/first_results.py data/ag_news results/ag_news

Each run is a `kr-text train` of its own; a run that is finished is not repeated, one that was cut off goes on.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kr_text.reports import Report, format_number, markdown_table, write_text

MODELS = ("fasttext", "textrnn", "transformer", "charcnn")
LOSSES = ("ce", "kr-ls")
SEED = 1


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what is missing, and writes a report for each run and one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="as for `kr-text train`")
    parser.add_argument("results", type=Path, help="folder for the reports and the table")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/first_results"), help="where the models go: %(default)s"
    )
    parser.add_argument("flags", nargs="*", help="further flags of `kr-text train`, after --")
    flags = parser.parse_args(argv)
    flags.results.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        for loss in LOSSES:
            run(model, loss, flags.dataset, flags.runs, flags.results, flags.flags)
            write_text(table(flags.results), flags.results / "README.md")


def run(model: str, loss: str, dataset: str, runs: Path, results: Path, extra: Sequence[str]) -> None:
    """One training, unless its report is there already."""
    name = f"{model}-{loss}"
    if (results / f"{name}.json").exists():
        return
    folder = runs / name
    command = ["kr-text", "train", "--model", model, "--dataset", dataset, "--loss", loss, "--seed", str(SEED)]
    command += ["--output_dir", str(folder), *extra]
    if not (folder / "report.json").exists():
        resume = ["--resume"] if any(folder.glob("checkpoint-*")) else []
        with open(results / f"{name}.log.tmp", "a") as log:
            main_module = [sys.executable, "-m", "kr_text.cli", *command[1:], *resume]
            subprocess.run(main_module, stdout=log, stderr=subprocess.STDOUT, check=True)
        (results / f"{name}.log.tmp").unlink()
    shutil.copy(folder / "report.md", results / f"{name}.md")
    shutil.copy(folder / "report.json", results / f"{name}.json")


def table(results: Path) -> str:
    """A line for each run that is finished, as Markdown."""
    rows, commands = [], []
    for model in MODELS:
        for loss in LOSSES:
            if not (results / f"{model}-{loss}.json").exists():
                continue
            report: Report = json.loads((results / f"{model}-{loss}.json").read_text(encoding="utf-8"))
            metrics = report["test_metrics"]
            rows.append(
                [
                    model,
                    loss,
                    *(format_number(metrics[name], 2) for name in ("error_rate",)),
                    *(format_number(metrics[name], 3) for name in ("nll", "ece")),
                    f"{report['best_epoch']:g} of {len(report['epochs'])}",
                    format_number(report["wall_time_seconds"]["total"], 0),
                    format_number(report["peak_memory_mb"]["process"], 0),
                    f"[report]({model}-{loss}.md)",
                ]
            )
            commands.append(report["command"])
    data, machine = report["dataset"], report["environment"]
    headings = ["model", "loss", "error, %", "NLL, nats", "ECE", "epoch kept", "time, s", "memory, MB", ""]
    return (
        f"# The four classifiers on {data['name']}\n\n"
        f"{data['num_train_rows']:,} training rows, {data['num_validation_rows']:,} validation rows cut from the same "
        f"file, {data['num_test_rows']:,} test rows; seed {report['seed']}, recipe defaults; {machine['num_cores']} "
        "cores, no accelerator. Time is the whole command's. One seed cannot tell the losses apart.\n\n"
        + markdown_table(headings, rows)
        + "\n\n`python scripts/first_results.py data/ag_news results/ag_news` runs what is missing of\n\n```sh\n"
        + "\n".join(commands)
        + "\n```\n"
    )


if __name__ == "__main__":
    main()
