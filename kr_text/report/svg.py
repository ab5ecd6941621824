"""Matplotlib figures as deterministic SVG elements that can share one HTML page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = ["DejaVu Sans", "Verdana", "Arial"]


@contextmanager
def style(name: str) -> Iterator[None]:
    """Sets Matplotlib's defaults plus the style of the report, whatever the user's settings.

    Text stays text, so the reader's browser chooses the font.

    Args:
        name: Seed of the ids that Matplotlib generates.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rc("font", family="sans-serif", size=9.0, **{"sans-serif": FONTS})
        matplotlib.rc("axes", titlesize=9.0)
        matplotlib.rc("axes.spines", top=False, right=False)
        matplotlib.rc("text", parse_math=False)  # a class may be named $
        matplotlib.rc("svg", fonttype="none", hashsalt=name)
        yield


def to_svg(figure: Figure, name: str) -> str:
    """The element `svg` of a figure, with ids and CSS classes that start with `figure-{name}`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    scope = f"figure-{name}"
    return _scope_styles(_scope_ids(_shorten(text[text.index("<svg") :]), scope), scope)


def _shorten(svg: str) -> str:
    """Removes comments and metadata (they hold the date) and rounds coordinates to two decimals."""
    svg = re.sub(r"\s*(<!--.*?-->|<metadata>.*?</metadata>)", "", svg, flags=re.DOTALL)
    return re.sub(r'="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg)


def _scope_ids(svg: str, scope: str) -> str:
    """Puts `scope` in front of each id that is referenced and removes the others."""
    used = set(re.findall(r'#([^")]+)', svg)) & set(re.findall(r' id="([^"]+)"', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{scope}-{found[1]}"' if found[1] in used else "", svg)
    return re.sub(r'#([^")]+)', lambda found: f"#{scope}-{found[1]}" if found[1] in used else found[0], svg)


def _scope_styles(svg: str, scope: str) -> str:
    """Turns inline styles into CSS classes of this figure alone; a heat map is half as long with classes."""
    styles = list(dict.fromkeys(re.findall(r' style="([^"]*)"', svg)))
    classes = {style: f"{scope}-{number}" for number, style in enumerate(styles)}
    svg = re.sub(r' style="([^"]*)"', lambda found: f' class="{classes[found[1]]}"', svg)
    rules = "".join(f".{classes[style]}{{{style}}}" for style in styles)
    return re.sub(
        r'<style type="text/css">\*\{([^}]*)\}</style>',
        lambda found: f'<style type="text/css">.{scope} *{{{found[1]}}}{rules}</style>',
        svg.replace("<svg ", f'<svg class="{scope}" ', 1),
    )
