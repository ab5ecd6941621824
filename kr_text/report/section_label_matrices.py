"""Section of the report page with soft, residual and learned labels by epoch (the paper's Fig. 2)."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from kr_text.evaluation.label_matrices import LabelMatrices
from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.formats.markdown import format_number
from kr_text.report.blocks import Block, Figure, Paragraph, Table, slug
from kr_text.report.comparisons import Pair, learned_against_ce
from kr_text.report.figures import Floats, heat_maps
from kr_text.report.matrix_agreement import mean_difference, mistakes, rank_correlation, without_diagonal
from kr_text.report.study import Cell, Study
from kr_text.report.wording import NOTHING, PLACE_HEADINGS, loss_name, place_names, place_title

EPOCHS = (1, 2, 5, 10)  # shown, as is the last
KINDS = {"soft": "soft label", "residual": "residual label", "learned": "learned residual label"}


def label_matrix_blocks(study: Study, grid: Grid) -> list[Block]:
    """Heat maps by epoch, learned residual labels against the mistakes of cross-entropy, and numbers for both."""
    cells = [cell for cell in study.cells(grid) if cell.results[0].report["label_matrices"]]
    if not cells:
        return []
    pairs = [(ours, ce) for ours, ce in learned_against_ce(cells) if ours.seeds & ce.seeds]
    by_epoch = [_epoch_figure(cell, slug(grid.name, "by-epoch", number)) for number, cell in enumerate(cells, 1)]
    mistaken = [_mistakes_figure(*pair, slug(grid.name, "mistakes", number)) for number, pair in enumerate(pairs, 1)]
    return [consistency_table(cells), *_agreement(pairs), *by_epoch, *mistaken]


def matrix(matrices: LabelMatrices, kind: str) -> Floats | None:
    """One of `KINDS` as (K, K) with nan for missing numbers; None if the loss learns no residual labels.

    Residual labels have nan on the diagonal.
    """
    rows = {"soft": matrices["soft"], "residual": matrices["residual"], "learned": matrices["learned"]}[kind]
    if rows is None:
        return None
    return np.array(rows, dtype=np.float64) if kind == "soft" else without_diagonal(rows)


def shown_epochs(result: Result) -> list[LabelMatrices]:
    """Label matrices after the epochs of `EPOCHS` and after the last epoch."""
    found = result.report["label_matrices"] or []
    return [matrices for matrices in found if matrices["epoch"] in EPOCHS or matrices is found[-1]]


def consistency_table(cells: Sequence[Cell]) -> Table:
    """Agreement of a matrix between consecutive shown epochs, as means over the seeds."""
    found = [(cell, kind, _steps(cell, kind)) for cell in cells for kind in KINDS]
    columns = list(dict.fromkeys(column for _, _, steps in found for column in steps))
    rows = []
    for cell, kind, steps in found:
        if steps:
            names = (*place_names(cell), loss_name(cell.setting), KINDS[kind])
            rows.append((*names, str(len(cell.results)), *(steps.get(column, NOTHING) for column in columns)))
    caption = (
        "Consistency between the epochs shown below, without the diagonal. The rank correlation compares each row of "
        "the matrix after both epochs and is averaged over the classes; 1 means that the other classes keep their "
        "order. In brackets: the mean absolute difference of the entries. Means over the seeds."
    )
    headings = ("loss", "matrix", "seeds", *(f"epoch {column}" for column in columns))
    return Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))


def _steps(cell: Cell, kind: str) -> dict[str, str]:
    """Agreement as text by pair of epochs, for the pairs that every seed has."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for result in cell.results:
        for before, after in pairwise(shown_epochs(result)):
            a, b = matrix(before, kind), matrix(after, kind)
            if a is not None and b is not None:
                column = f"{before['epoch']:g} to {after['epoch']:g}"
                pairs.setdefault(column, []).append((rank_correlation(a, b), mean_difference(a, b)))
    means = {column: np.mean(numbers, axis=0) for column, numbers in pairs.items() if len(numbers) == len(cell.results)}
    return {column: f"{format_number(mean[0])} ({format_number(mean[1], 4)})" for column, mean in means.items()}


def _agreement(pairs: Sequence[Pair]) -> list[Block]:
    """Rank correlation of the learned residual labels with the mistakes of cross-entropy."""
    rows, means = [], []
    for ours, ce in pairs:
        of_ce = {result.run.seed: mistakes(result.report["confusion_matrix"]) for result in ce.results}
        values = [
            rank_correlation(np.array(result.report["residual_labels"]), of_ce[result.run.seed])
            for result in ours.results
            if result.run.seed in of_ce
        ]
        means.append(float(np.mean(values)))
        names = place_names(ours)
        extremes = f"{format_number(min(values))} to {format_number(max(values))}"
        rows.append((*names, loss_name(ours.setting), format_number(means[-1]), extremes, str(len(values))))
    if not rows:
        return []
    caption = (
        "Learned residual labels against the mistakes of CE on the test rows with the same seed, both of the epoch "
        "that was kept. The rank correlation is averaged over the classes, then over the seeds; the range is over the "
        "seeds."
    )
    positive = sum(mean > 0 for mean in means)
    sentence = (
        "The rank correlation of the learned residual labels with the mistakes of CE is positive in "
        f"{positive} of {len(means)} settings."
    )
    headings = ("loss", "rank correlation", "range", "seeds")
    return [Paragraph(sentence), Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))]


def _epoch_figure(cell: Cell, name: str) -> Figure:
    """Matrices of the first seed by epoch (columns) and kind (rows)."""
    result = cell.results[0]
    shown = shown_epochs(result)
    rows = [(title, [matrix(matrices, kind) for matrices in shown]) for kind, title in KINDS.items()]
    rows = [(title, found) for title, found in rows if any(each is not None for each in found)]
    columns = [f"epoch {matrices['epoch']:g}" for matrices in shown]
    title = f"{place_title(cell)}, {loss_name(cell.setting)}"
    svg = heat_maps(rows, columns, result.report["dataset"]["class_names"], name)
    learned = " The last row shows the learned residual labels, softmax(S)." if len(rows) == len(KINDS) else ""
    caption = (
        f"{title}, seed {result.run.seed}: class means on the validation rows in %; each row of a matrix is a true "
        f"class.{learned} The darkest cell is the largest share in a row of matrices."
    )
    alt = f"Heat maps of {', '.join(name for name, _ in rows)} for {title}, after {', '.join(columns)}."
    return Figure(name, svg, caption, alt)


def _mistakes_figure(ours: Cell, ce: Cell, name: str) -> Figure:
    """Learned residual labels beside the mistakes of cross-entropy, for the first common seed."""
    seed = min(ours.seeds & ce.seeds)
    learned, confused = (
        next(result.report for result in cell.results if result.run.seed == seed) for cell in (ours, ce)
    )
    matrices = [without_diagonal(learned["residual_labels"] or []), mistakes(confused["confusion_matrix"])]
    title = place_title(ours)
    columns = [f"learned by {loss_name(ours.setting)}", "mistakes of CE"]
    svg = heat_maps([("", matrices)], columns, learned["dataset"]["class_names"], name)
    caption = (
        f"{title}, seed {seed}, in %; each row of a matrix is a true class. Left: the residual labels that "
        f"{loss_name(ours.setting)} learned, softmax(S). Right: the predicted classes of the test rows that CE "
        "misclassified. Both are from the epoch that was kept."
    )
    return Figure(name, svg, caption, f"Two heat maps for {title}: {' and '.join(columns)}.")
