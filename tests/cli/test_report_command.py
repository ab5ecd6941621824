import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Main = Callable[..., int]


@pytest.mark.parametrize(("flags", "grids"), [([], None), (["--grids", "scripts/grids"], Path("scripts/grids"))])
def test_report_writes_the_page_of_a_folder_of_results(
    kr_text: Main,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    grids: Path | None,
) -> None:
    pages: list[tuple[Path, Path | None]] = []
    monkeypatch.setattr("kr_text.report.page.write_page", lambda folder, grids: pages.append((folder, grids)))
    assert kr_text("report", "results", *flags) == 0
    assert pages == [(Path("results"), grids)]
    assert capsys.readouterr() == ("", "Saved in results/report.html and report.md\n")


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_report_names_the_package_that_it_needs(
    kr_text: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert kr_text("report", "results") == 2
    message = f"kr-text report: report needs the package {package}: pip install 'kr-text[report]'\n"
    assert capsys.readouterr() == ("", message)
