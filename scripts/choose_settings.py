"""Chooses settings by the validation error: of learning rates and epochs for cross-entropy, and of each loss.

    python scripts/choose_settings.py results/tuning results/table3.yaml results/chosen.yaml

Reads what `kr-text run results/tuning/*.yaml` left. Prints every try as a Markdown table (the test error has no part in
the choice, and is not shown), writes it to README.md beside the runs, and the grid of the losses with their settings.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import yaml

from kr_text.experiments.grids import Grid, read_grid
from kr_text.experiments.results import Result, read_results
from kr_text.experiments.run import Run
from kr_text.formats.markdown import format_number, markdown_table
from kr_text.formats.whole_files import write_text
from kr_text.losses.by_name import NAMES

Tries = dict[Run, float]  # seed 0 for all of them -> mean validation error, %
Contest = tuple[str, str, int | None, str]  # model, data set, training rows (None: all), loss


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table and the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuning", type=Path, help="folder with the runs")
    parser.add_argument("table3", type=Path, help="grid whose numbers of seeds they get")
    parser.add_argument("grid", type=Path, help="file for the grid of the chosen settings")
    flags = parser.parse_args(argv)
    results = tried(flags.tuning)
    tries = mean_validation_errors(results)
    table = tries_table(tries, seeds_by_try(results))
    write_text(table, flags.tuning / "README.md")
    write_text(chosen_grid(tries, read_grid(flags.table3), seeds_by_try(results)), flags.grid)
    print(table)


def tried(tuning: Path) -> list[Result]:
    """The results of the grids' runs, and of no others: every loss has the tries that these ask for.

    Raises:
        ValueError: some are not there yet.
    """
    results, keys = read_results(tuning), set[str]()
    for path in sorted(tuning.glob("*.yaml")):
        runs = read_grid(path).runs
        if missing := [run for run in runs if run.key not in results]:
            raise ValueError(f"{path}: {len(missing)} of {len(runs)} runs are not finished: kr-text run {path}")
        keys.update(run.key for run in runs)
    return [result for key, result in results.items() if key in keys]


def mean_validation_errors(results: Iterable[Result]) -> Tries:
    """The mean over the seeds of each setting that was tried."""
    errors: dict[Run, list[float]] = defaultdict(list)
    for result in results:
        error = result.report["validation_metrics"]["error_rate"]
        assert error is not None
        errors[replace(result.run, seed=0)].append(error)
    return {run: fmean(of_run) for run, of_run in errors.items()}


def seeds_by_try(results: Iterable[Result]) -> dict[Run, int]:
    """How many seeds each setting was tried with."""
    return Counter(replace(result.run, seed=0) for result in results)


def contests(tries: Tries) -> dict[Contest, list[Run]]:
    """The tries that stand against each other, the best first; a tie goes to the one that was tried first."""
    groups: dict[Contest, list[Run]] = defaultdict(list)
    for run in tries:
        groups[run.model, run.dataset, run.max_train_rows, run.loss].append(run)
    return {group: sorted(groups[group], key=tries.__getitem__) for group in sorted(groups, key=_order)}


def _order(contest: Contest) -> tuple[str, str, float, int]:
    model, dataset, num_rows, loss = contest
    return model, dataset, float("inf") if num_rows is None else num_rows, NAMES.index(loss)


def tries_table(tries: Tries, num_seeds: Mapping[Run, int]) -> str:
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
                str(num_seeds[run]),
                format_number(tries[run]),
                mark,
            ]
            for run, mark in zip(runs, ["chosen", *[""] * len(runs)], strict=False)
        ]
    headings = ["model", "data", "training rows", "loss", "setting", "seeds", "validation error, %", ""]
    return (
        "# What was tried, on validation rows\n\nMeans over the seeds of each try. Rates and epochs are those that "
        "cross-entropy chose; the losses' own settings had the same number of tries each.\n\n"
        + markdown_table(headings, rows)
        + "\n\n```sh\nkr-text run results/tuning/*.yaml --data data\n"
        "python scripts/choose_settings.py results/tuning results/table3.yaml results/chosen.yaml\n```\n"
    )


def chosen_grid(tries: Tries, table3: Grid, seeds_of_tries: Mapping[Run, int]) -> str:
    """The grid of the losses with their chosen settings, with as many seeds as cross-entropy has in Table 3."""
    num_seeds = Counter((run.model, run.dataset, run.max_train_rows) for run in table3.runs if run.loss == "ce")
    compared = {contest: runs for contest, runs in contests(tries).items() if contest[-1] != "ce"}
    if missing := [" ".join(contest[:2]) for contest in compared if not num_seeds[contest[:3]]]:
        raise ValueError(f"Table 3 must have cross-entropy wherever a loss was tried, and has none for {missing[0]}")
    blocks = [
        {
            **{name: value for name, value in runs[0].given().items() if name != "seed"},
            "seed": f"1-{num_seeds[model, dataset, num_rows]}",
        }
        for (model, dataset, num_rows, _), runs in compared.items()
    ]
    seeds = _seeds_by_model(compared, seeds_of_tries)
    content = {
        "title": "Table 3 with settings of each loss chosen on validation rows",
        "about": "The smoothing of LS, and alpha and its truncation for KR and KR-LS, are the best of six tries each "
        f"by validation error, the mean over so many seeds: {seeds} (all tries are in results/tuning). Of a single "
        "seed, chance has a part in the choice. All else is as in Table 3.",
        "runs": blocks,
    }
    note = "# Written by scripts/choose_settings.py\n"
    return note + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _seeds_by_model(compared: Mapping[Contest, Sequence[Run]], seeds_of_tries: Mapping[Run, int]) -> str:
    of_model: dict[str, set[int]] = defaultdict(set)
    for contest, runs in compared.items():
        of_model[contest[0]] |= {seeds_of_tries[run] for run in runs}
    return ", ".join(f"{model} {' or '.join(map(str, sorted(counts)))}" for model, counts in of_model.items())


if __name__ == "__main__":
    main()
