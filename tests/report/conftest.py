from pathlib import Path

import pytest

from kr_text.report.page import write_page
from page_cases import GRIDS, PageParser, Tables, make_results, write_grid


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with its page, and its grids in another folder. Read-only."""
    root = tmp_path_factory.mktemp("page")
    results, grids = root / "results", root / "scripts" / "grids"
    results.mkdir()
    grids.mkdir(parents=True)
    for name, blocks in GRIDS.items():
        write_grid(grids, name, *blocks, section=None if name == "extra" else name)
    make_results(results)
    write_page(results, grids)
    return results


@pytest.fixture(scope="session")
def html(folder: Path) -> PageParser:
    return PageParser((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def tables(html: PageParser) -> Tables:
    return html.tables
