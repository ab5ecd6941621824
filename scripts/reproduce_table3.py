"""Table 3 of the paper, from the data to the report.

    python scripts/reproduce_table3.py --data data --results results_mine   the published grids, run anew
    python scripts/reproduce_table3.py --full   on all rows, from the Hub: wants an accelerator; into results_full

The grids are results/table3.yaml and chosen.yaml. Each command goes on where it was stopped, and runs no more than is
missing: in the published folder, which is meant without --results, that is nothing. The data sets are looked for in the
folders of `--data` first, and on the Hub then. Flags after `--` go to `kr-text run`, as `-- --only model=fasttext` or
`-- --engine ray`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from kr_text.cli import main as kr_text
from kr_text.formats.whole_files import write_text
from kr_text.formats.yaml_files import read_yaml

GRIDS = Path(__file__).resolve().parents[1] / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and writes the report; returns what `kr-text` does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], help="folders that hold data sets")
    parser.add_argument("--full", action="store_true", help="train on all rows")
    parser.add_argument("--results", type=Path, help="folder for the results; by default results, or results_full")
    parser.add_argument("flags", nargs="*", help="further flags of `kr-text run`, after --")
    flags = parser.parse_args(argv)
    results: Path = flags.results or (GRIDS.with_name("results_full") if flags.full else GRIDS)
    grids = [results / name for name in ("table3.yaml", "chosen.yaml")]
    if flags.full and results.resolve() == GRIDS:
        parser.error("--full must have a folder of its own for its results")
    for grid in grids:
        if results.resolve() != GRIDS:
            results.mkdir(parents=True, exist_ok=True)
            _copy_grid(GRIDS / grid.name, grid, all_rows=flags.full)
    run = ["run", *map(str, grids), "--data", *flags.data, *flags.flags]
    return kr_text(run) or kr_text(["report", str(results)])


def _copy_grid(source: Path, target: Path, *, all_rows: bool) -> None:
    grid = read_yaml(source)
    if all_rows:
        grid["about"] = f"All rows of the full data sets; rates and epochs are those of results/{source.name}."
        for block in grid["runs"]:
            block.pop("max_train_rows", None)
    write_text(yaml.safe_dump(grid, sort_keys=False, allow_unicode=True, width=120), target)


if __name__ == "__main__":
    raise SystemExit(main())
