"""The sections of the report page, in their order, and the paragraphs at its top."""

import shlex
from collections.abc import Callable
from dataclasses import replace

from kr_text.environment import Environment
from kr_text.grids import Grid
from kr_text.report.blocks import Block, Paragraph, Section
from kr_text.report.section_calibration import calibration_blocks
from kr_text.report.section_costs import budget_blocks, cost_blocks
from kr_text.report.section_divergence import divergence_blocks
from kr_text.report.section_errors import (
    against_ce,
    chosen_blocks,
    compared,
    error_blocks,
    loss_alone,
    readings_blocks,
    shared_averages,
    softening_blocks,
    table3_blocks,
    with_baselines,
)
from kr_text.report.section_label_matrices import label_matrix_blocks
from kr_text.report.section_noise import noise_blocks
from kr_text.report.section_schedules import schedule_blocks
from kr_text.report.study import Study
from kr_text.report.wording import average_text, count_words, progress

SECTIONS: dict[str, Callable[[Study, Grid], list[Block]]] = {  # by the name of the grid; others come last, as errors
    "table3": table3_blocks,
    "chosen": chosen_blocks,
    "readings": readings_blocks,
    "label_matrices": label_matrix_blocks,
    "divergence": divergence_blocks,
    "schedules": schedule_blocks,
    "table4": budget_blocks,
    "softening": softening_blocks,
    "noise": noise_blocks,
    "calibration": calibration_blocks,  # has no grid of its own: the runs of table3
    "cost": cost_blocks,
}
FLAGS = {  # of `kr-text run`
    "noise": ["--data", "runs/noisy_data", "data"],
    "cost": ["--data", "data", "--fresh", "--workers", "1"],
}
HEADLINES = {"table3": "KR-LS at the paper's settings", "chosen": "KR-LS at settings chosen on validation rows"}
CALIBRATION = "Calibration, and risk by coverage"
ABOUT_CALIBRATION = (
    "How far the probabilities of the runs of the first table can be trusted, as they are and after temperature "
    "scaling."
)


def sections(study: Study) -> list[Section]:
    """One for each grid, and one for the calibration of the runs of table3."""
    grids = dict(study.grids)
    if "table3" in grids:
        grids["calibration"] = replace(grids["table3"], title=CALIBRATION, about=ABOUT_CALIBRATION)
    names = [*SECTIONS, *(name for name in grids if name not in SECTIONS)]
    return [_section(study, name, grids[name]) for name in names if name in grids]


def _section(study: Study, name: str, grid: Grid) -> Section:
    finished = progress(study.finished(grid), len(grid.runs))
    flags = FLAGS.get(name, ["--data", "data"])
    command = shlex.join(["kr-text", "run", f"{study.folder.name}/{grid.name}.yaml", *flags])
    blocks = SECTIONS.get(name, error_blocks)(study, grid)
    return Section(name, grid.title, grid.about, finished, command, tuple(blocks))


def headline(study: Study) -> Paragraph:
    """How often KR-LS is better than cross-entropy, or worse, by the tables' verdicts, and its mean difference."""
    sentences = []
    for name, method in HEADLINES.items():
        if name not in study.grids:
            continue
        cells = with_baselines(study, study.cells(study.grids[name]))
        found = compared(study, against_ce(study, cells))
        verdicts = {pair: verdict for pair, verdict in found if pair[0].setting.loss == "kr-ls"}
        if verdicts:
            sentences.append(count_words(method, list(verdicts.values()), "CE"))
        averages = shared_averages(study, against_ce(study, cells), loss_alone)
        if "KR-LS" in averages:
            mean = averages["KR-LS"]
            where = f"the {mean.num_comparisons} where all losses were run"
            sentences.append(f"On average over {where} {average_text(mean)} points.")
    return Paragraph(" ".join([*sentences, progress(len(study.results), study.num_planned)]))


def machines(study: Study) -> Paragraph:
    """Where the runs were made, with what, and from which commit, or how many."""
    environments = [result.report["environment"] for result in study.results]
    places = "; ".join(dict.fromkeys(map(_machine, environments)))
    versions = "; ".join(dict.fromkeys(map(_versions, environments)))
    commits = list(dict.fromkeys(result.line["commit"] or "unknown" for result in study.results))
    source = f"commit {commits[0]}" if len(commits) == 1 else f"{len(commits)} commits, that of each run in runs.jsonl"
    return Paragraph(f"Made on {places}, with {versions}, from {source}." if environments else "")


def _machine(environment: Environment) -> str:
    threads = f"{environment['num_cores']} cores, torch threads: {environment['num_threads']}"
    return f"{environment['platform']} ({threads}, accelerator: {environment['accelerator'] or 'none'})"


def _versions(environment: Environment) -> str:
    return ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
