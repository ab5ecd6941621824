"""The report page of a folder of results, as HTML in one file and as Markdown with its figures beside it."""

from collections.abc import Sequence
from pathlib import Path

from kr_text.formats.whole_files import write_text
from kr_text.report.blocks import Figure, Paragraph, Section, Table, escaped
from kr_text.report.sections import headline, machines, sections
from kr_text.report.study import Study

TITLE = "Knowledge Refinery for text classification: results"


def write_page(folder: Path) -> None:
    """Writes report.html, report.md and figures/*.svg into a folder of results, from nothing but what is in it.

    The same results give the same files, byte for byte. Figures of an earlier page are removed.

    Raises:
        ValueError: the folder has no grid, or a file of it is not what its name says.
    """
    study = Study(folder.resolve())
    if not study.grids:
        raise ValueError(f"{folder} must have a grid, NAME.yaml (see kr_text/grids.py), got none")
    shown = sections(study)
    top = [headline(study), machines(study)]
    command = f"kr-text report {study.folder.name}"
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

    kinds = {"table": Table, "figure": Figure}
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.tests |= {name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()}
    source = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    page = environment.from_string(source).render(title=TITLE, sections=shown, top=top, command=command)
    return page + "\n"
