import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

import kr_text.experiments.code_version
import kr_text.experiments.engines
import kr_text.experiments.results
from kr_text.experiments.code_version import commit_of_code
from kr_text.experiments.engines import Finished, Setting, local_processes, run_missing, time_left
from kr_text.experiments.results import RUNS_FILE, Result, add_result, read_results
from kr_text.experiments.run import Line, Run
from kr_text.machine.process import usable_cores
from result_cases import line_of, result

SETTING = Setting(data=(), work="unused", workers=2, fresh=False, commit=None)
RUNS = [Run("ag_news", "fasttext", seed=seed) for seed in (1, 2, 3)]
SMALL = "config_overrides: num_buckets=1000, training: 'num_train_epochs=2,per_device_train_batch_size=16'"

# Missing runs, with an engine that trains nothing


def engine_of(
    started: list[Run], fail: Callable[[Run], bool] = lambda run: False, seconds: float = 60.0
) -> Callable[[Sequence[Run], Setting], Iterator[Finished]]:
    def engine(runs: Sequence[Run], setting: Setting) -> Iterator[Finished]:
        for run in runs:
            started.append(run)
            yield run, "ValueError: invalid" if fail(run) else line_of(run, seconds=seconds)

    return engine


def test_only_runs_without_a_result_are_run(tmp_path: Path) -> None:
    started: list[Run] = []
    add_result(tmp_path, line_of(RUNS[1]))
    for _ in range(2):
        assert run_missing(RUNS, tmp_path, SETTING, engine_of(started), lambda line: None) == []
    assert started == [RUNS[0], RUNS[2]]
    assert read_results(tmp_path).keys() == {run.key for run in RUNS}


def test_each_result_is_stored_before_the_next_run_starts(tmp_path: Path) -> None:
    def engine(runs: Sequence[Run], setting: Setting) -> Iterator[Finished]:
        for number, run in enumerate(runs):
            assert len(read_results(tmp_path)) == number
            yield run, line_of(run)

    run_missing(RUNS, tmp_path, SETTING, engine, lambda line: None)
    assert len(read_results(tmp_path)) == 3


def test_two_runs_with_the_same_key_are_run_once(tmp_path: Path) -> None:
    started: list[Run] = []
    same = replace(RUNS[0], training="learning_rate=0.3")  # the rate of the recipe
    assert same.key == RUNS[0].key
    run_missing([RUNS[0], same, RUNS[1]], tmp_path, SETTING, engine_of(started), lambda line: None)
    assert [run.key for run in started] == [RUNS[0].key, RUNS[1].key]
    assert (tmp_path / RUNS_FILE).read_text().count("\n") == 2


def test_a_failed_run_is_reported_and_run_again_the_next_time(tmp_path: Path) -> None:
    lines: list[str] = []
    started: list[Run] = []
    failing = engine_of(started, fail=lambda run: run.seed == 2)
    failures = run_missing(RUNS, tmp_path, SETTING, failing, lines.append)
    assert failures == ["ag_news fasttext ce seed 2: ValueError: invalid"]
    assert f"FAILED {failures[0]}" in lines
    assert run_missing(RUNS, tmp_path, SETTING, engine_of(started), lines.append) == []
    assert [run.seed for run in started] == [1, 2, 3, 2]


def test_each_line_shows_the_progress_and_the_time_left(tmp_path: Path) -> None:
    """Four runs of ten minutes on two workers."""
    lines: list[str] = []
    runs = [*RUNS, Run("ag_news", "fasttext", seed=4)]
    add_result(tmp_path, line_of(runs[0], seconds=600))
    run_missing(runs, tmp_path, SETTING, engine_of([], seconds=600), lines.append)
    assert lines == [
        "4 runs, 1 of them finished",
        "[2/4] ag_news fasttext ce seed 2: 33.33% error, 600 s; 10 min left",
        "[3/4] ag_news fasttext ce seed 3: 33.33% error, 600 s; 5 min left",
        "[4/4] ag_news fasttext ce seed 4: 33.33% error, 600 s; 0 min left",
    ]


# The time left


def test_the_time_left_is_estimated_from_the_most_similar_runs(tmp_path: Path) -> None:
    seconds: list[tuple[Run, float]] = [
        (Run("a", "fasttext"), 10),
        (Run("a", "fasttext", "kr-ls", seed=2), 30),  # similar: loss and seed do not count
        (Run("a", "fasttext", max_train_rows=5), 1),
        (Run("b", "fasttext"), 59),
        (Run("a", "textrnn"), 900),
    ]
    known = [result(tmp_path, run, seconds=of_run) for run, of_run in seconds]
    for run, expected in [
        (Run("a", "fasttext", seed=7), 20),
        (Run("a", "fasttext", max_train_rows=5, seed=7), 1),
        (Run("c", "fasttext"), 25),  # the mean of the model
        (Run("c", "textrnn"), 900),
        (Run("a", "charcnn"), 200),  # the mean of all
    ]:
        assert time_left([run], known) == pytest.approx(expected)
    assert time_left([Run("c", "textrnn"), Run("a", "charcnn")], known) == pytest.approx(1100)
    assert time_left([], known) == 0
    assert time_left([Run("a", "fasttext")], list[Result]()) == 0


