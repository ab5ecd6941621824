"""Reproduces Table 3 of the paper, from the data to the report.

    python scripts/reproduce_table3.py --data data --results results_mine   trains every run of the two grids again
    python scripts/reproduce_table3.py --full   trains on all rows from the Hub, into results_full; needs an accelerator

The grids are scripts/grids/table3.yaml and chosen.yaml. An interrupted command continues when started again. Only
missing runs are trained: in the published folder, which is the default without --full, there are none. Data sets come
from the folders in `--data`, else from the Hub. Flags after `--` go to `kr-text run`, for example
`-- --only model=fasttext` or `-- --engine ray`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from kr_text.cli import main as kr_text
from kr_text.formats.whole_files import write_text
from kr_text.formats.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parents[1]
GRIDS, PUBLISHED = ROOT / "scripts" / "grids", ROOT / "results"
NAMES = ("table3.yaml", "chosen.yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Trains the missing runs and writes the report. Returns the exit status of `kr-text`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], help="folders that hold data sets")
    parser.add_argument("--full", action="store_true", help="train on all rows")
    parser.add_argument("--results", type=Path, help="folder for the results; by default results, or results_full")
    parser.add_argument("flags", nargs="*", help="further flags of `kr-text run`, after --")
    flags = parser.parse_args(argv)
    results: Path = flags.results or (ROOT / "results_full" if flags.full else PUBLISHED)
    published = results.resolve() == PUBLISHED
    if flags.full and published:
        parser.error("--full must have a results folder of its own")
    grids = GRIDS if published else results / "grids"
    if not published:
        grids.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            _copy_grid(GRIDS / name, grids / name, all_rows=flags.full)
    paths = [str(grids / name) for name in NAMES]
    run = ["run", *paths, "--results", str(results), "--data", *flags.data, *flags.flags]
    return kr_text(run) or kr_text(["report", str(results), "--grids", str(grids)])


def _copy_grid(source: Path, target: Path, *, all_rows: bool) -> None:
    grid = read_yaml(source)
    if all_rows:
        grid["about"] = (
            "All rows of the full data sets. Learning rates and epochs are those of the published grid, "
            f"scripts/grids/{source.name}."
        )
        for block in grid["runs"]:
            block.pop("max_train_rows", None)
    write_text(yaml.safe_dump(grid, sort_keys=False, allow_unicode=True, width=120), target)


if __name__ == "__main__":
    raise SystemExit(main())
