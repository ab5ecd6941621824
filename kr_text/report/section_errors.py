"""Sections of the report page that show test errors and verdicts."""

from kr_text.experiments.grids import Grid
from kr_text.report.blocks import Block
from kr_text.report.comparisons import against_ce, against_defaults, with_baselines
from kr_text.report.error_tables import average_blocks, error_and_verdict_blocks, verdict_blocks
from kr_text.report.study import Study
from kr_text.report.wording import loss_alone

DEFAULTS = "the same loss at its defaults"


def error_blocks(study: Study, grid: Grid) -> list[Block]:
    """Test errors by place and loss, and their verdicts against cross-entropy."""
    return error_and_verdict_blocks(study, with_baselines(study, study.cells(grid)))


def softening_blocks(study: Study, grid: Grid) -> list[Block]:
    """`error_blocks`, and the mean difference of each loss from cross-entropy."""
    cells = with_baselines(study, study.cells(grid))
    return error_and_verdict_blocks(study, cells) + average_blocks(study, against_ce(study, cells), "CE")


def table3_blocks(study: Study, grid: Grid) -> list[Block]:
    """`softening_blocks` with the paper's numbers."""
    cells = with_baselines(study, study.cells(grid))
    errors = error_and_verdict_blocks(study, cells, beside_paper=True)
    return errors + average_blocks(study, against_ce(study, cells), "CE")


def chosen_blocks(study: Study, grid: Grid) -> list[Block]:
    """`table3_blocks` for settings chosen at each place: one column per loss, with the settings in the cells.

    Also compares the chosen settings with the defaults.
    """
    cells = with_baselines(study, study.cells(grid))
    errors = error_and_verdict_blocks(study, cells, loss_alone, beside_paper=True)
    errors += average_blocks(study, against_ce(study, cells), "CE", loss_alone)
    return errors + verdict_blocks(study, against_defaults(study, cells), DEFAULTS, loss_alone)


def defaults_blocks(study: Study, grid: Grid) -> list[Block]:
    """`error_blocks` with each loss at its defaults beside it, and the verdicts against these defaults."""
    cells = study.cells(grid)
    pairs = against_defaults(study, cells)
    defaults = dict.fromkeys(default for _, default in pairs)
    errors = error_and_verdict_blocks(study, with_baselines(study, [*defaults, *cells]))
    return errors + verdict_blocks(study, pairs, DEFAULTS) + average_blocks(study, pairs, DEFAULTS)
