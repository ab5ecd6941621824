"""The report page of a folder of results: HTML in one file, and Markdown with separate figures."""

from collections.abc import Sequence
from pathlib import Path

from kr_text.formats.markdown import escaped
from kr_text.formats.whole_files import write_text
from kr_text.report.blocks import Figure, Paragraph, Section, Table
from kr_text.report.colours import css_variables
from kr_text.report.commands import report_command
from kr_text.report.sections import sections
from kr_text.report.study import Study
from kr_text.report.summary import headline, machines

TITLE = "Knowledge Refinery for text classification: results"


def write_page(folder: Path, grids: Path | None = None) -> None:
    """Writes report.html, report.md and figures/*.svg into a folder of results.

    The same results and grids give the same files, byte for byte. Removes the figures of an earlier page.

    Args:
        folder: Results folder, with runs.jsonl.
        grids: Folder with the grids, NAME.yaml; the results folder by default.

    Raises:
        ValueError: There is no grid, or a file of grids or results is invalid.
    """
    study = Study(folder.resolve(), None if grids is None else grids.resolve())
    if not study.grids:
        raise ValueError(
            f"{folder if grids is None else grids} must have a grid, NAME.yaml (see kr_text/experiments/grids.py), got "
            "none; name the folder of the grids with --grids"
        )
    shown = sections(study)
    top = [headline(study), machines(study)]
    command = report_command(study)
    _write_figures(shown, folder / "figures")
    write_text(_markdown(shown, top, command), folder / "report.md")
    write_text(_html(shown, top, command), folder / "report.html")


def _write_figures(shown: Sequence[Section], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.svg"):
        path.unlink()
    for figure in (block for section in shown for block in section.blocks if isinstance(block, Figure)):
        write_text(figure.svg, folder / f"{figure.name}.svg")


def _markdown(shown: Sequence[Section], top: Sequence[Paragraph], command: str) -> str:
    parts = [f"# {TITLE}", *(escaped(paragraph.text) for paragraph in top), *(section.markdown() for section in shown)]
    return "\n\n".join([*parts, "## This page", f"```sh\n{command}\n```"]) + "\n"


def _html(shown: Sequence[Section], top: Sequence[Paragraph], command: str) -> str:
    import jinja2

    here = Path(__file__).parent
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    kinds = {"table": Table, "figure": Figure}
    environment.tests |= {name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()}
    template = environment.from_string((here / "report.html.jinja").read_text(encoding="utf-8"))
    css = f"{css_variables()}\n{(here / 'style.css').read_text(encoding='utf-8')}"
    return template.render(title=TITLE, sections=shown, top=top, command=command, css=css) + "\n"
