"""Figures of the report page, each from plain numbers to the text of an SVG; the same numbers give the same text.

They can be read in grey: lines differ in dashes and markers, matrices run from white to black. Text stays text, in the
sans-serif font of whoever looks.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Kind = Literal["line", "points", "level"]
FONTS = ["DejaVu Sans", "Verdana", "Arial"]
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#7a4fa3", "#8c6d00", "#c2478f", "#5a5a5a")
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX<>*"
PANEL = (3.5, 2.7)  # width and height in inches
MAX_PANELS = 3  # side by side
MAX_TITLE = 38  # letters in a line of a panel's title: no wider than the panel


@dataclass(frozen=True)
class Curve:
    """Numbers over numbers, with a range around each.

    Attributes:
        kind: a "line" with its range as a band, "points" with bars, or a "level" through the whole panel.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    kind: Kind = "line"


@dataclass(frozen=True)
class Panel:
    """Curves in one frame; with `ticks`, x counts these from 0."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    ticks: Sequence[str] = ()


def curves(panels: Sequence[Panel], name: str, *, share_y: bool = False) -> str:
    """Panels of curves with one key below: a label has the same line in all of them; maybe the same y axis too."""
    from matplotlib.ticker import MaxNLocator

    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    with _style(name):
        figure, frames = _frames(len(panels), PANEL, share_y=share_y)
        for panel, axes in zip(panels, frames, strict=True):
            axes.set(title=_folded(panel.title), xlabel=panel.x_label, ylabel=panel.y_label)
            for curve in panel.curves:
                _draw(axes, curve, labels.index(curve.label))
            if panel.ticks:
                axes.set_xticks(range(len(panel.ticks)), panel.ticks)
                axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
            elif all(float(x).is_integer() for curve in panel.curves for x in curve.x):
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            axes.grid(axis="y", color="0.9", linewidth=0.6)
        _key(figure, frames)
        return _svg(figure, name)


def reliability_diagrams(
    panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[tuple[float, float, int]]]]]], name: str
) -> str:
    """Accuracy over confidence for each bin of `calibration.reliability`, beside the line where both agree.

    Args:
        panels: the title of each, and its methods with their bins.
        name: of the figure.
    """
    labels = list(dict.fromkeys(label for _, methods in panels for label, _ in methods))
    with _style(name):
        figure, frames = _frames(len(panels), (PANEL[0], PANEL[0]))
        for (title, methods), axes in zip(panels, frames, strict=True):
            axes.set(title=_folded(title), xlabel="confidence", ylabel="accuracy")
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
            for label, bins in methods:
                confidence, accuracy, _ = zip(*bins, strict=True)
                _draw(axes, Curve(label, confidence, accuracy, accuracy, accuracy), labels.index(label))
        _key(figure, frames)
        return _svg(figure, name)


def heat_maps(
    rows: Sequence[tuple[str, Sequence[Floats | None]]], columns: Sequence[str], class_names: Sequence[str], name: str
) -> str:
    """Matrices (K, K) of shares, in %, one beside the other and one below; None and nan stay empty.

    Black is the largest share of a row of matrices.

    Args:
        rows: the title of each row of matrices, and these.
        columns: the title of each column of matrices.
        class_names: (K,).
        name: of the figure.
    """
    from matplotlib.figure import Figure

    side = 1.3 + 0.13 * len(class_names)
    with _style(name):
        figure = Figure(figsize=(side * len(columns) + 1.6, side * len(rows) + 0.5), layout="constrained")
        frames = figure.subplots(len(rows), len(columns), squeeze=False)
        for number, (title, matrices) in enumerate(rows):
            largest = max(float(np.nanmax(matrix)) for matrix in matrices if matrix is not None)
            for column, (axes, matrix) in enumerate(zip(frames[number], matrices, strict=True)):
                _matrix(axes, matrix, largest, class_names if column == 0 else None, below=number == len(rows) - 1)
                axes.set_title(columns[column] if number == 0 else "")
            frames[number, 0].set_ylabel(f"{title}\ntrue class" if title else "true class")
        for axes in frames[-1]:
            axes.set_xlabel("class")
        return _svg(figure, name)


def _matrix(
    axes: Axes, matrix: Floats | None, largest: float, class_names: Sequence[str] | None, *, below: bool
) -> None:
    if matrix is None:
        axes.set_axis_off()
        return
    places = range(len(matrix))
    axes.set(aspect="equal", xlim=(-0.5, len(places) - 0.5), ylim=(len(places) - 0.5, -0.5))
    axes.tick_params(length=0, labelsize=7)
    numbers = [f"{k + 1}" for k in places]
    axes.set_xticks(places, numbers if below else [""] * len(places))
    named = [f"{name} ({number})" for name, number in zip(class_names or [], numbers, strict=False)]
    axes.set_yticks(places, named or [""] * len(places))
    edges = np.arange(len(places) + 1) - 0.5
    axes.pcolormesh(edges, edges, matrix, cmap="Greys", vmin=0, vmax=largest, edgecolors="0.85", linewidth=0.3)
    for row, column in zip(*np.nonzero(np.isfinite(matrix)), strict=True):
        share = float(matrix[row, column])
        colour = "white" if share > 0.6 * largest else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6.5)


def _frames(count: int, size: tuple[float, float], *, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    across = min(count, MAX_PANELS)
    down = math.ceil(count / across)
    layout = ConstrainedLayoutEngine(w_pad=0.12)  # inches
    figure = Figure(figsize=(size[0] * across, size[1] * down + 0.4), layout=layout)
    frames = figure.subplots(down, across, squeeze=False, sharey=share_y).ravel()
    for axes in frames[count:]:
        axes.remove()
    return figure, list(frames[:count])


def _folded(title: str) -> str:
    return textwrap.fill(title, MAX_TITLE, break_on_hyphens=False)


def _draw(axes: Axes, curve: Curve, number: int) -> None:
    colour, dash, marker = (cycle[number % len(cycle)] for cycle in (COLOURS, DASHES, MARKERS))
    if curve.kind == "level":
        axes.axhline(curve.y[0], color=colour, linestyle=dash, linewidth=1.3, label=curve.label)
        axes.axhspan(curve.low[0], curve.high[0], color=colour, alpha=0.12, linewidth=0)
    elif curve.kind == "points":
        y, low, high = (np.asarray(values) for values in (curve.y, curve.low, curve.high))
        bars = np.stack([y - low, high - y])
        axes.errorbar(
            curve.x, y, yerr=bars, fmt=marker, color=colour, markersize=4.5, capsize=2.5, linewidth=1, label=curve.label
        )
    else:
        axes.plot(
            curve.x,
            curve.y,
            color=colour,
            linestyle=dash,
            marker=marker,
            markersize=3.5,
            linewidth=1.3,
            label=curve.label,
        )
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)


def _key(figure: Figure, frames: Sequence[Axes]) -> None:
    """One key for all frames, each label once, below them."""
    found = {label: handle for axes in frames for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    width = figure.get_figwidth()
    columns = max(1, int(width / (0.75 + 0.09 * max(map(len, found)))))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


@contextmanager
def _style(name: str) -> Iterator[None]:
    """Matplotlib as it comes, whatever its user's settings are, with ours on top."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rc("font", family="sans-serif", size=9.0, **{"sans-serif": FONTS})
        matplotlib.rc("axes", titlesize=9.0)
        matplotlib.rc("axes.spines", top=False, right=False)
        matplotlib.rc("text", parse_math=False)  # a class may be named $
        matplotlib.rc("svg", fonttype="none", hashsalt=name)
        yield


