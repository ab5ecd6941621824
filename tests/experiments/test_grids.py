from collections.abc import Callable
from pathlib import Path

import pytest

from kr_text.experiments.grids import Grid, read_grid
from kr_text.experiments.run import Run
from kr_text.formats.overrides import parse_overrides

Read = Callable[[str], Grid]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Function that reads a grid with given blocks."""

    def read(blocks: str) -> Grid:
        path = tmp_path / "some.yaml"
        path.write_text(f"title: A title\nabout: Something\nruns:\n{blocks}")
        return read_grid(path)

    return read


def test_lists_in_a_block_stand_for_all_combinations(read: Read) -> None:
    grid = read("- {dataset: [a, b], model: fasttext, loss: [ce, kr], training: learning_rate=0.1}")
    assert (grid.name, grid.title, grid.about, grid.section) == ("some", "A title", "Something", None)
    assert grid.runs == tuple(
        Run(dataset, "fasttext", loss, training="learning_rate=0.1") for dataset in "ab" for loss in ("ce", "kr")
    )


@pytest.mark.parametrize(("seeds", "expected"), [("3-5", [3, 4, 5]), ("[5, 4]", [4, 5]), ("7-7", [7]), ("2", [2])])
def test_seeds_are_a_number_a_list_or_a_range(read: Read, seeds: str, expected: list[int]) -> None:
    assert [run.seed for run in read(f"- {{dataset: a, model: m, seed: {seeds}}}").runs] == expected


def test_runs_are_ordered_by_seed_then_by_block(read: Read) -> None:
    grid = read("- {dataset: b, model: m, seed: 1-2}\n- {dataset: a, model: m, seed: 1-3}")
    assert [(run.seed, run.dataset) for run in grid.runs] == [(1, "b"), (1, "a"), (2, "b"), (2, "a"), (3, "a")]


def test_a_run_in_two_blocks_is_in_the_grid_once(read: Read) -> None:
    grid = read("- {dataset: a, model: m, seed: 1-2}\n- {dataset: a, model: m, loss: [ce, kr], seed: 1}")
    assert [(run.loss, run.seed) for run in grid.runs] == [("ce", 1), ("kr", 1), ("ce", 2)]


def test_only_selects_the_runs_with_all_given_values(read: Read) -> None:
    grid = read("- {dataset: [a, b], model: m, seed: 1-2, loss_overrides: alpha=1}")
    assert grid.only({}) == list(grid.runs)
    assert grid.only({"dataset": "b", "seed": 2, "loss_overrides": "alpha=1"}) == [
        Run("b", "m", seed=2, loss_overrides="alpha=1")
    ]


@pytest.mark.parametrize("values", [{"dataset": "c"}, {"dataset": "a", "seed": 2}])
def test_only_may_select_no_run(read: Read, values: dict[str, object]) -> None:
    assert read("- {dataset: a, model: m}").only(values) == []


def test_a_whole_number_is_a_valid_rate(read: Read) -> None:
    (run,) = read("- {dataset: a, model: m, residual_learning_rate: 0}").runs
    assert repr(run.residual_learning_rate) == "0.0"


def test_only_refuses_an_unknown_field(read: Read) -> None:
    with pytest.raises(ValueError, match="unknown field 'modle'; known are config_overrides, dataset, "):
        read("- {dataset: a, model: m}").only({"modle": "m"})


def test_further_training_arguments_override_those_of_the_runs(read: Read) -> None:
    plain = read("- {dataset: a, model: m, training: ['learning_rate=1,max_steps=9', null]}")
    grid = plain.with_training("max_steps=2")
    first, second = grid.runs
    assert parse_overrides(first.training, "training") == {"learning_rate": 1, "max_steps": 2}
    assert second.training == "max_steps=2"
    assert grid.with_training(None) == grid


def test_a_grid_may_name_a_section_of_the_report(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("title: t\nabout: a\nsection: noise\nruns: [{dataset: a, model: m}]")
    assert read_grid(path).section == "noise"


@pytest.mark.parametrize("name", ["settings_digest", "fold"])
def test_the_digest_and_the_fold_of_a_comparison_are_not_fields_of_a_block(read: Read, name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown field '{name}'; known are "):
        read(f"- {{dataset: a, model: m, {name}: 1/2}}")


GOOD = "- {dataset: a, model: m}\n"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("- {dataset: a, model: m, sede: 1}", "unknown field 'sede'; known are config_overrides, dataset, "),
        ("- {dataset: a, model: m, 1: 2, b: 1}", "unknown field '1'; known are "),
        ("- {model: m}", "must have dataset"),
        ("- {loss: ce}", "must have dataset and model"),
        ("- ag_news", "must have fields, got 'ag_news'"),
        ("- {dataset: a, model: m, loss: []}", "loss must have a value, got none"),
        ("- {dataset: a, model: m, seed: 3-1}", "seed must have a value, got none"),
        ("- {dataset: a, model: m, seed: one}", "seed must be int, got 'one'"),
        ("- {dataset: a, model: m, max_train_rows: 1e3}", r"max_train_rows must be int \| None, got '1e3'"),
        ("- {dataset: a, model: m, seed: true}", "seed must be int, got True"),
        (
            "- {dataset: a, model: m, residual_learning_rate: true}",
            r"residual_learning_rate must be float \| None, got T",
        ),
        ("- {dataset: a, model: m, training: {seed: 1}}", r"training must be str \| None, got \{'seed': 1\}"),
    ],
)
def test_an_invalid_block_is_refused_with_its_file_and_number(read: Read, block: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"some\.yaml: block 2: {message}"):
        read(f"{GOOD}{block}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: [", "must be a YAML file, got: line 1, column 9: expected"),
        ("- 1", r"must have title, about and runs, and may have section, got \[1\]"),
        ("title: x\nruns: []", "must have title, about and runs, and may have section, got {'title'"),
        (
            "title: x\nabout: x\nruns: []\nmore: 1",
            "must have title, about and runs, and may have section, got {'title'",
        ),
        ("title: x\nabout:\nruns: [1]", "about must be text, got None"),
        ("title: x\nabout: x\nsection: 4\nruns: [1]", "section must be text, got 4"),
        ("title: 3\nabout: x\nruns: [1]", "title must be text, got 3"),
        ("title: x\nabout: x\nruns: []", r"runs must be a list of blocks, got \[\]"),
        ("title: x\nabout: x\nruns: {dataset: a, model: m}", "runs must be a list of blocks, got {'dataset'"),
    ],
)
def test_a_file_that_is_not_a_grid_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"some\.yaml: {message}"):
        read_grid(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"some\.yaml: No such file"):
        read_grid(tmp_path / "some.yaml")
