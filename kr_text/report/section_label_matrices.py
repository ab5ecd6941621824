"""A section of the report page: soft, residual and learned labels by epoch (the paper's Fig. 2), and CE's mistakes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from kr_text.evaluation.label_matrices import LabelMatrices
from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.formats.markdown import format_number
from kr_text.report.blocks import Block, Figure, Paragraph, Table
from kr_text.report.figures import heat_maps
from kr_text.report.study import Cell, Study, place, places
from kr_text.report.wording import NOTHING, PLACE_HEADINGS, loss_name, place_names, place_title

Floats = npt.NDArray[np.float64]
EPOCHS = (1, 2, 5, 10)  # shown, and the last
KINDS = {"soft": "soft label", "residual": "residual label", "learned": "learned residual label"}


def label_matrix_blocks(study: Study, grid: Grid) -> list[Block]:
    """Heat maps by epoch, what is learned beside the mistakes of cross-entropy, and numbers for both."""
    cells = [cell for cell in study.cells(grid) if cell.results[0].report["label_matrices"]]
    if not cells:
        return []
    figures = [_epoch_figure(cell, number) for number, cell in enumerate(cells, 1)]
    pairs = with_ce(cells)
    pairs = [(ours, ce) for ours, ce in pairs if ours.seeds & ce.seeds]
    beside = [_beside_figure(ours, ce, number) for number, (ours, ce) in enumerate(pairs, 1)]
    return [consistency_table(cells), *_agreement(pairs), *figures, *beside]


def matrix(matrices: LabelMatrices, kind: str) -> Floats | None:
    """One of `KINDS`, nan where there is no number; None where nothing is learned."""
    rows = {"soft": matrices["soft"], "residual": matrices["residual"], "learned": matrices["learned"]}[kind]
    return None if rows is None else _array(rows, own_class=kind == "soft")


def _array(rows: Sequence[Sequence[float]], *, own_class: bool) -> Floats:
    numbers = np.array(rows, dtype=np.float64)  # null becomes nan
    if not own_class:
        np.fill_diagonal(numbers, np.nan)
    return numbers


def shown_epochs(result: Result) -> list[LabelMatrices]:
    """After the epochs of `EPOCHS` that there are, and the last."""
    found = result.report["label_matrices"] or []
    return [matrices for matrices in found if matrices["epoch"] in EPOCHS or matrices is found[-1]]


def rank_correlation(a: Floats, b: Floats) -> float:
    """Mean over the classes of Spearman's correlation of their rows (K, K) without the diagonal.

    Rows with all entries equal, or with one that is nan, have none and do not count; nan if that leaves no row.
    """
    others = ~np.eye(len(a), dtype=np.bool_)
    pairs = [(x[keep], y[keep]) for x, y, keep in zip(a, b, others, strict=True)]
    kept = [pair for pair in pairs if all(np.isfinite(row).all() and np.ptp(row) > 0 for row in pair)]
    correlations = [np.corrcoef(rankdata(x), rankdata(y))[0, 1] for x, y in kept]  # Spearman's
    return float(np.mean(correlations)) if kept else float("nan")


def mean_difference(a: Floats, b: Floats) -> float:
    """Mean absolute difference of the entries off the diagonal."""
    return float(np.nanmean(np.abs(a - b)[~np.eye(len(a), dtype=np.bool_)]))


def mistakes(confusion: Sequence[Sequence[int]]) -> Floats:
    """(K, K): of the test rows of each class that were given a wrong one, the share that was given each; else nan."""
    counts = np.array(confusion, dtype=np.float64) * ~np.eye(len(confusion), dtype=np.bool_)
    total = counts.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return shares


def consistency_table(cells: Sequence[Cell]) -> Table:
    """How alike the rows of a matrix are after one shown epoch and the next, means over the seeds."""
    found = [(cell, kind, _steps(cell, kind)) for cell in cells for kind in KINDS]
    columns = list(dict.fromkeys(column for _, _, steps in found for column in steps))
    rows = []
    for cell, kind, steps in found:
        if steps:
            names = (*place_names(place(cell.setting), cell.results), loss_name(cell.setting), KINDS[kind])
            rows.append((*names, str(len(cell.results)), *(steps.get(column, NOTHING) for column in columns)))
    caption = (
        "Consistency between the epochs that are shown below, without the diagonal: mean over the classes of the rank "
        "correlation of their rows after both epochs, which is 1 where the order of the other classes is the same; and "
        "in brackets the mean absolute difference of the entries. Means over the seeds."
    )
    headings = ("loss", "matrix", "seeds", *(f"epoch {column}" for column in columns))
    return Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))


def _steps(cell: Cell, kind: str) -> dict[str, str]:
    """By the epochs, the text of what is found between them; of those that each seed has."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for result in cell.results:
        for before, after in pairwise(shown_epochs(result)):
            a, b = matrix(before, kind), matrix(after, kind)
            if a is not None and b is not None:
                column = f"{before['epoch']:g} to {after['epoch']:g}"
                pairs.setdefault(column, []).append((rank_correlation(a, b), mean_difference(a, b)))
    means = {column: np.mean(numbers, axis=0) for column, numbers in pairs.items() if len(numbers) == len(cell.results)}
    return {column: f"{format_number(mean[0])} ({format_number(mean[1], 4)})" for column, mean in means.items()}


