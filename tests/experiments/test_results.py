import json
import threading
from pathlib import Path

import pytest
from filelock import FileLock

import kr_text.experiments.results
from kr_text.experiments.results import RUNS_FILE, add_result, read_results
from kr_text.experiments.run import Run
from result_cases import line_of

RUNS = [Run("ag_news", "fasttext", seed=seed) for seed in (1, 2, 3)]


def test_a_folder_without_runs_has_no_results(tmp_path: Path) -> None:
    assert read_results(tmp_path) == {}


def test_added_results_are_read_back_by_key(tmp_path: Path) -> None:
    added = [line_of(run, validation=run.seed) for run in RUNS]
    for each in added:
        add_result(tmp_path / "new", each)
    results = read_results(tmp_path / "new")
    assert list(results) == [run.key for run in RUNS]
    assert [result.run for result in results.values()] == RUNS
    assert [result.line for result in results.values()] == json.loads(json.dumps(added))
    assert results[RUNS[1].key].report["validation_metrics"] == {"error_rate": 2}


def test_each_run_has_its_own_predictions(tmp_path: Path) -> None:
    for run in RUNS:
        add_result(tmp_path, line_of(run, correct=[True] * run.seed + [False]))
    results = read_results(tmp_path)
    assert [results[run.key].predictions().correct.tolist() for run in RUNS] == [
        [True, False],
        [True, True, False],
        [True, True, True, False],
    ]


@pytest.mark.parametrize("cut", [1, 30, "ï"])
def test_an_incomplete_last_line_is_ignored_and_overwritten_by_the_next_result(tmp_path: Path, cut: int | str) -> None:
    whole, half, following = (line_of(run) for run in RUNS)
    half["commit"] = "naïve"  # one case cuts between the two bytes of a letter
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
        add_result(tmp_path, line_of(run))
    path = tmp_path / RUNS_FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], broken, lines[2], ""]), errors="surrogateescape")
    with pytest.raises(ValueError, match=r"runs\.jsonl: line 2 must be a result, got "):
        read_results(tmp_path)


def test_numbers_that_are_not_finite_are_stored_as_null(tmp_path: Path) -> None:
    each = line_of(RUNS[0], validation=float("nan"))
    each["report"]["test_metrics"]["nll"] = float("inf")
    each["wrong_labels"] = {"num_rows": 1, "num_wrong": 0, "precision": float("nan")}
    add_result(tmp_path, each)
    text = (tmp_path / RUNS_FILE).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["report"]["validation_metrics"] == {"error_rate": None}
    line = read_results(tmp_path)[RUNS[0].key].line
    assert line["report"]["test_metrics"]["nll"] is None
    assert line["wrong_labels"] == {"num_rows": 1, "num_wrong": 0, "precision": None}


def test_a_crash_before_the_line_is_written_leaves_the_file_unchanged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_result(tmp_path, line_of(RUNS[0]))
    before = (tmp_path / RUNS_FILE).read_bytes()

    def crash(value: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kr_text.experiments.results, "finite", crash)
        with pytest.raises(KeyboardInterrupt):
            add_result(tmp_path, line_of(RUNS[1]))
    assert (tmp_path / RUNS_FILE).read_bytes() == before
    add_result(tmp_path, line_of(RUNS[1], correct=[True, False]))
    assert read_results(tmp_path)[RUNS[1].key].predictions().correct.tolist() == [True, False]


def test_a_stored_result_is_not_replaced(tmp_path: Path) -> None:
    add_result(tmp_path, line_of(RUNS[0], seconds=1.0, correct=[True, False]))
    add_result(tmp_path, line_of(RUNS[0], seconds=2.0, correct=[False, True]))
    assert (tmp_path / RUNS_FILE).read_text().count("\n") == 1
    there = read_results(tmp_path)[RUNS[0].key]
    assert there.report["wall_time_seconds"]["total"] == 1.0
    assert there.predictions().correct.tolist() == [True, False]


def test_a_result_is_added_only_under_the_lock_of_the_file(tmp_path: Path) -> None:
    """Without it, two processes that write at the same time could overwrite each other's line."""
    adding = threading.Thread(target=add_result, args=(tmp_path, line_of(RUNS[0])))
    with FileLock(tmp_path / f"{RUNS_FILE}.lock"):
        adding.start()
        adding.join(timeout=1)
        assert adding.is_alive()
        assert read_results(tmp_path) == {}
    adding.join()
    assert list(read_results(tmp_path)) == [RUNS[0].key]
