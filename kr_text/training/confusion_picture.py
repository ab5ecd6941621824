"""Draws the confusion matrix of a run's test rows as confusion_matrix.png, if matplotlib is installed."""

from __future__ import annotations

import importlib.util
import logging
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kr_text.training.report import PICTURE_FILE, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CLASSES = 150  # of more classes, those with the most mistakes are drawn
MAX_NUMBERS = 30  # up to this number of classes, each cell shows its count
MAX_NAME = 28  # characters of a class name
FONTS = (  # the first that has a character draws it
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Arial Unicode MS",
)

logger = logging.getLogger(__name__)


def draw_confusion_matrix(report: Report, folder: str | Path) -> None:
    """Writes confusion_matrix.png to a folder; does nothing without matplotlib.

    A cell is the darker, the greater the share of the true class (down) that is predicted as the class of the column
    (across). Shares are drawn by their square root, so that rare mistakes are seen.
    """
    if importlib.util.find_spec("matplotlib") is None:
        logger.info("matplotlib is not installed, so no %s is drawn", PICTURE_FILE)
        return
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.asarray(report["confusion_matrix"])
    chosen = _most_mistaken(counts)
    names = [_short(report["dataset"]["class_names"][k]) for k in chosen]
    cell, font_size = (0.42, 9.0) if len(names) <= MAX_NUMBERS else (0.16, 7.0)  # inches, points
    side, margin = cell * len(names), 0.3 + font_size / 110 * max(map(_width, names))  # inches
    width, height = max(4.5, margin + side + 0.2), margin + side + 0.4
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rc("font", family=_installed_fonts(), size=font_size)
        matplotlib.rc("text", parse_math=False)  # a class may be named $
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
        _draw(axes, names, counts[np.ix_(chosen, chosen)])
        figure.text(0.1 / width, 1 - 0.25 / height, _title(report, len(names)))
        figure.savefig(Path(folder) / PICTURE_FILE, dpi=100)


def _draw(axes: Axes, names: Sequence[str], counts: npt.NDArray[np.int64]) -> None:
    shares = np.sqrt(counts / counts.sum(axis=1, keepdims=True).clip(min=1))
    axes.pcolormesh(shares, cmap="Blues", vmin=0.0, vmax=1.0, edgecolors="0.88", linewidth=0.4)
    axes.invert_yaxis()
    axes.set_axis_off()  # text is faster than the ticks of an axis
    size = len(names)
    for k, name in enumerate(names):
        axes.text(k + 0.5, size, f"{name} ", rotation=90, ha="center", va="top")
        axes.text(0, k + 0.5, f"{name} ", ha="right", va="center")
    for row, column in np.argwhere(counts) if size <= MAX_NUMBERS else ():
        text, colour = f"{counts[row, column]:,}", "white" if shares[row, column] > 0.6 else "black"
        font_size = 8.5 if len(text) < 5 else 6.0
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=font_size)


def _most_mistaken(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Numbers of the classes to draw, in order: all, or those with the most wrong rows and wrong predictions."""
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    return np.sort(np.argsort(-mistakes, kind="stable")[:MAX_CLASSES])


def _title(report: Report, num_shown: int) -> str:
    num_classes, num_rows = len(report["dataset"]["class_names"]), report["dataset"]["num_test_rows"]
    title = f"{num_rows:,} test rows: true class down, predicted class across"
    return (
        title if num_shown == num_classes else f"{title}; the {num_shown} of {num_classes:,} classes with most mistakes"
    )


def _width(name: str) -> float:
    """Width in small Latin letters, at most: capitals count 1.5, East Asian characters 2."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1.5 if each.isupper() else 1 for each in name)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _installed_fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return [font for font in FONTS if font in installed]
