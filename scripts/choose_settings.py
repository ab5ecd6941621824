"""Chooses settings by validation error: learning rates and epochs with cross-entropy, then the settings of each loss.

    python scripts/choose_settings.py results/tuning scripts/grids

Reads the results of the grids in scripts/grids/tuning. Prints every try as a Markdown table, writes the table to
README.md in the folder of results, and writes scripts/grids/chosen.yaml, the grid of the losses with their chosen
settings. The test error has no influence on the choice and is not shown.
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

Tries = dict[Run, float]  # run with seed 0 -> mean validation error over the seeds, %
Contest = tuple[str, str, int | None, str]  # model, data set, training rows (None: all), loss


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table and the grid of the chosen settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder with the results of the tries")
    parser.add_argument(
        "grids", type=Path, help="folder with the grids: tuning/*.yaml are the tries, table3.yaml has the seeds"
    )
    flags = parser.parse_args(argv)
    results = tried(flags.results, flags.grids / "tuning")
    tries, num_seeds = mean_validation_errors(results), seeds_by_try(results)
    table = tries_table(tries, num_seeds)
    write_text(table, flags.results / "README.md")
    write_text(chosen_grid(tries, read_grid(flags.grids / "table3.yaml"), num_seeds), flags.grids / "chosen.yaml")
    print(table)


def tried(folder: Path, grids: Path) -> list[Result]:
    """The results of all runs in the grids. Other results in the folder are ignored.

    Raises:
        ValueError: A run has no result yet.
    """
    results, keys = read_results(folder), set[str]()
    for path in sorted(grids.glob("*.yaml")):
        runs = read_grid(path).runs
        if missing := [run for run in runs if run.key not in results]:
            raise ValueError(
                f"{path}: all runs must be finished, {len(missing)} of {len(runs)} are not: "
                f"kr-text run {path} --results {folder}"
            )
        keys.update(run.key for run in runs)
    return [result for key, result in results.items() if key in keys]


def mean_validation_errors(results: Iterable[Result]) -> Tries:
    """The mean validation error of each try over its seeds."""
    errors: dict[Run, list[float]] = defaultdict(list)
    for result in results:
        error = result.report["validation_metrics"]["error_rate"]
        assert error is not None
        errors[replace(result.run, seed=0)].append(error)
    return {run: fmean(of_run) for run, of_run in errors.items()}


def seeds_by_try(results: Iterable[Result]) -> dict[Run, int]:
    """The number of seeds of each try."""
    return Counter(replace(result.run, seed=0) for result in results)


def contests(tries: Tries) -> dict[Contest, list[Run]]:
    """The tries of each contest, best first. Equal tries keep their order."""
    groups: dict[Contest, list[Run]] = defaultdict(list)
    for run in tries:
        groups[run.model, run.dataset, run.max_train_rows, run.loss].append(run)
    return {group: sorted(groups[group], key=tries.__getitem__) for group in sorted(groups, key=_order)}


def _order(contest: Contest) -> tuple[str, str, float, int]:
    model, dataset, num_rows, loss = contest
    return model, dataset, float("inf") if num_rows is None else num_rows, NAMES.index(loss)


def tries_table(tries: Tries, num_seeds: Mapping[Run, int]) -> str:
    """All tries as a Markdown page."""
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
        "# Settings tried on validation rows\n\nMeans over the seeds of each try. Learning rates and epochs were "
        "chosen with cross-entropy. Every loss had the same number of tries for its own settings.\n\n"
        + markdown_table(headings, rows)
        + "\n\n```sh\nkr-text run scripts/grids/tuning/*.yaml --results results/tuning --data data\n"
        "python scripts/choose_settings.py results/tuning scripts/grids\n```\n"
    )


def chosen_grid(tries: Tries, table3: Grid, seeds_of_tries: Mapping[Run, int]) -> str:
    """The grid of the losses with their chosen settings, with the number of seeds of cross-entropy in Table 3."""
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
        f"by validation error, averaged over these numbers of seeds: {seeds} (all tries are in results/tuning). With "
        "a single seed the choice depends partly on chance. Everything else is as in Table 3.",
        "section": "chosen",
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