def with_ce(cells: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Those that learn residual labels, each with cross-entropy at the same place."""
    found = []
    for those in places(cells).values():
        ce = [cell for cell in those if cell.setting.loss == "ce"]
        learned = [cell for cell in those if all(result.report["residual_labels"] for result in cell.results)]
        found += [(cell, ce[0]) for cell in learned if ce]
    return found


def _agreement(pairs: Sequence[tuple[Cell, Cell]]) -> list[Block]:
    rows, means = [], []
    for ours, ce in pairs:
        of_ce = {result.run.seed: mistakes(result.report["confusion_matrix"]) for result in ce.results}
        values = [
            rank_correlation(np.array(result.report["residual_labels"]), of_ce[result.run.seed])
            for result in ours.results
            if result.run.seed in of_ce
        ]
        if values:
            means.append(float(np.mean(values)))
            names = place_names(place(ours.setting), ours.results)
            extremes = f"{format_number(min(values))} to {format_number(max(values))}"
            rows.append((*names, loss_name(ours.setting), format_number(means[-1]), extremes, str(len(values))))
    if not rows:
        return []
    caption = (
        "The learned residual labels beside the mistakes of CE on the test rows with the same seed, each of the epoch "
        "that was kept: mean over the classes of the rank correlation of their rows, mean over the seeds, and least "
        "and most."
    )
    positive = sum(mean > 0 for mean in means)
    sentence = (
        "The learned residual labels rank the other classes as the mistakes of CE do, with a correlation above 0, in "
        f"{positive} of {len(means)} settings."
    )
    headings = ("loss", "rank correlation", "range", "seeds")
    return [Paragraph(sentence), Table(caption, (*PLACE_HEADINGS, *headings), tuple(rows))]


def _epoch_figure(cell: Cell, number: int) -> Figure:
    """Matrices of the first seed by epoch (across) and kind (down)."""
    result = cell.results[0]
    shown = shown_epochs(result)
    rows = [(name, [matrix(matrices, kind) for matrices in shown]) for kind, name in KINDS.items()]
    rows = [(name, found) for name, found in rows if any(each is not None for each in found)]
    columns = [f"epoch {matrices['epoch']:g}" for matrices in shown]
    title = f"{place_title(place(cell.setting), cell.results)}, {loss_name(cell.setting)}"
    name = f"label-matrices-{number}"
    svg = heat_maps(rows, columns, result.report["dataset"]["class_names"], name)
    learned = ", and below them the residual labels that are learned, softmax(S)" if len(rows) == len(KINDS) else ""
    caption = (
        f"{title}, seed {result.run.seed}: class means on the validation rows{learned}, in %, by true class (down). "
    )
    caption += "Black is the largest share of each row of matrices."
    alt = f"Heat maps of {', '.join(name for name, _ in rows)} for {title}, after {', '.join(columns)}."
    return Figure(name, svg, caption, alt)


def _beside_figure(ours: Cell, ce: Cell, number: int) -> Figure:
    """What is learned beside what cross-entropy takes for what, of the first seed that both have."""
    seed = min(ours.seeds & ce.seeds)
    learned, confused = (
        next(result.report for result in cell.results if result.run.seed == seed) for cell in (ours, ce)
    )
    matrices = [_array(learned["residual_labels"] or [], own_class=False), mistakes(confused["confusion_matrix"])]
    title = place_title(place(ours.setting), ours.results)
    name = f"learned-and-mistaken-{number}"
    columns = [f"learned by {loss_name(ours.setting)}", "mistakes of CE"]
    svg = heat_maps([("", matrices)], columns, learned["dataset"]["class_names"], name)
    caption = (
        f"{title}, seed {seed}: the residual labels that {loss_name(ours.setting)} learned, softmax(S), and of the "
        "test rows that CE gave a wrong class, the share that was given each, in %, by true class (down); both of the "
        "epoch that was kept."
    )
    return Figure(name, svg, caption, f"Two heat maps for {title}: {' and '.join(columns)}.")
