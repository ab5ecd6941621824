"""Pairs of a method and its baseline, their verdicts corrected for multiple tests, and mean differences."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from kr_text.experiments.run import Run
from kr_text.experiments.verdicts import Average, Verdict, average, corrected
from kr_text.report.study import Cell, Study, place, places
from kr_text.report.wording import loss_name

Pair = tuple[Cell, Cell]  # a method and its baseline


def with_baselines(study: Study, cells: Sequence[Cell]) -> list[Cell]:
    """Cells with results, grouped by place, with cross-entropy first at each place."""
    found: list[Cell] = []
    for where, methods in places(cells).items():
        found += [cell for cell in dict.fromkeys([study.baseline(where), *methods]) if cell.results]
    return found


def against_ce(study: Study, cells: Sequence[Cell]) -> list[Pair]:
    """Each cell, except the baselines, with cross-entropy at the same place."""
    pairs = [(cell, study.baseline(cell.setting)) for cell in cells]
    return [(cell, baseline) for cell, baseline in pairs if cell is not baseline]


def against_defaults(study: Study, cells: Sequence[Cell]) -> list[Pair]:
    """Each cell with the same loss at its default settings, if that is another run and has results."""
    pairs = [
        (cell, study.cell(replace(cell.setting, loss_overrides=None, residual_learning_rate=None))) for cell in cells
    ]
    return [(cell, default) for cell, default in pairs if default.results and cell.setting.key != default.setting.key]


def compared(study: Study, pairs: Sequence[Pair]) -> list[tuple[Pair, Verdict]]:
    """Verdicts of the pairs with at least two common seeds, with Holm's correction over these pairs."""
    found = [(pair, verdict) for pair in pairs if (verdict := study.verdict(*pair))]
    verdicts = corrected([verdict for _, verdict in found])
    return [(pair, verdict) for (pair, _), verdict in zip(found, verdicts, strict=True)]


def shared_averages(study: Study, pairs: Sequence[Pair], name: Callable[[Run], str] = loss_name) -> dict[str, Average]:
    """Mean difference of each method over the places where all methods have a verdict.

    Drops a method that has at most half as many places as another. Empty with fewer than two shared places.
    """
    by_name: dict[str, dict[Run, Pair]] = {}
    for pair in pairs:
        if study.verdict(*pair):
            by_name.setdefault(name(pair[0].setting), {})[place(pair[0].setting)] = pair
    most = max(map(len, by_name.values()), default=0)
    by_name = {method: of_place for method, of_place in by_name.items() if 2 * len(of_place) > most}
    methods = list(by_name.values())
    shared = [where for where in methods[0] if all(where in of_place for of_place in methods)] if methods else []
    if len(shared) < 2:
        return {}
    return {
        method: average([(of_place[where][0].results, of_place[where][1].results) for where in shared])
        for method, of_place in by_name.items()
    }


def learned_against_ce(cells: Sequence[Cell]) -> list[Pair]:
    """Each cell that learned residual labels with the cross-entropy cell among `cells` at the same place."""
    pairs: list[Pair] = []
    for at_place in places(cells).values():
        ce = [cell for cell in at_place if cell.setting.loss == "ce"]
        learned = [cell for cell in at_place if all(result.report["residual_labels"] for result in cell.results)]
        pairs += [(cell, ce[0]) for cell in learned if ce]
    return pairs
