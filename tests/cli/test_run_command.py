from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kr_text.experiments.engines import ENGINES, Setting
from kr_text.experiments.run import Run

Main = Callable[..., int]
GRID = "title: A\nabout: B\nruns: [{dataset: [a, b], model: fasttext, loss: ce, seed: 1}]"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Arguments of every call of `run_missing`, which runs nothing here; a run on data set b fails."""
    calls: list[tuple[Any, ...]] = []

    def run_missing(
        runs: Sequence[Run], folder: Path, setting: Setting, engine: object, show: Callable[[str], None]
    ) -> list[str]:
        calls.append((runs, folder, setting, engine))
        show(f"{len(runs)} runs")
        return [run.name for run in runs if run.dataset == "b"]

    monkeypatch.setattr("kr_text.experiments.engines.run_missing", run_missing)
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(GRID)
    return calls


def test_results_go_to_the_folder_results_by_default(kr_text: Main, calls: list[tuple[Any, ...]]) -> None:
    assert kr_text("run", "grid.yaml", "--only", "dataset=a") == 0
    assert kr_text("run", "grid.yaml", "--only", "dataset=a", "--results", "mine") == 0
    assert [folder for _, folder, _, _ in calls] == [Path("results"), Path("mine")]


def test_the_flags_choose_the_runs_and_the_setting(
    kr_text: Main, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--only dataset=a --training max_steps=2 --data x y --work w --workers 3 --engine ray"
    assert kr_text("run", "grid.yaml", *flags.split()) == 0
    (((run,), _, setting, engine),) = calls
    assert (run.dataset, run.training) == ("a", "max_steps=2")
    assert (setting.data, setting.work, setting.workers, setting.fresh) == (("x", "y"), "w", 3, False)
    assert engine is ENGINES["ray"]
    assert capsys.readouterr().out == "A (grid.yaml)\n1 runs\n"


def test_fresh_runs_have_one_worker(kr_text: Main, calls: list[tuple[Any, ...]]) -> None:
    assert kr_text("run", "grid.yaml", "--only", "dataset=a", "--fresh") == 0
    (call,) = calls
    assert (call[2].workers, call[2].fresh) == (1, True)


def test_failed_runs_make_the_command_fail(
    kr_text: Main, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert kr_text("run", "grid.yaml") == 2
    message = "kr-text run: 1 of 2 runs failed, see above; the same command tries them again\n"
    assert capsys.readouterr().err == message
    assert len(calls) == 1
