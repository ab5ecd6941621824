import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kr_text.report.colours import PAGE
from kr_text.report.page import write_page
from page_cases import ABOUT, GRIDS, PageParser, Tables, add, markdown_tables, run, write_grid


def test_no_placeholder_remains(folder: Path) -> None:
    assert not re.findall(r"{[A-Za-z_]+}", (folder / "report.md").read_text())


def test_finished_and_planned_runs_are_counted(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    assert "11 of 24 runs are finished." in sections["Section table3"]
    assert "10 of 12 runs are finished." in sections["Section schedules"]
    assert "9 of 9 runs are finished." in sections["Section cost"]
    assert text.split("\n\n")[1].endswith("64 of 87 runs are finished.")  # a run in several grids counts once


def test_sections_are_in_their_order_with_plain_grids_last(tables: Tables) -> None:
    order = [*GRIDS]
    order.insert(order.index("cost"), "table3-calibration")
    shown = [name for name in tables if name != "this-page"]
    assert shown[:3] == ["table3", "chosen", "readings"]
    assert shown[-3:] == ["table3-calibration", "cost", "extra"]
    assert sorted(shown) == sorted(order)


def test_a_grid_without_a_section_has_its_errors(tables: Tables) -> None:
    assert tables["extra"][0][1][3:] == ["5.50 (1)", "5.00 (1)"]


def test_the_key_section_and_not_the_file_name_chooses_the_section(tmp_path: Path) -> None:
    block = "{dataset: ag_news, model: fasttext, loss: [ce, kr-ls], seed: 1-2}"
    write_grid(tmp_path, "cost", block)
    write_grid(tmp_path, "my own", block, section="table3")
    write_grid(tmp_path, "other", block, section="table3")
    for seed in (1, 2):
        add(tmp_path, run("ce", seed), 60)
        add(tmp_path, run("kr-ls", seed), 40)
    write_page(tmp_path)
    html = PageParser((tmp_path / "report.html").read_text())
    assert list(html.tables) == ["my-own", "other", "my-own-calibration", "other-calibration", "cost", "this-page"]
    assert "paper: CE" in html.tables["my-own"][0][0]
    assert html.tables["cost"][0][0][3:] == ["CE", "KR-LS"]
    assert len(html.ids) == len(set(html.ids))
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert figures == {"my-own-reliability-ag_news.svg", "other-reliability-ag_news.svg"}


def test_an_unknown_section_is_an_error_that_lists_the_known_sections(tmp_path: Path) -> None:
    path = write_grid(tmp_path, "mine", *GRIDS["extra"], section="tabel3")
    message = rf"{path}: section must be one of table3, chosen, .*cost, or absent, got 'tabel3'"
    with pytest.raises(ValueError, match=message):
        write_page(tmp_path)


def test_markdown_and_html_have_the_same_tables(folder: Path, tables: Tables) -> None:
    in_markdown = markdown_tables((folder / "report.md").read_text(encoding="utf-8"))
    assert list(in_markdown.values()) == list(tables.values())
    assert sum(map(len, tables.values())) > 15


def test_markdown_names_its_figures(folder: Path) -> None:
    named = re.findall(r"\]\((figures/[\w-]+\.svg)\)", (folder / "report.md").read_text())
    assert len(named) == len(set(named)) == len(list((folder / "figures").iterdir()))
    assert all((folder / path).is_file() for path in named)


def test_html_is_well_formed_and_loads_nothing(html: PageParser) -> None:
    assert not html.open
    assert len(html.ids) == len(set(html.ids))
    assert not html.tags & {"script", "link", "img", "iframe"}
    assert all(link.startswith("#") for link in html.links)
    assert {link[1:] for link in html.links} <= set(html.ids)


def test_html_contains_the_figures_of_the_folder(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    for path in (folder / "figures").iterdir():
        ET.parse(path)
        assert path.read_text(encoding="utf-8").strip() in text


def test_every_colour_of_the_style_sheet_is_defined_and_used(folder: Path) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    style = html.partition("<style>")[2].partition("</style>")[0]
    defined, rules = re.findall(r"--(\w+): (#\w+);", style), style.partition("}")[2]
    assert dict(defined) == PAGE
    assert set(re.findall(r"var\(--(\w+)\)", rules)) == PAGE.keys()
    assert "#" not in rules


def test_text_from_the_results_is_escaped(folder: Path) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert ABOUT == "What <b>matters</b> & *why*, in `brief`."
    assert "What &lt;b&gt;matters&lt;/b&gt; &amp; *why*, in `brief`." in html
    assert "<i>Business" not in html
    assert "What \\<b>matters\\</b> & \\*why\\*, in \\`brief\\`." in (folder / "report.md").read_text()


def test_each_section_names_the_commands_that_run_its_grid(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    command = "kr-text run scripts/grids/{}.yaml --results results --data "
    assert text.count(f"{command.format('table3')}data\n") == 2  # calibration has the same runs
    noisy = f"python scripts/make_noisy_data.py data runs/noisy_data\n{command.format('noise')}runs/noisy_data data\n"
    assert text.count(noisy) == 1
    assert text.count(f"{command.format('cost')}data --fresh --workers 1\n") == 2  # also for Table 4
    assert text.endswith("```sh\nkr-text report results --grids scripts/grids\n```\n")


def test_grids_in_the_results_folder_need_no_further_flags(tmp_path: Path) -> None:
    folder = tmp_path / "my results"
    folder.mkdir()
    write_grid(folder, "mine", *GRIDS["extra"])
    write_page(folder)
    text = (folder / "report.md").read_text()
    assert "```sh\nkr-text run 'my results/mine.yaml' --data data\n```" in text
    assert text.endswith("```sh\nkr-text report 'my results'\n```\n")


def test_the_page_names_hardware_versions_and_commit(folder: Path) -> None:
    made = "Made on Linux x86_64 (2 cores, torch threads: 1, accelerator: none), with python 3.11.9, torch 2.13.0, "
    assert made + "from commit abc123." in (folder / "report.md").read_text()


def test_several_commits_are_counted(tmp_path: Path) -> None:
    write_grid(tmp_path, "table3", *GRIDS["table3"], section="table3")
    for seed, commit in enumerate(("abc123", "def456", "abc123+changes"), 1):
        add(tmp_path, run("ce", seed), 10, commit=commit)
    write_page(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "from 2 commits (runs.jsonl names each run's); 1 of the runs had uncommitted changes in the code." in text


def test_the_same_results_give_the_same_page_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder.parent, tmp_path / "copy"))
    (root / "results" / "figures" / "of-an-earlier-page.svg").write_text("<svg/>")
    write_page(root / "results", root / "scripts" / "grids")
    before, after = (
        {path.relative_to(each): path.read_bytes() for path in each.rglob("*") if path.is_file()}
        for each in (folder.parent, root)
    )
    assert before == after


def test_a_page_without_results_shows_the_planned_runs(tmp_path: Path) -> None:
    write_grid(tmp_path, "table3", *GRIDS["table3"], section="table3")
    write_page(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "0 of 24 runs are finished." in text
    assert not PageParser((tmp_path / "report.html").read_text()).open


def test_a_folder_without_grids_is_an_error_that_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must have a grid, NAME\.yaml .*, got none; .* --grids"):
        write_page(tmp_path)
    assert not list(tmp_path.iterdir())
