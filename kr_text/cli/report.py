"""Command `kr-text report`."""

import argparse
import sys
from pathlib import Path

from kr_text.cli.parser import CommandParser

SUMMARY = "write a page with tables and figures of the results"
DESCRIPTION = (
    "Writes a page with tables, paired tests and figures into a folder of results: report.html, in one file, and "
    "report.md."
)


def add_flags(parser: CommandParser) -> None:
    """Adds the flags of `kr-text report`."""
    parser.add_argument("results", metavar="RESULTS", help="folder to which `kr-text run` wrote its results")
    parser.add_argument("--grids", metavar="FOLDER", help="folder with the grids of the results; default: RESULTS")
    parser.set_defaults(execute=_report)


def _report(flags: argparse.Namespace) -> None:
    try:
        import jinja2  # noqa: F401  is it installed?
        import matplotlib  # noqa: F401  is it installed?
    except ImportError as error:
        raise ValueError(f"report needs the package {error.name}: pip install 'kr-text[report]'") from error
    from kr_text.report.page import write_page

    write_page(Path(flags.results), grids=Path(flags.grids) if flags.grids else None)
    print(f"Saved in {flags.results}/report.html and report.md", file=sys.stderr)
