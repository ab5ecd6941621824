"""Writes the numbers of results/ into the table of README.md.

    python scripts/readme_table.py

The table has a row for each data set, model and number of training rows where cross-entropy and KR-LS have the same
finished seeds.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from kr_text.formats.whole_files import write_text
from kr_text.report.comparisons import against_ce, compared, with_baselines
from kr_text.report.paper_table3 import PAPER
from kr_text.report.study import Cell, Study

ROOT = Path(__file__).resolve().parents[1]
HEADINGS = "| data | model | training rows | seeds | CE | KR-LS | paper: CE | paper: KR-LS |\n"
RULE = "|---|---|---|---|---|---|---|---|\n"


def main() -> None:
    """Replaces the rows below the table's headings."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    table = re.compile(re.escape(HEADINGS + RULE) + r"(?:\|.*\n)*")
    if not table.search(text):
        raise ValueError(f"{path} must have a table with the headings {HEADINGS.strip()}, got none")
    rows = table_rows(Study(ROOT / "results", ROOT / "scripts" / "grids"))
    write_text(table.sub(HEADINGS + RULE + "".join(f"{row}\n" for row in rows), text), path)


def table_rows(study: Study) -> Iterator[str]:
    """Rows of the table: mean test errors in %, bold where the difference is significant."""
    pairs = against_ce(study, with_baselines(study, study.cells(study.grids["table3"])))
    for (cell, baseline), verdict in compared(study, pairs):
        if cell.setting.loss == "kr-ls" and cell.seeds == baseline.seeds:
            mark = "" if verdict.word == "no difference shown" else "**"
            yield table_row(cell, baseline, mark)


def table_row(cell: Cell, baseline: Cell, mark: str) -> str:
    """One row of the table, with `mark` around the error of KR-LS."""
    setting = cell.setting
    num_rows = cell.results[0].report["dataset"]["num_train_rows"]
    ce, kr_ls = PAPER[setting.dataset, setting.model]
    cells = [setting.dataset, setting.model, f"{num_rows:,}", str(len(cell.seeds)), f"{baseline.error.mean:.2f}"]
    cells += [f"{mark}{cell.error.mean:.2f}{mark}", f"{ce:.2f}", f"{kr_ls:.2f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
