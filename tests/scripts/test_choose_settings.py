from dataclasses import replace
from pathlib import Path

import pytest
from choose_settings import contests, main, mean_validation_errors

from kr_text.experiments.grids import read_grid
from kr_text.experiments.results import add_result, read_results
from kr_text.experiments.run import Run
from result_cases import line_of

RIGHT, WRONG = True, False
# setting: validation errors of the seeds, and whether the test rows are correct
KR = {
    "alpha=0.1": ([4.0, 10.0], RIGHT),  # the best seed, and the best test error
    "alpha=0.3": ([6.0, 6.0], WRONG),  # the lowest mean
    "alpha=1": ([6.0, 7.0], RIGHT),
}
CE = {"learning_rate=0.1": ([9.0, 9.0], RIGHT), "learning_rate=0.3": ([8.0, 8.5], WRONG)}


@pytest.fixture
def tuning(tmp_path: Path) -> Path:
    """Results of cross-entropy with several learning rates and of KR with several alphas, and their grid."""
    for loss, field, tries in (("ce", "training", CE), ("kr", "loss_overrides", KR)):
        for setting, (errors, right) in tries.items():
            for seed, error in enumerate(errors, 101):
                for model, rows in (("fasttext", None), ("textrnn", 500)):
                    run = Run("ag_news", model, loss, seed, rows)
                    if loss == "kr" and model == "textrnn":  # at the best rate of cross-entropy
                        run = replace(run, training="learning_rate=0.3")
                    run = replace(run, **{field: setting})  # type: ignore[arg-type]  # a str, whichever field it is
                    add_result(tmp_path / "tuning", line_of(run, validation=error, correct=[right]))
    blocks = [
        "{dataset: ag_news, model: fasttext, loss: ce, seed: 101-102, "
        "training: [learning_rate=0.1, learning_rate=0.3]}",
        "{dataset: ag_news, model: textrnn, loss: ce, seed: 101-102, max_train_rows: 500, "
        "training: [learning_rate=0.1, learning_rate=0.3]}",
        "{dataset: ag_news, model: fasttext, loss: kr, seed: 101-102, loss_overrides: [alpha=0.1, alpha=0.3, alpha=1]}",
        "{dataset: ag_news, model: textrnn, loss: kr, seed: 101-102, max_train_rows: 500, training: learning_rate=0.3, "
        "loss_overrides: [alpha=0.1, alpha=0.3, alpha=1]}",
    ]
    (tmp_path / "grids" / "tuning").mkdir(parents=True)
    (tmp_path / "grids" / "tuning" / "tries.yaml").write_text("\n  - ".join(["title: t\nabout: a\nruns:", *blocks]))
    return tmp_path / "tuning"


@pytest.fixture
def grids(tuning: Path) -> Path:
    """The folder of grids, with the grid of Table 3."""
    folder = tuning.parent / "grids"
    (folder / "table3.yaml").write_text(
        "title: t\nabout: a\nruns:\n"
        "  - {dataset: ag_news, model: fasttext, loss: [ce, kr], seed: 1-10}\n"
        "  - {dataset: ag_news, model: textrnn, loss: [ce, kr], seed: 1-3, max_train_rows: 500}\n"
    )
    return folder


def test_the_lowest_mean_validation_error_is_chosen_whatever_the_test_error(tuning: Path) -> None:
    tries = mean_validation_errors(read_results(tuning).values())
    assert len(tries) == 10
    assert sorted(set(tries.values())) == [6.0, 6.5, 7.0, 8.25, 9.0]
    ranked = contests(tries)
    places = (("fasttext", "ag_news", None), ("textrnn", "ag_news", 500))
    assert list(ranked) == [(*place, loss) for place in places for loss in ("ce", "kr")]
    assert [run.loss_overrides for run in ranked[(*places[0], "kr")]] == ["alpha=0.3", "alpha=1", "alpha=0.1"]
    assert [run.training for run in ranked[(*places[0], "ce")]] == ["learning_rate=0.3", "learning_rate=0.1"]


def test_nothing_is_chosen_before_all_tries_are_finished(tuning: Path, grids: Path) -> None:
    block = "{dataset: ag_news, model: fasttext, loss: kr, seed: [101, 102], loss_overrides: [alpha=0.3, alpha=2]}"
    (grids / "tuning" / "losses.yaml").write_text(f"title: t\nabout: a\nruns:\n  - {block}\n")
    with pytest.raises(
        ValueError, match=r"losses\.yaml: all runs must be finished, 2 of 4 are not: kr-text run .*losses\.yaml"
    ):
        main([str(tuning), str(grids)])
    assert not (grids / "chosen.yaml").exists()


