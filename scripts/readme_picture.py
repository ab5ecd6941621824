"""Draws the residual labels that KR-LS learned on Yahoo! Answers, for README.md.

    python scripts/readme_picture.py

Reads a run of the grid scripts/grids/label_matrices.yaml from results/ and writes docs/images/residual_labels.svg.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kr_text.experiments.results import Result, read_results
from kr_text.formats.whole_files import write_text
from kr_text.report.colours import DARK_TEXT, LIGHT_TEXT
from kr_text.report.matrix_agreement import without_diagonal
from kr_text.report.svg import style, to_svg

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "residual_labels.svg"
WHOSE = {"dataset": "yahoo_answers", "model": "fasttext", "loss": "kr-ls", "seed": 1, "label_matrices": True}
HUE = "Blues"  # Matplotlib colour map
SIZE = (7.3, 5.9)  # inches
SUBTITLE = (
    "The residual label of each class (row): the share of every other class (column), in %.\n"
    "FastText with KR-LS on question titles of Yahoo! Answers."
)


def main() -> None:
    """Writes the picture."""
    report = stored_result(ROOT / "results").report
    svg = picture(without_diagonal(report["residual_labels"] or []), report["dataset"]["class_names"])
    write_text(svg, PICTURE)


def stored_result(folder: Path) -> Result:
    """The result of the run with the fields of `WHOSE`."""
    for result in read_results(folder).values():
        if all(getattr(result.run, name) == value for name, value in WHOSE.items()):
            return result
    raise ValueError(f"{folder} must have a run with {WHOSE}, got none; run scripts/grids/label_matrices.yaml")


def picture(labels: npt.NDArray[np.float64], class_names: list[str]) -> str:
    """An SVG heat map of residual labels (K, K) in %, with nan on the diagonal."""
    with style("residual-labels"):
        figure = Figure(figsize=SIZE, layout=ConstrainedLayoutEngine(rect=(0, 0, 1, 0.86)))  # titles above
        figure.text(0.012, 0.985, "What the loss learned", fontsize=15, fontweight="bold", va="top")
        figure.text(0.012, 0.925, SUBTITLE, fontsize=10, va="top")
        axes = figure.add_subplot()
        _draw_cells(axes, labels)
        places = range(len(class_names))
        axes.set_yticks(places, class_names, fontsize=9.5)
        axes.set_xticks(places, class_names, fontsize=9.5, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_ylabel("class", fontsize=10)
        axes.set_xlabel("other class", fontsize=10)
        return to_svg(figure, "residual-labels")


def _draw_cells(axes: Axes, labels: npt.NDArray[np.float64]) -> None:
    edges = np.arange(len(labels) + 1) - 0.5
    low, high = float(np.nanmin(labels)), float(np.nanmax(labels))
    axes.pcolormesh(
        edges, edges, labels, cmap=HUE, vmin=low - (high - low) / 8, vmax=high, edgecolors=LIGHT_TEXT, linewidth=1.2
    )
    axes.set(xlim=(edges[0], edges[-1]), ylim=(edges[-1], edges[0]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in zip(*np.nonzero(np.isfinite(labels)), strict=True):
        share = float(labels[row, column])
        colour = LIGHT_TEXT if share > low + 0.55 * (high - low) else DARK_TEXT
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=10)


if __name__ == "__main__":
    main()
