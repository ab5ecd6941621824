import json
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import kr_text.experiments.results
from kr_text.experiments.predictions import read_predictions
from kr_text.experiments.results import RUNS_FILE, add_result, read_results
from kr_text.experiments.run import Run
from result_cases import outcome

RUNS = [Run("ag_news", "fasttext", seed=seed) for seed in (1, 2, 3)]


def test_a_folder_without_runs_has_no_results(tmp_path: Path) -> None:
    assert read_results(tmp_path) == {}


def test_what_was_added_comes_back_by_its_key(tmp_path: Path) -> None:
    added = [outcome(run, validation=run.seed) for run in RUNS]
    for each in added:
        add_result(tmp_path / "new", each)
    results = read_results(tmp_path / "new")
    assert list(results) == [run.key for run in RUNS]
    assert [result.run for result in results.values()] == RUNS
    assert [result.line for result in results.values()] == [each.line for each in added]
    assert results[RUNS[1].key].report["validation_metrics"] == {"error_rate": 2}


def test_each_run_has_its_own_predictions(tmp_path: Path) -> None:
    for run in RUNS:
        add_result(tmp_path, outcome(run, correct=[True] * run.seed + [False]))
    results = read_results(tmp_path)
    assert [results[run.key].predictions().correct.tolist() for run in RUNS] == [
        [True, False],
        [True, True, False],
        [True, True, True, False],
    ]


@pytest.mark.parametrize("cut", [1, 30, "ï"])
def test_a_line_that_is_half_written_does_not_count_and_the_next_takes_its_place(
    tmp_path: Path, cut: int | str
) -> None:
    whole, half, following = (outcome(run) for run in RUNS)
    half.line["commit"] = "naïve"  # cut within the two bytes of a letter, too
    for each in (whole, half):
        add_result(tmp_path, each)
    path = tmp_path / RUNS_FILE
    content = path.read_bytes()
    end = content.index(b"\xc3") + 1 if isinstance(cut, str) else len(content) - cut
    path.write_bytes(content[:end])
    assert list(read_results(tmp_path)) == [RUNS[0].key]
    add_result(tmp_path, following)
    assert list(read_results(tmp_path)) == [RUNS[0].key, RUNS[2].key]
    assert path.read_bytes().count(b"\n") == 2
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize(
    "broken", ['{"key": ', "{}", "[]", "", '{"key": "x", "run": {"dataset": "a", "models": "m"}}', "\udcff"]
)
def test_a_broken_line_before_the_last_is_an_error_with_its_number(tmp_path: Path, broken: str) -> None:
    for run in RUNS:
        add_result(tmp_path, outcome(run))
    path = tmp_path / RUNS_FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], broken, lines[2], ""]), errors="surrogateescape")
    with pytest.raises(ValueError, match=r"runs\.jsonl: line 2 must be a result, got "):
        read_results(tmp_path)


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    each = outcome(RUNS[0], validation=float("nan"))
    each.line["report"]["test_metrics"]["nll"] = float("inf")
    each.line["wrong_labels"] = {"num_rows": 1, "num_wrong": 0, "precision": float("nan")}
    add_result(tmp_path, each)
    text = (tmp_path / RUNS_FILE).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["report"]["validation_metrics"] == {"error_rate": None}
    line = read_results(tmp_path)[RUNS[0].key].line
    assert line["report"]["test_metrics"]["nll"] is None
    assert line["wrong_labels"] == {"num_rows": 1, "num_wrong": 0, "precision": None}


def test_predictions_are_whole_before_their_line_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A crash between the two leaves a run that is not finished."""
    add_result(tmp_path, outcome(RUNS[0]))
    before = (tmp_path / RUNS_FILE).read_bytes()

    def crash(value: object) -> None:  # called for the line
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kr_text.experiments.results, "finite", crash)
        with pytest.raises(KeyboardInterrupt):
            add_result(tmp_path, outcome(RUNS[1], correct=[False, True]))
    assert (tmp_path / RUNS_FILE).read_bytes() == before
    of_crashed = read_predictions(tmp_path / "predictions" / f"{RUNS[1].key}.parquet")
    assert of_crashed.correct.tolist() == [False, True]
    assert list(read_results(tmp_path)) == [RUNS[0].key]
    add_result(tmp_path, outcome(RUNS[1], correct=[True, True]))
    np.testing.assert_array_equal(read_results(tmp_path)[RUNS[1].key].predictions().correct, [True, True])


def test_a_crash_in_writing_the_predictions_leaves_no_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def crash(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(kr_text.experiments.results, "write_predictions", crash)
    with pytest.raises(OSError, match="no space left"):
        add_result(tmp_path, outcome(RUNS[0]))
    assert read_results(tmp_path) == {}


def test_a_run_that_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    add_result(tmp_path, outcome(RUNS[0], seconds=1.0, correct=[True, False]))
    add_result(tmp_path, outcome(RUNS[0], seconds=2.0, correct=[False, True]))
    assert (tmp_path / RUNS_FILE).read_text().count("\n") == 1
    there = read_results(tmp_path)[RUNS[0].key]
    assert there.report["wall_time_seconds"]["total"] == 1.0
    assert there.predictions().correct.tolist() == [True, False]


def test_two_processes_add_one_after_the_other(tmp_path: Path) -> None:
    """Of two that write at once one could overwrite the other's line."""
    adding = threading.Thread(target=add_result, args=(tmp_path, outcome(RUNS[0])))
    with FileLock(tmp_path / f"{RUNS_FILE}.lock"):
        adding.start()
        adding.join(timeout=1)
        assert adding.is_alive()
        assert read_results(tmp_path) == {}
    adding.join()
    assert list(read_results(tmp_path)) == [RUNS[0].key]