def test_a_tie_goes_to_the_first_try(tmp_path: Path) -> None:
    for setting in ("alpha=9", "alpha=1"):
        add_result(tmp_path, line_of(Run("a", "fasttext", "kr", loss_overrides=setting), validation=5.0))
    tries = mean_validation_errors(read_results(tmp_path).values())
    assert contests(tries)["fasttext", "a", None, "kr"][0].loss_overrides == "alpha=9"


def test_tries_on_different_numbers_of_rows_are_not_compared(tmp_path: Path) -> None:
    for rows, setting, error in ((500, "learning_rate=0.1", 9.0), (None, "learning_rate=0.3", 5.0)):
        add_result(tmp_path, line_of(Run("a", "charcnn", "ce", 0, rows, training=setting), validation=error))
    ranked = contests(mean_validation_errors(read_results(tmp_path).values()))
    assert {group: [run.training for run in runs] for group, runs in ranked.items()} == {
        ("charcnn", "a", 500, "ce"): ["learning_rate=0.1"],
        ("charcnn", "a", None, "ce"): ["learning_rate=0.3"],
    }
    assert next(iter(ranked))[2] == 500


def test_losses_are_in_the_order_of_table_3(tmp_path: Path) -> None:
    for loss in ("kr-ls", "ls", "kr", "ce"):
        add_result(tmp_path, line_of(Run("a", "fasttext", loss), validation=5.0))
    ranked = contests(mean_validation_errors(read_results(tmp_path).values()))
    assert [loss for _, _, _, loss in ranked] == ["ce", "ls", "kr", "kr-ls"]


def test_the_grid_has_the_chosen_settings_with_the_seeds_of_table_3(tuning: Path, grids: Path) -> None:
    main([str(tuning), str(grids)])
    grid = read_grid(grids / "chosen.yaml")
    fasttext = [Run("ag_news", "fasttext", "kr", seed, None, "alpha=0.3") for seed in range(1, 11)]
    textrnn = [
        Run("ag_news", "textrnn", "kr", seed, 500, "alpha=0.3", training="learning_rate=0.3") for seed in range(1, 4)
    ]
    assert set(grid.runs) == {*fasttext, *textrnn}
    assert "averaged over these numbers of seeds: fasttext 2, textrnn 2 (all" in grid.about
    assert grid.section == "chosen"


def test_results_outside_the_grids_are_ignored(tuning: Path, grids: Path) -> None:
    """A run of two steps, a setting that only one loss has, and a run of an older recipe, which has another key."""
    before = (tuning / "runs.jsonl").read_bytes()
    for setting, training in (("alpha=1", "max_steps=2"), ("alpha=0.5", None)):
        run = Run("ag_news", "fasttext", "kr", 101, loss_overrides=setting, training=training)
        add_result(tuning, line_of(run, validation=0.5))
    older = line_of(Run("ag_news", "fasttext", "kr", 101, loss_overrides="alpha=1"), validation=0.5)
    older["key"] = "0123456789abcdef"
    add_result(tuning, older)
    assert len((tuning / "runs.jsonl").read_bytes()) > len(before)
    main([str(tuning), str(grids)])
    chosen = {run.loss_overrides for run in read_grid(grids / "chosen.yaml").runs if run.model == "fasttext"}
    assert chosen == {"alpha=0.3"}


def test_a_loss_without_cross_entropy_in_table_3_is_refused(tuning: Path, grids: Path) -> None:
    (grids / "table3.yaml").write_text(
        "title: t\nabout: a\nruns:\n  - {dataset: ag_news, model: fasttext, loss: ce, seed: 1}\n"
    )
    with pytest.raises(ValueError, match="cross-entropy wherever a loss was tried, and has none for textrnn ag_news"):
        main([str(tuning), str(grids)])


def test_the_table_has_every_try_and_marks_the_chosen_ones(
    tuning: Path, grids: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tuning), str(grids)])
    table = (tuning / "README.md").read_text()
    assert capsys.readouterr().out == f"{table}\n"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "ag_news" in line]
    assert rows[:5] == [
        ["fasttext", "ag_news", "all", "ce", "learning_rate=0.3", "2", "8.25", "chosen"],
        ["fasttext", "ag_news", "all", "ce", "learning_rate=0.1", "2", "9.00", ""],
        ["fasttext", "ag_news", "all", "kr", "alpha=0.3", "2", "6.00", "chosen"],
        ["fasttext", "ag_news", "all", "kr", "alpha=1", "2", "6.50", ""],
        ["fasttext", "ag_news", "all", "kr", "alpha=0.1", "2", "7.00", ""],
    ]
    assert rows[7:] == [["textrnn", "ag_news", "500", *cells[3:]] for cells in rows[2:5]]
    assert len(rows) == 10
