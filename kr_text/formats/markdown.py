"""Formats Markdown tables, plain text in Markdown, and numbers as text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
Number = float | None  # None if not measured or not finite


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table with columns of equal width; escapes pipes, replaces line breaks with spaces."""
    lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in (headings, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def escaped(text: str) -> str:
    """Plain text on one line of Markdown; escapes markup, HTML, links and entities, and drops control characters."""
    return re.sub(r"[\\`*<#]|\](?=\()|&(?=#?\w+;)", r"\\\g<0>", " ".join(CONTROL.sub(" ", text).split()))


def format_number(value: Number, digits: int = 2) -> str:
    """Formats a number with thousands separators; "n/a" if it is None or not finite. A rounded 0 has no sign."""
    return "n/a" if value is None or not math.isfinite(value) else f"{round(value, digits) + 0.0:,.{digits}f}"


def format_p_value(value: float, digits: int) -> str:
    """Formats a p-value; below the smallest positive number with these digits, as in "<0.001"."""
    smallest = 10**-digits
    return f"<{smallest:.{digits}f}" if value < smallest else f"{value:.{digits}f}"
