"""Sections of the report page: which blocks and commands a grid's `section` selects, in the order of the page."""

from collections.abc import Callable
from dataclasses import replace

from kr_text.experiments.grids import Grid
from kr_text.report.blocks import Block, Section, slug
from kr_text.report.commands import run_commands
from kr_text.report.section_calibration import calibration_blocks
from kr_text.report.section_costs import budget_blocks, cost_blocks
from kr_text.report.section_divergence import divergence_blocks
from kr_text.report.section_errors import (
    chosen_blocks,
    defaults_blocks,
    error_blocks,
    softening_blocks,
    table3_blocks,
)
from kr_text.report.section_label_matrices import label_matrix_blocks
from kr_text.report.section_noise import noise_blocks
from kr_text.report.section_schedules import schedule_blocks
from kr_text.report.study import Study
from kr_text.report.wording import progress

SECTIONS: dict[str | None, Callable[[Study, Grid], list[Block]]] = {  # by the key `section` of a grid
    "table3": table3_blocks,
    "chosen": chosen_blocks,
    "readings": defaults_blocks,
    "label_matrices": label_matrix_blocks,
    "divergence": divergence_blocks,
    "schedules": schedule_blocks,
    "table4": budget_blocks,
    "softening": softening_blocks,
    "residual_rate": defaults_blocks,
    "noise": noise_blocks,
    "calibration": calibration_blocks,
    "cost": cost_blocks,
    None: error_blocks,
}
CALIBRATION = "Calibration, and risk by coverage"
ABOUT_CALIBRATION = (
    "How well the probabilities of the runs of {title!r} are calibrated, before and after temperature scaling."
)


def sections(study: Study) -> list[Section]:
    """A section for each grid, and one for the calibration of each grid of the section `table3`.

    Raises:
        ValueError: A grid names a section that does not exist.
    """
    grids = list(study.grids.values())
    for grid in grids:
        if grid.section not in SECTIONS:
            known = ", ".join(filter(None, SECTIONS))
            path = study.grids_folder / f"{grid.name}.yaml"
            raise ValueError(f"{path}: section must be one of {known}, or absent, got {grid.section!r}")
    grids += [_calibration_of(grid) for grid in study.section_grids("table3")]
    order = list(SECTIONS)
    return [_section(study, grid) for grid in sorted(grids, key=lambda grid: order.index(grid.section))]


def _calibration_of(grid: Grid) -> Grid:
    about = ABOUT_CALIBRATION.format(title=grid.title)
    return replace(grid, section="calibration", title=CALIBRATION, about=about)


def _section(study: Study, grid: Grid) -> Section:
    name = slug(grid.name, "calibration") if grid.section == "calibration" else slug(grid.name)
    finished = progress(study.finished(grid), len(grid.runs))
    blocks = SECTIONS[grid.section](study, grid)
    return Section(name, grid.title, grid.about, finished, "\n".join(run_commands(study, grid)), tuple(blocks))
