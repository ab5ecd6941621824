"""Runs a grid: trains the runs without a result, in processes of this machine or on a Ray cluster."""

import multiprocessing
import os
import threading
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from kr_text.experiments.results import Result, add_result, read_results
from kr_text.experiments.run import Line, Run, execute, remove_work
from kr_text.machine.process import usable_cores

Finished = tuple[Run, Line | str]  # a run and its result, or the reason why it failed, in one line
Engine = Callable[[Sequence[Run], "Setting"], Iterator[Finished]]


@dataclass(frozen=True)
class Setting:
    """Where and how runs are trained.

    Attributes:
        data: Folders to look for the data sets in.
        work: Folder for models and checkpoints until the result of their run is stored.
        workers: Number of runs at the same time. They share the cores evenly.
        fresh: Whether each run gets a new process, which measurements of memory need.
        commit: Commit of the code.

    Raises:
        ValueError: `fresh` with several workers.
    """

    data: tuple[str, ...]
    work: str
    workers: int
    fresh: bool
    commit: str | None

    def __post_init__(self) -> None:
        if self.fresh and self.workers > 1:
            raise ValueError(f"fresh must have one worker and the engine local, got --workers {self.workers}")

    @property
    def threads(self) -> int:
        """Number of threads of each run."""
        return max(1, usable_cores() // self.workers)


def run_missing(
    runs: Sequence[Run], folder: Path, setting: Setting, engine: Engine, show: Callable[[str], None]
) -> list[str]:
    """Trains the runs that have no result in `folder`, and stores each result as soon as its run has finished.

    The working folder of a run is removed once its result is stored.

    Args:
        runs: The runs, for example of a grid.
        folder: Folder of results.
        setting: Where and how to train.
        engine: Trains runs and yields their results, for example `local_processes` or `ray_cluster`.
        show: Receives one line of progress after each run, with the estimated time left.

    Returns:
        One line for each run that failed.
    """
    results = read_results(folder)
    # Runs that spell the same settings differently have the same key.
    runs = list({run.key: run for run in runs}.values())
    missing = [run for run in runs if run.key not in results]
    for run in runs:
        if run.key in results:  # a killed process may have stored the result and not removed the folder
            remove_work(run, setting.work)
    show(f"{len(runs)} runs, {len(runs) - len(missing)} of them finished")
    left, failures = dict.fromkeys(missing), []
    for run, outcome in engine(missing, setting):
        del left[run]
        if isinstance(outcome, str):
            failures.append(f"{run.name}: {outcome}")
            show(f"FAILED {failures[-1]}")
            continue
        add_result(folder, outcome)
        remove_work(run, setting.work)
        results[run.key] = Result(run, outcome)
        report = outcome["report"]
        rest = time_left(left, results.values()) / setting.workers
        show(
            f"[{len(runs) - len(left)}/{len(runs)}] {run.name}: {report['test_metrics']['error_rate']:.2f}% error, "
            f"{report['wall_time_seconds']['total']:.0f} s; {rest / 60:.0f} min left"
        )
    return failures


def time_left(runs: Iterable[Run], results: Iterable[Result]) -> float:
    """Estimated seconds to train the runs one after another: for each run, the mean time of the most similar results.

    The most similar results have the same model, data set and number of training rows, else the same model, else all
    results count.
    """
    seconds: dict[object, list[float]] = defaultdict(list)
    for result in results:
        for kind in _kinds(result.run):
            seconds[kind].append(result.report["wall_time_seconds"]["total"])
    known = ([seconds[kind] for kind in _kinds(run) if kind in seconds] for run in runs)
    return sum(fmean(of_run[0]) for of_run in known if of_run)


def _kinds(run: Run) -> list[tuple[object, ...]]:
    return [(run.model, run.dataset, run.max_train_rows), (run.model,), ()]


def local_processes(runs: Sequence[Run], setting: Setting) -> Iterator[Finished]:
    """Trains in processes of this machine.

    A process that dies, for example when memory runs out, ends the whole pool, and the pool does not tell which run
    caused it. So each interrupted run is repeated alone at the end, once.
    """
    interrupted: list[Run] = []
    for shared in ([run] for run in runs) if setting.fresh else [runs]:
        waiting = deque(shared)
        while waiting:
            interrupted += yield from _in_one_pool(waiting, setting)
    for run in interrupted:
        if (yield from _in_one_pool(deque([run]), setting)):
            yield run, f"its process died twice; if memory ran out, lower --workers; see the logs in {setting.work}"


def _in_one_pool(waiting: deque[Run], setting: Setting) -> Generator[Finished, None, list[Run]]:
    """Trains the runs in `waiting` until none is left or a process dies. Returns the interrupted runs."""
    context = multiprocessing.get_context("spawn")  # a forked process would inherit the thread pool of torch
    Path(setting.work).mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(setting.workers, context, initializer=_start_worker, initargs=(setting,))
    running: dict[Future[Line | str], Run] = {}
    interrupted: list[Run] = []
    try:
        while running or (waiting and not interrupted):
            while waiting and len(running) < setting.workers and not interrupted:
                run = waiting.popleft()
                try:
                    running[pool.submit(_attempt, execute, run, setting.data, setting.work, setting.commit)] = run
                except BrokenProcessPool:
                    interrupted.append(run)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    interrupted.append(run)
                else:
                    yield run, outcome
    finally:
        pool.shutdown(cancel_futures=True)
    return interrupted


def _attempt(execute: Callable[..., Line], *arguments: object) -> Line | str:
    """Runs in a worker. Returns an error as one line, since some exceptions cannot be pickled; logs its traceback."""
    try:
        return execute(*arguments)
    except Exception as error:
        traceback.print_exc()
        return _in_one_line(error)


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _start_worker(setting: Setting) -> None:
    """Prepares a worker: its output goes to a log file, and it ends when its parent ends."""
    import torch

    from kr_text.machine.process import prepare_for_training

    torch.set_num_threads(setting.threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(Path(setting.work) / f"worker-{os.getpid()}.log", "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    prepare_for_training()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def ray_cluster(runs: Sequence[Run], setting: Setting) -> Iterator[Finished]:
    """Trains on a Ray cluster, the one in `RAY_ADDRESS` or a new one on this machine.

    Repeats a run whose worker is lost. Every node needs kr-text and access to `setting.data` and `setting.work`. If the
    cluster has accelerators, each run gets one for itself; this is untested.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("engine ray needs the package ray: pip install 'kr-text[ray]'") from error

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    variables = {"OMP_NUM_THREADS": str(setting.threads)}
    num_gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))
    options = {"num_cpus": setting.threads, "num_gpus": num_gpus, "max_retries": 3}
    remote = ray.remote(**options, runtime_env={"env_vars": variables})(execute)
    waiting = {remote.remote(run, setting.data, setting.work, setting.commit): run for run in runs}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        run = waiting.pop(done)
        try:
            yield run, ray.get(done)
        except ray.exceptions.RayTaskError as error:
            yield run, _in_one_line(error.cause)  # the exception of `execute`
        except ray.exceptions.RayError as error:
            yield run, _in_one_line(error)


ENGINES: dict[str, Engine] = {"local": local_processes, "ray": ray_cluster}


def default_workers() -> int:
    """One worker per core, or a single worker with an accelerator, which the runs would share."""
    import torch

    return 1 if torch.accelerator.is_available() else usable_cores()
