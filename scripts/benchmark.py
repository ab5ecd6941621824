"""Times kr-text against other implementations and checks that both do the same work.

    python scripts/benchmark.py data/ag_news results/benchmark
    python scripts/benchmark.py data/ag_news runs/quick --quick     one short round of every comparison

The two sides of a comparison run in turn for several rounds; the result is the median of the rounds. Writes
benchmark.json, benchmark.md and benchmark.png. Requires the extra `benchmark`.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import matplotlib.pyplot as plt
from benchmark_commands import command_rows
from benchmark_timing import FULL, QUICK, Row, Size
from benchmark_training import training_rows

from kr_text.formats.markdown import markdown_table
from kr_text.formats.whole_files import write_json, write_text
from kr_text.machine.environment import environment
from kr_text.machine.process import prepare_for_training


def main(argv: Sequence[str] | None = None) -> None:
    """Runs all comparisons and writes the files after each one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="name or path of a data set, as for `kr-text train`")
    parser.add_argument("results", type=Path, help="folder for benchmark.json, benchmark.md and benchmark.png")
    parser.add_argument("--quick", action="store_true", help="one short round of every comparison")
    flags = parser.parse_args(argv)
    prepare_for_training()
    flags.results.mkdir(parents=True, exist_ok=True)
    size = QUICK if flags.quick else FULL
    rows: list[Row] = []
    with folder_of_temporary_files():
        for row in chain(training_rows(flags.dataset, size), command_rows(flags.dataset, size)):
            rows.append(row)
            low, high = min(row.figures), max(row.figures)
            print(f"{row.path} against {row.peer}: {row.median:.3g}{row.unit} ({low:.3g} to {high:.3g})", flush=True)
            write(rows, flags.results, size)


@contextmanager
def folder_of_temporary_files() -> Iterator[None]:
    """Puts all new temporary files into one folder, which is removed at the end."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def write(rows: list[Row], folder: Path, size: Size) -> None:
    """Writes the figures as JSON, as a table and as a plot."""
    lines = [{**asdict(row), "median": row.median} for row in rows]
    write_json({"rounds": size.rounds, "environment": environment(), "rows": lines}, folder / "benchmark.json")
    table = [
        [
            row.path,
            row.peer,
            row.work,
            f"{row.median:.3g} {row.unit}",
            f"{min(row.figures):.3g} to {max(row.figures):.3g}",
            f"{row.reach:.3g} {row.unit}",
        ]
        for row in rows
    ]
    headings = ["path", "against", "work of each round", "median", "rounds", "to reach, at most"]
    write_text(
        f"# Time and memory of kr-text over others\n\n`python {shlex.join(sys.argv)}`: both sides in turn, medians of "
        f"{size.rounds} rounds. x is our time or memory divided by theirs; ms is our time minus theirs.\n\n"
        + markdown_table(headings, table)
        + "\n",
        folder / "benchmark.md",
    )
    plot([row for row in rows if row.unit == "x"], folder / "benchmark.png")


def plot(rows: list[Row], path: Path) -> None:
    """Plots the median of each row, the range of its rounds and its target."""
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(rows) + 1.2), layout="constrained")
    places = range(len(rows))
    medians = [row.median for row in rows]
    ranges = [[row.median - min(row.figures) for row in rows], [max(row.figures) - row.median for row in rows]]
    axes.errorbar(medians, places, xerr=ranges, fmt="o", color="0.3", label="median and range")
    axes.plot([row.reach for row in rows], places, "k|", markersize=14, label="target, at most")
    axes.axvline(1, color="0.6", linewidth=0.8)
    axes.set_yticks(places, [f"{row.path}\nagainst {row.peer}" for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
    axes.set_xticks(ticks, map("{:g}".format, ticks))
    axes.minorticks_off()
    axes.set_xlabel("our time or memory divided by theirs (log scale)")
    axes.grid(axis="x", color="0.9")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
