"""Content of the report page: sections of paragraphs, tables and figures, and their Markdown."""

import re
from dataclasses import dataclass

from kr_text.formats.markdown import escaped, markdown_table


@dataclass(frozen=True)
class Paragraph:
    """A few sentences of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table of plain text with a caption."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A drawing with a caption.

    Attributes:
        name: File name without extension, unique on the page; see `slug`.
        svg: Element `svg`.
        caption: Text below the drawing.
        alt: Description for readers who cannot see the drawing.
    """

    name: str
    svg: str
    caption: str
    alt: str


Block = Paragraph | Table | Figure


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: Anchor, unique on the page.
        title: Heading.
        about: Introduction.
        progress: Number of finished runs, as a sentence.
        command: Shell commands that produce the numbers.
        blocks: Content.
    """

    name: str
    title: str
    about: str
    progress: str
    command: str
    blocks: tuple[Block, ...]

    def markdown(self) -> str:
        """The section as Markdown; its figures are in the folder `figures`."""
        parts = [f"## {escaped(self.title)}", escaped(self.about), escaped(self.progress)]
        parts += [_block_markdown(block) for block in self.blocks]
        return "\n\n".join([*filter(None, parts), f"```sh\n{self.command}\n```"])


def slug(*parts: object) -> str:
    """Joins parts with hyphens into a name that is safe in file names, CSS classes and ids.

    >>> slug("noise", "my data.csv", 1)
    'noise-my-data-csv-1'
    """
    return re.sub(r"[^\w-]", "-", "-".join(map(str, parts)))


def _block_markdown(block: Block) -> str:
    if isinstance(block, Paragraph):
        return escaped(block.text)
    if isinstance(block, Figure):
        return f"![{escaped(block.alt)}](figures/{block.name}.svg)\n\n{escaped(block.caption)}"
    rows = [[escaped(cell) for cell in row] for row in block.rows]
    return f"{escaped(block.caption)}\n\n{markdown_table([escaped(heading) for heading in block.headings], rows)}"