def _svg(figure: Figure, name: str) -> str:
    """The element svg, without what stands around it in a file, fit to stand beside others on a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return _own_styles(_own_ids(_shortened(text[text.index("<svg") :]), name), name)


def _shortened(svg: str) -> str:
    """Without comments and metadata, such as the date, and with two decimals: a matrix has thousands of numbers."""
    svg = re.sub(r"\s*(<!--.*?-->|<metadata>.*?</metadata>)", "", svg, flags=re.DOTALL)
    return re.sub(r'="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg)


def _own_ids(svg: str, name: str) -> str:
    """With `name` in front of each id that something refers to, and without the others."""
    used = set(re.findall(r'#([^")]+)', svg)) & set(re.findall(r' id="([^"]+)"', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    return re.sub(r'#([^")]+)', lambda found: f"#{name}-{found[1]}" if found[1] in used else found[0], svg)


def _own_styles(svg: str, name: str) -> str:
    """With each style written once, as a class, which halves a matrix, and with no rule for what is outside."""
    styles = list(dict.fromkeys(re.findall(r' style="([^"]*)"', svg)))
    classes = {style: f"{name}-{number}" for number, style in enumerate(styles)}
    svg = re.sub(r' style="([^"]*)"', lambda found: f' class="{classes[found[1]]}"', svg)
    rules = "".join(f".{classes[style]}{{{style}}}" for style in styles)
    return re.sub(
        r'<style type="text/css">\*\{([^}]*)\}</style>',
        lambda found: f'<style type="text/css">.{name} *{{{found[1]}}}{rules}</style>',
        svg.replace("<svg ", f'<svg class="{name}" ', 1),
    )
