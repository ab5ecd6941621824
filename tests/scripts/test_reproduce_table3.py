import csv
import json
from pathlib import Path

import pytest
import reproduce_table3

from kr_text.experiments.grids import read_grid
from kr_text.models import MODELS

CLASSES = {"ag_news": 4, "yahoo_answers": 10, "yelp_review_full": 5}


@pytest.fixture
def slices(tmp_path: Path, datasets_cache: Path) -> Path:
    """The three data sets in their original format, cut to a few rows."""
    for name, num_labels in CLASSES.items():
        folder = tmp_path / "slices" / name
        folder.mkdir(parents=True)
        (folder / "classes.txt").write_text("\n".join(f"class {k}" for k in range(num_labels)))
        for split, num_rows in (("train", 100), ("test", 40)):
            with (folder / f"{split}.csv").open("w", newline="") as file:
                rows = (
                    (row % num_labels + 1, f"row {row} about subject {row % num_labels}") for row in range(num_rows)
                )
                csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    return tmp_path / "slices"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of `kr-text`, which are noted and not run."""
    ran: list[list[str]] = []

    def kr_text(argv: list[str]) -> int:
        ran.append(argv)
        return 0

    monkeypatch.setattr(reproduce_table3, "kr_text", kr_text)
    return ran


def test_the_published_grids_are_not_changed(monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]) -> None:
    before = {path: path.read_bytes() for path in reproduce_table3.GRIDS.glob("*.yaml")}
    monkeypatch.chdir(reproduce_table3.ROOT)
    assert reproduce_table3.main(["--results", "results"]) == 0
    with pytest.raises(SystemExit):
        reproduce_table3.main(["--full", "--results", "results"])
    grids = [str(reproduce_table3.GRIDS / name) for name in ("table3.yaml", "chosen.yaml")]
    assert commands == [
        ["run", *grids, "--results", "results", "--data"],
        ["report", "results", "--grids", str(reproduce_table3.GRIDS)],
    ]
    assert {path: path.read_bytes() for path in reproduce_table3.GRIDS.glob("*.yaml")} == before


def test_another_folder_gets_copies_of_the_two_grids(tmp_path: Path, commands: list[list[str]]) -> None:
    assert reproduce_table3.main(["--data", "data", "--results", str(tmp_path), "--", "--only", "seed=1"]) == 0
    copies = [tmp_path / "grids" / name for name in ("table3.yaml", "chosen.yaml")]
    assert commands == [
        ["run", *map(str, copies), "--results", str(tmp_path), "--data", "data", "--only", "seed=1"],
        ["report", str(tmp_path), "--grids", str(tmp_path / "grids")],
    ]
    assert [read_grid(copy) for copy in copies] == [read_grid(reproduce_table3.GRIDS / copy.name) for copy in copies]


@pytest.mark.parametrize(
    ("only", "datasets", "models"),
    [("model=fasttext", set(CLASSES), {"fasttext"}), ("dataset=ag_news", {"ag_news"}, set(MODELS))],
)
def test_the_full_grid_takes_its_first_steps_on_slices(
    slices: Path, tmp_path: Path, only: str, datasets: set[str], models: set[str]
) -> None:
    results = tmp_path / "results_full"
    few = ["--only", f"seed=1,loss=kr-ls,{only}", "--training", "max_steps=2", "--work", str(tmp_path / "work")]
    argv = ["--full", "--data", str(slices), "--results", str(results), "--", *few, "--workers", "1"]
    assert reproduce_table3.main(argv) == 0
    lines = [json.loads(line) for line in (results / "runs.jsonl").read_text().splitlines()]
    assert {line["run"]["dataset"] for line in lines} == datasets
    assert {line["run"]["model"] for line in lines} == models
    assert all("max_train_rows" not in line["run"] for line in lines)
    assert all(line["report"]["dataset"]["num_train_rows"] == 90 for line in lines)
    assert "Table 3" in (results / "report.md").read_text()


def test_the_full_grid_is_planned_on_all_rows(tmp_path: Path, commands: list[list[str]]) -> None:
    assert reproduce_table3.main(["--full", "--results", str(tmp_path)]) == 0
    planned = [run for name in ("table3", "chosen") for run in read_grid(tmp_path / "grids" / f"{name}.yaml").runs]
    assert all(run.max_train_rows is None for run in planned)
    assert {run.model for run in planned} == set(MODELS)
