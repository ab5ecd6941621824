"""Paragraphs at the top of the report page: the main result, and the environment of the runs."""

from kr_text.experiments.code_version import CHANGED
from kr_text.machine.environment import Environment
from kr_text.report.blocks import Paragraph
from kr_text.report.comparisons import against_ce, compared, shared_averages, with_baselines
from kr_text.report.study import Study
from kr_text.report.wording import average_text, count_words, loss_alone, progress

HEADLINES = {"table3": "KR-LS at the paper's settings", "chosen": "KR-LS at settings chosen on validation rows"}


def headline(study: Study) -> Paragraph:
    """Number of verdicts for and against KR-LS and its mean difference from cross-entropy, by section."""
    sentences = []
    for section, method in HEADLINES.items():
        grids = study.section_grids(section)
        by_grid = [against_ce(study, with_baselines(study, study.cells(grid))) for grid in grids]
        compared_pairs = [each for pairs in by_grid for each in compared(study, pairs)]
        verdicts = [verdict for (cell, _), verdict in compared_pairs if cell.setting.loss == "kr-ls"]
        if verdicts:
            sentences.append(count_words(method, verdicts, "CE"))
        if mean := shared_averages(study, [pair for pairs in by_grid for pair in pairs], loss_alone).get("KR-LS"):
            where = f"the {mean.num_comparisons} settings that all losses have"
            sentences.append(f"Its mean difference from CE over {where}: {average_text(mean)} percentage points.")
    return Paragraph(" ".join([*sentences, progress(len(study.results), study.num_planned)]))


def machines(study: Study) -> Paragraph:
    """Hardware, package versions and commits of the runs; empty without results."""
    environments = [result.report["environment"] for result in study.results]
    if not environments:
        return Paragraph("")
    hardware = "; ".join(dict.fromkeys(map(_hardware, environments)))
    versions = "; ".join(dict.fromkeys(map(_versions, environments)))
    stored = [result.line["commit"] or "unknown" for result in study.results]
    commits = list(dict.fromkeys(commit.removesuffix(CHANGED) for commit in stored))
    source = f"commit {commits[0]}" if len(commits) == 1 else f"{len(commits)} commits (runs.jsonl names each run's)"
    num_changed = sum(commit.endswith(CHANGED) for commit in stored)
    changed = f"; {num_changed:,} of the runs had uncommitted changes in the code" if num_changed else ""
    return Paragraph(f"Made on {hardware}, with {versions}, from {source}{changed}.")


def _hardware(environment: Environment) -> str:
    threads = f"{environment['num_cores']} cores, torch threads: {environment['num_threads']}"
    return f"{environment['platform']} ({threads}, accelerator: {environment['accelerator'] or 'none'})"


def _versions(environment: Environment) -> str:
    return ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
