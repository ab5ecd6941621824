"""A local Ray cluster: pytest -m ray."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kr_text.experiments.engines import Setting, ray_cluster, run_missing
from kr_text.experiments.results import RUNS_FILE, read_results
from kr_text.experiments.run import Run
from kr_text.machine.process import usable_cores
from kr_text.training.resume import last_checkpoint

pytestmark = pytest.mark.ray

SHORT = "num_train_epochs=2,per_device_train_batch_size=16"
BUCKETS = "num_buckets=1000"
LONG = "num_train_epochs=150,per_device_train_batch_size=16"


@pytest.fixture(scope="module")
def cluster(datasets_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster with two workers, which inherit the environment variables set here."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("HF_DATASETS_CACHE", str(datasets_cache))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # otherwise it writes a token to the user's home
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def setting(folder: Path, news: Path) -> Setting:
    workers = usable_cores()  # so that each run takes one of the two workers
    return Setting((str(news.parent),), str(folder / "work"), workers, fresh=False, commit=None)


def workers_at(folder: Path) -> list[psutil.Process]:
    """The Ray worker that runs `execute` and holds the lock of this run. Ray names a process by its task."""
    workers = (each for each in psutil.Process().children(recursive=True) if "ray::execute" in " ".join(each.cmdline()))
    return [each for each in workers if f"{folder}.lock" in {file.path for file in each.open_files()}]


def kill_the_worker_that_trains(folder: Path, killed: list[int]) -> None:
    """Kills the worker once its run has a checkpoint, and marks the checkpoint with a number."""
    for _ in range(6000):  # x 50 ms
        if any(folder.glob("checkpoint-*/trainer_state.json")) and workers_at(folder):
            break
        time.sleep(0.05)
    (worker,) = workers_at(folder)
    worker.suspend()
    path = Path(last_checkpoint(folder) or "none") / "trainer_state.json"
    saved = json.loads(path.read_text())
    next(entry for entry in saved["log_history"] if "eval_loss" in entry)["eval_loss"] = 123.0
    path.write_text(json.dumps(saved))
    worker.kill()
    killed.append(worker.pid)


def test_every_run_is_stored_once_although_a_worker_is_killed(tmp_path: Path, news: Path, cluster: None) -> None:
    runs = [
        Run("tiny_news", "fasttext", "kr-ls", training=LONG, config_overrides=BUCKETS),
        Run("tiny_news", "fasttext", "ce", training=SHORT, config_overrides=BUCKETS),
        Run("tiny_news", "fasttext", "ls", training=SHORT, config_overrides=BUCKETS),
    ]
    killed: list[int] = []
    folder = tmp_path / "work" / runs[0].key
    killer = threading.Thread(target=kill_the_worker_that_trains, args=(folder, killed))
    killer.start()
    assert run_missing(runs, tmp_path, setting(tmp_path, news), ray_cluster, lambda line: None) == []
    killer.join()
    assert len(killed) == 1
    results = read_results(tmp_path)
    assert results.keys() == {run.key for run in runs}
    assert (tmp_path / RUNS_FILE).read_text().count("\n") == 3
    epochs = results[runs[0].key].report["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, 151))
    assert [epoch["validation_loss"] for epoch in epochs].count(123.0) == 1  # it resumed
    assert [len(result.predictions().correct) for result in results.values()] == [60] * 3
    assert {result.report["environment"]["num_threads"] for result in results.values()} == {1}
    assert [path for path in (tmp_path / "work").iterdir() if path.suffix != ".lock"] == []


def test_a_run_that_fails_is_reported_as_by_the_local_engine(tmp_path: Path, news: Path, cluster: None) -> None:
    run = Run("nobody/nothing", "fasttext", config_overrides=BUCKETS)
    (failure,) = run_missing([run], tmp_path, setting(tmp_path, news), ray_cluster, lambda line: None)
    assert failure.startswith("nobody/nothing fasttext ce seed 1 config_overrides=num_buckets=1000: ConnectionError: ")
    assert "Traceback" not in failure
    assert read_results(tmp_path) == {}
