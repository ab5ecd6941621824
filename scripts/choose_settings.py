"""Chooses settings by the validation error: of learning rates and epochs for cross-entropy, and of each loss.

    python scripts/choose_settings.py results/tuning results/table3.yaml results/chosen.yaml

Reads what `kr-text run results/tuning/*.yaml` left. Prints every try as a Markdown table (the test error has no part in
the choice, and is not shown), writes it to README.md beside the runs, and the grid of the losses with their settings.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import yaml

from kr_text.experiments import Run
from kr_text.grids import Grid, read_grid
from kr_text.named_losses import NAMES
from kr_text.reports import format_number, markdown_table, write_text
from kr_text.results import Result, read_results

Tries = dict[Run, float]  # seed 0 for all of them -> mean validation error, %
Contest = tuple[str, str, int | None, str]  # model, data set, training rows (None: all), loss


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table and the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuning", type=Path, help="folder with the runs")
    parser.add_argument("table3", type=Path, help="grid whose numbers of seeds they get")
    parser.add_argument("grid", type=Path, help="file for the grid of the chosen settings")
    flags = parser.parse_args(argv)
    refuse_unfinished(flags.tuning)
    tries = mean_validation_errors(read_results(flags.tuning).values())
    table = tries_table(tries)
    write_text(table, flags.tuning / "README.md")
    write_text(chosen_grid(tries, read_grid(flags.table3)), flags.grid)
    print(table)


def refuse_unfinished(tuning: Path) -> None:
    """Every loss has as many tries as the grids ask for, or none of them wins.

    Raises:
        ValueError: some are not there yet.
    """
    results = read_results(tuning)
    for path in sorted(tuning.glob("*.yaml")):
        runs = read_grid(path).runs
        if missing := [run for run in runs if run.key not in results]:
            raise ValueError(f"{path}: {len(missing)} of {len(runs)} runs are not finished: kr-text run {path}")


def mean_validation_errors(results: Iterable[Result]) -> Tries:
    """The mean over the seeds of each setting that was tried."""
    errors: dict[Run, list[float]] = defaultdict(list)
    for result in results:
        error = result.report["validation_metrics"]["error_rate"]
        assert error is not None
        errors[replace(result.run, seed=0)].append(error)
    return {run: fmean(of_run) for run, of_run in errors.items()}


def contests(tries: Tries) -> dict[Contest, list[Run]]:
    """The tries that stand against each other, the best first; a tie goes to the one that was tried first."""
    groups: dict[Contest, list[Run]] = defaultdict(list)
    for run in tries:
        groups[run.model, run.dataset, run.max_train_rows, run.loss].append(run)
    return {group: sorted(groups[group], key=tries.__getitem__) for group in sorted(groups, key=_order)}


def _order(contest: Contest) -> tuple[str, str, float, int]:
    model, dataset, num_rows, loss = contest
    return model, dataset, float("inf") if num_rows is None else num_rows, NAMES.index(loss)


def tries_table(tries: Tries) -> str:
    """All tries as Markdown."""
    rows = []
    for (model, dataset, num_rows, loss), runs in contests(tries).items():
        rows += [
            [
                model,
                dataset,
                f"{num_rows:,}" if num_rows else "all",
                loss,
                run.loss_overrides or run.training or "",
                format_number(tries[run]),
                mark,
            ]
            for run, mark in zip(runs, ["chosen", *[""] * len(runs)], strict=False)
        ]
    headings = ["model", "data", "training rows", "loss", "setting", "validation error, %", ""]
    return (
        "# What was tried, on validation rows\n\nMeans over the seeds of each try. Rates and epochs are those that "
        "cross-entropy chose; the losses' own settings had the same number of tries each.\n\n"
        + markdown_table(headings, rows)
        + "\n\n```sh\nkr-text run results/tuning/*.yaml --data data\n"
        "python scripts/choose_settings.py results/tuning results/table3.yaml results/chosen.yaml\n```\n"
    )


def chosen_grid(tries: Tries, table3: Grid) -> str:
    """The grid of the losses with their chosen settings, with as many seeds as cross-entropy has in Table 3."""
    num_seeds = Counter((run.model, run.dataset, run.max_train_rows) for run in table3.runs if run.loss == "ce")
    blocks = [
        {
            **{name: value for name, value in runs[0].given().items() if name != "seed"},
            "seed": f"1-{num_seeds[model, dataset, num_rows]}",
        }
        for (model, dataset, num_rows, loss), runs in contests(tries).items()
        if loss != "ce"
    ]
    content = {
        "title": "Table 3 with settings of each loss chosen on validation rows",
        "about": "The smoothing of LS, and alpha and its truncation for KR and KR-LS, are the best of six tries each "
        "by validation error (results/tuning); all else is as in Table 3.",
        "runs": blocks,
    }
    note = "# Written by scripts/choose_settings.py\n"
    return note + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    main()
