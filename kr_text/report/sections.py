"""The sections of the report page, in their order, and the paragraphs at its top."""

import shlex
from collections.abc import Callable
from dataclasses import replace

from kr_text.experiments.code_version import CHANGED
from kr_text.experiments.grids import Grid
from kr_text.machine.environment import Environment
from kr_text.report.blocks import Block, Paragraph, Section
from kr_text.report.section_calibration import calibration_blocks
from kr_text.report.section_costs import budget_blocks, cost_blocks
from kr_text.report.section_divergence import divergence_blocks
from kr_text.report.section_errors import (
    against_ce,
    chosen_blocks,
    compared,
    defaults_blocks,
    error_blocks,
    loss_alone,
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
    "readings": defaults_blocks,
    "label_matrices": label_matrix_blocks,
    "divergence": divergence_blocks,
    "schedules": schedule_blocks,
    "table4": budget_blocks,
    "softening": softening_blocks,
    "residual_rate": defaults_blocks,
    "noise": noise_blocks,
    "calibration": calibration_blocks,  # has no grid of its own: the runs of table3
    "cost": cost_blocks,
}
RUN = "kr-text run {folder}/{name}.yaml --data data"
MEASURE = "kr-text run {folder}/cost.yaml --data data --fresh --workers 1"
NOISY_DATA = "python scripts/make_noisy_data.py data runs/noisy_data"
COMMANDS = {  # of the sections that have another than RUN
    "noise": [NOISY_DATA, "kr-text run {folder}/noise.yaml --data runs/noisy_data data"],
    "table4": [RUN, MEASURE],
    "cost": [MEASURE],
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
    names = {"folder": shlex.quote(study.folder.name), "name": shlex.quote(grid.name)}
    command = "\n".join(line.format(**names) for line in COMMANDS.get(name, [RUN]))
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
    """Where the runs were made, with what, and from which commit, or how many; and whether that was all of the code."""
    environments = [result.report["environment"] for result in study.results]
    places = "; ".join(dict.fromkeys(map(_machine, environments)))
    versions = "; ".join(dict.fromkeys(map(_versions, environments)))
    told = [result.line["commit"] or "unknown" for result in study.results]
    commits = list(dict.fromkeys(commit.removesuffix(CHANGED) for commit in told))
    source = f"commit {commits[0]}" if len(commits) == 1 else f"{len(commits)} commits, that of each run in runs.jsonl"
    num_changed = sum(commit.endswith(CHANGED) for commit in told)
    changed = (
        f"; {num_changed:,} of the runs had changes in the code that were not committed yet" if num_changed else ""
    )
    return Paragraph(f"Made on {places}, with {versions}, from {source}{changed}." if environments else "")


def _machine(environment: Environment) -> str:
    threads = f"{environment['num_cores']} cores, torch threads: {environment['num_threads']}"
    return f"{environment['platform']} ({threads}, accelerator: {environment['accelerator'] or 'none'})"


def _versions(environment: Environment) -> str:
    return ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
