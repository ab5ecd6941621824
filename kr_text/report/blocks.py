"""What the report page is made of: sections with paragraphs, tables and figures, and these as Markdown."""

import re
from dataclasses import dataclass

from kr_text.formats.markdown import markdown_table


@dataclass(frozen=True)
class Paragraph:
    """A few sentences of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Plain text in columns, and what they are."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        name: of its file, without extension, and of nothing else on the page.
        svg: the drawing, an element `svg`.
        caption: what it shows.
        alt: what one sees there, for those who cannot.
    """

    name: str
    svg: str
    caption: str
    alt: str


Block = Paragraph | Table | Figure


@dataclass(frozen=True)
class Section:
    """A part of the page: what was asked, how much of it is finished, what was found, and the command that finds it."""

    name: str
    title: str
    about: str
    progress: str
    command: str
    blocks: tuple[Block, ...]

    def markdown(self) -> str:
        """The section as Markdown, its figures in the folder `figures` beside it."""
        parts = [f"## {escaped(self.title)}", escaped(self.about), escaped(self.progress)]
        parts += [_block_markdown(block) for block in self.blocks]
        return "\n\n".join([*filter(None, parts), f"```sh\n{self.command}\n```"])


def escaped(text: str) -> str:
    """The text with what Markdown would take for markup made harmless, in one line."""
    return re.sub(r"([\\`*<#])", r"\\\1", " ".join(text.split()))


def _block_markdown(block: Block) -> str:
    if isinstance(block, Paragraph):
        return escaped(block.text)
    if isinstance(block, Figure):
        return f"![{escaped(block.alt)}](figures/{block.name}.svg)\n\n{escaped(block.caption)}"
    rows = [[escaped(cell) for cell in row] for row in block.rows]
    return f"{escaped(block.caption)}\n\n{markdown_table([escaped(heading) for heading in block.headings], rows)}"
