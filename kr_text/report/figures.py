"""Figures of the report page: numbers in, the text of an SVG out; equal numbers give equal text.

The figures work in grey: lines differ in dashes and markers, and heat maps run from white to black.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from kr_text.report import colours
from kr_text.report.svg import style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Kind = Literal["line", "points", "level"]
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX<>*"
PANEL = (3.5, 2.7)  # width and height in inches
MAX_PANELS = 3  # in a row
MAX_TITLE = 38  # characters in a line of a panel's title, so that it fits the panel


@dataclass(frozen=True)
class Curve:
    """A series of numbers with an interval around each.

    Attributes:
        label: Entry in the key.
        x: Positions.
        y: Values at these positions.
        low: Lower ends of the intervals.
        high: Upper ends of the intervals.
        kind: "line" with a band, "points" with error bars, or "level": a horizontal line with a band.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    kind: Kind = "line"


@dataclass(frozen=True)
class Panel:
    """Curves that share axes.

    Attributes:
        title: Heading of the panel.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        curves: Series to draw.
        ticks: Labels of x = 0, 1, ...; without them the x axis is numeric.
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    ticks: Sequence[str] = ()


def curves(panels: Sequence[Panel], name: str, *, share_y: bool = False) -> str:
    """Draws panels of curves with one key; a label has the same colour and dashes in every panel.

    Args:
        panels: Panels from left to right.
        name: Unique name of the figure.
        share_y: Whether all panels have the same y axis.
    """
    from matplotlib.ticker import MaxNLocator

    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    with style(name):
        figure, frames = _frames(len(panels), PANEL, share_y=share_y)
        for panel, axes in zip(panels, frames, strict=True):
            axes.set(title=_wrapped(panel.title), xlabel=panel.x_label, ylabel=panel.y_label)
            for curve in panel.curves:
                _draw(axes, curve, labels.index(curve.label))
            if panel.ticks:
                axes.set_xticks(range(len(panel.ticks)), panel.ticks)
                axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
            elif all(float(x).is_integer() for curve in panel.curves for x in curve.x):
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            axes.grid(axis="y", color=colours.GRID, linewidth=0.6)
        _key(figure, frames)
        return to_svg(figure, name)


Bin = tuple[float, float]  # mean confidence and accuracy


def reliability_diagrams(panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[Bin]]]]], name: str) -> str:
    """Draws accuracy against confidence, with the line where both are equal.

    Args:
        panels: Title of each panel, and its methods with their bins.
        name: Unique name of the figure.
    """
    labels = list(dict.fromkeys(label for _, methods in panels for label, _ in methods))
    with style(name):
        figure, frames = _frames(len(panels), (PANEL[0], PANEL[0]))
        for (title, methods), axes in zip(panels, frames, strict=True):
            axes.set(title=_wrapped(title), xlabel="confidence", ylabel="accuracy")
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axes.plot([0, 1], [0, 1], color=colours.DIAGONAL, linewidth=0.8)
            for label, bins in methods:
                confidence, accuracy = zip(*bins, strict=True)
                _draw(axes, Curve(label, confidence, accuracy, accuracy, accuracy), labels.index(label))
        _key(figure, frames)
        return to_svg(figure, name)


def heat_maps(
    rows: Sequence[tuple[str, Sequence[Floats | None]]], columns: Sequence[str], class_names: Sequence[str], name: str
) -> str:
    """Draws rows of matrices (K, K) of shares, annotated in %; None and nan stay empty.

    The darkest cell is the largest share in a row of matrices.

    Args:
        rows: Title of each row, and its matrices.
        columns: Title of each column of matrices.
        class_names: Names of the K classes.
        name: Unique name of the figure.
    """
    from matplotlib.figure import Figure

    side = 1.3 + 0.13 * len(class_names)
    with style(name):
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
        return to_svg(figure, name)


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
    axes.pcolormesh(
        edges,
        edges,
        matrix,
        cmap=colours.HEAT_MAP,
        vmin=0,
        vmax=largest,
        edgecolors=colours.CELL_EDGE,
        linewidth=0.3,
    )
    for row, column in zip(*np.nonzero(np.isfinite(matrix)), strict=True):
        share = float(matrix[row, column])
        colour = colours.LIGHT_TEXT if share > 0.6 * largest else colours.DARK_TEXT
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6.5)


def _frames(count: int, size: tuple[float, float], *, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes, `MAX_PANELS` in a row, each of `size` in inches."""
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


def _wrapped(title: str) -> str:
    return textwrap.fill(title, MAX_TITLE, break_on_hyphens=False)


def _draw(axes: Axes, curve: Curve, number: int) -> None:
    colour, dash, marker = (cycle[number % len(cycle)] for cycle in (colours.CURVES, DASHES, MARKERS))
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
    """Draws one key below all axes, with each label once."""
    found = {label: handle for axes in frames for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    width = figure.get_figwidth()
    columns = max(1, int(width / (0.75 + 0.09 * max(map(len, found)))))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