def test_workers_share_the_cores_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_text.experiments.engines, "usable_cores", lambda: 8)
    assert [replace(SETTING, workers=workers).threads for workers in (1, 2, 3, 8, 9)] == [8, 4, 2, 1, 1]


# The commit


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *own, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_marked_if_tracked_code_differs_from_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = tmp_path / "kr_text" / "experiments" / "code_version.py"
    for path in (code, tmp_path / "models" / "m.py", tmp_path / "README.md"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one")
    monkeypatch.setattr(kr_text.experiments.code_version, "__file__", str(code))
    assert commit_of_code() is None
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert commit_of_code() == commit
    (tmp_path / "README.md").write_text("two")
    (tmp_path / "kr_text" / "notes.txt").write_text("untracked")
    assert commit_of_code() == commit
    (tmp_path / "models" / "m.py").write_text("two")
    assert commit_of_code() == f"{commit}+changes"


# Processes on this machine


@pytest.fixture(scope="module")
def environment(datasets_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = str(tmp_path_factory.mktemp("home"))
    return {**os.environ, "HF_HOME": home, "HF_DATASETS_CACHE": str(datasets_cache), "HF_HUB_OFFLINE": "1"}


def start(folder: Path, news: Path, environment: dict[str, str], *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kr_text", "run", str(folder / "grid.yaml"), "--workers", "2", *flags]
    command += ["--results", str(folder), "--data", str(news.parent), "--work", str(folder / "work")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def write_grid(folder: Path, *blocks: str) -> None:
    runs = "\n".join(f"- {{dataset: tiny_news, model: fasttext, {block}}}" for block in blocks)
    (folder / "grid.yaml").write_text(f"title: Tiny\nabout: Tiny\nruns:\n{runs}\n")


def test_a_failing_run_does_not_stop_the_grid_and_finished_runs_are_not_repeated(
    tmp_path: Path, news: Path, environment: dict[str, str]
) -> None:
    write_grid(tmp_path, f"seed: 1, loss: [ce, kr-ls], {SMALL}", f"seed: 2, {SMALL}")
    with (tmp_path / "grid.yaml").open("a") as file:
        file.write("- {dataset: nobody/nothing, model: fasttext}\n")
    process = start(tmp_path, news, environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err == "kr-text run: 1 of 4 runs failed, see above; the same command tries them again\n"
    assert out.splitlines()[:2] == [f"Tiny ({tmp_path / 'grid.yaml'})", "4 runs, 0 of them finished"]
    failed = [line for line in out.splitlines()[2:] if "/4] tiny_news fasttext" not in line]
    assert [line.partition(" is not a file")[0] for line in failed] == [
        "FAILED nobody/nothing fasttext ce seed 1: ConnectionError: nobody/nothing"
    ]
    results = read_results(tmp_path).values()
    assert {(each.run.loss, each.run.seed) for each in results} == {("ce", 1), ("kr-ls", 1), ("ce", 2)}
    assert [len(each.predictions().correct) for each in results] == [60] * 3
    threads = max(1, usable_cores() // 2)
    assert {each.report["environment"]["num_threads"] for each in results} == {threads}

    before = (tmp_path / RUNS_FILE).read_bytes()
    again = start(tmp_path, news, environment, "--only", "dataset=tiny_news")
    out, err = again.communicate(timeout=120)
    assert (again.returncode, err) == (0, "")
    assert out.splitlines()[1:] == ["3 runs, 3 of them finished"]
    assert (tmp_path / RUNS_FILE).read_bytes() == before


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    for _ in range(6000):  # x 50 ms: on a busy machine, three processes take a minute to start
        if found := what():
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise TimeoutError


def test_a_killed_grid_continues_and_its_interrupted_run_resumes(
    tmp_path: Path, news: Path, environment: dict[str, str]
) -> None:
    """The workers end with their parent, and finished runs are unchanged."""
    long = "seed: 1, loss: kr-ls, training: 'num_train_epochs=100,per_device_train_batch_size=16'"
    write_grid(tmp_path, f"{long}, config_overrides: num_buckets=10", f"seed: 2-4, {SMALL}")
    process = start(tmp_path, news, environment)
    state = wait_for(
        lambda: (
            read_results(tmp_path)
            and [
                path
                for path in tmp_path.glob("work/*/checkpoint-*/trainer_state.json")
                if '"num_train_epochs": 100' in text_of(path)
            ]
        ),
        process,
    )[-1]
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert psutil.wait_procs(workers, timeout=20)[1] == []

    before = (tmp_path / RUNS_FILE).read_bytes()
    finished = read_results(tmp_path)
    assert 1 <= len(finished) < 4
    folder = state.parents[1]
    assert folder.name not in finished
    for path in folder.glob("checkpoint-*/trainer_state.json"):  # a value that only a resumed run can have
        saved = json.loads(path.read_text())
        next(entry for entry in saved["log_history"] if "eval_loss" in entry)["eval_loss"] = 123.0
        path.write_text(json.dumps(saved))
    out, err = start(tmp_path, news, environment).communicate(timeout=120)
    assert err == ""
    assert f"4 runs, {len(finished)} of them finished" in out
    assert (tmp_path / RUNS_FILE).read_bytes().startswith(before)
    assert (tmp_path / RUNS_FILE).read_text().count("\n") == len(read_results(tmp_path)) == 4
    epochs = read_results(tmp_path)[folder.name].report["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, 101))
    assert [epoch["validation_loss"] for epoch in epochs].count(123.0) == 1
    assert list((tmp_path / "work").glob("*/")) == []


def text_of(path: Path) -> str:
    """The text of a file, empty if there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def execute_in_vain(run: Run, data: tuple[str, ...], work: str, commit: str | None) -> Line:
    raise ValueError(f"seed {run.seed}\n  must be another")


def test_fresh_with_several_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="fresh must have one worker and the engine local, got --workers 2"):
        Setting((), "unused", workers=2, fresh=True, commit=None)


@pytest.mark.parametrize(("fresh", "num_processes"), [(True, 2), (False, 1)])
def test_fresh_starts_a_process_for_each_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: bool, num_processes: int
) -> None:
    """Each worker process writes one log."""
    monkeypatch.setattr(kr_text.experiments.engines, "execute", execute_in_vain)
    found = dict(local_processes(RUNS[:2], Setting((), str(tmp_path / "work"), 1, fresh, None)))
    assert list(found.values()) == ["ValueError: seed 1 must be another", "ValueError: seed 2 must be another"]
    assert list(found) == RUNS[:2]
    assert len(list((tmp_path / "work").glob("worker-*.log"))) == num_processes


class OddError(Exception):
    """An exception that cannot be unpickled, since its constructor does not take its text."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


def execute_oddly(run: Run, data: tuple[str, ...], work: str, commit: str | None) -> Line:
    raise OddError(code=run.seed)


def test_every_error_in_a_worker_is_returned_and_logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kr_text.experiments.engines, "execute", execute_oddly)
    found = dict(local_processes(RUNS[:2], Setting((), str(tmp_path), 1, False, None)))
    assert list(found.values()) == ["OddError: code 1", "OddError: code 2"]
    (log,) = tmp_path.glob("worker-*.log")
    assert log.read_text().count("in execute_oddly") == 2


def test_a_working_folder_is_kept_until_the_result_is_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = replace(SETTING, work=str(tmp_path / "work"))
    folders = [tmp_path / "work" / run.key for run in RUNS[:2]]
    for folder in folders:
        folder.mkdir(parents=True)

    def crash(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(kr_text.experiments.results, "finite", crash)
        with pytest.raises(OSError, match="no space left"):
            run_missing(RUNS[:2], tmp_path, setting, engine_of([]), lambda line: None)
    assert [folder.exists() for folder in folders] == [True, True]
    with FileLock(f"{folders[1]}.lock"):  # held by another process
        run_missing(RUNS[:2], tmp_path, setting, engine_of([]), lambda line: None)
    assert [folder.exists() for folder in folders] == [False, True]
    run_missing(RUNS[:2], tmp_path, setting, engine_of([]), lambda line: None)
    assert [folder.exists() for folder in folders] == [False, False]


def execute_or_die(run: Run, data: tuple[str, ...], work: str, commit: str | None) -> Line:
    """The process of seed 2 dies `data[0]` times, while seed 1 runs in the other process."""
    path = Path(work) / f"seed-{run.seed}"
    with path.open("a") as file:
        file.write("started\n")
    tries = path.read_text().count("\n")
    if run.seed == 2 and tries <= int(data[0]):
        while not text_of(Path(work) / "seed-1"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    if run.seed == 1 and tries == 1:
        time.sleep(3)  # a pool may notice a dead process only when another of its runs finishes
    return line_of(run)


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_dying_process_costs_no_other_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deaths: int) -> None:
    monkeypatch.setattr(kr_text.experiments.engines, "execute", execute_or_die)
    runs = [replace(RUNS[0], seed=seed) for seed in (1, 2, 3, 4)]
    found = dict(local_processes(runs, Setting((str(deaths),), str(tmp_path), 2, False, None)))
    assert found.keys() == set(runs)
    failed = {run.seed: error for run, error in found.items() if isinstance(error, str)}
    assert failed.keys() == ({2} if deaths == 2 else set())
    assert all("its process died twice" in error for error in failed.values())
    tries = [path.read_text().count("\n") for path in sorted(tmp_path.glob("seed-*"))]
    assert len(tries) == 4
    assert tries[1] == 2
    assert sum(tries) <= 6  # at most one other run was interrupted
