"""Runs a grid: what is missing of it, on the processes of this machine, or over a Ray cluster."""

import multiprocessing
import os
import subprocess
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
from kr_text.experiments.run import Outcome, Run, execute, remove_work
from kr_text.machine.process import usable_cores

CHANGED = "+changes"  # after a commit
Finished = tuple[Run, Outcome | str]  # or in one line why there is none
Engine = Callable[[Sequence[Run], "Setting"], Iterator[Finished]]


@dataclass(frozen=True)
class Setting:
    """Where and how the runs of a grid run.

    Attributes:
        data: folders that may hold the data sets.
        work: where models are until their run is finished.
        workers: runs at a time, which share the cores evenly.
        fresh: a new process for each run, for measurements of memory.
        commit: of the code.
    """

    data: tuple[str, ...]
    work: str
    workers: int
    fresh: bool
    commit: str | None

    @property
    def threads(self) -> int:
        """Threads of each run."""
        return max(1, usable_cores() // self.workers)


def run_missing(
    runs: Sequence[Run], folder: Path, setting: Setting, engine: Engine, show: Callable[[str], None]
) -> list[str]:
    """Runs what has no result in `folder` yet, and adds each result as it comes; only then its model is removed.

    Args:
        runs: of a grid.
        folder: the results.
        setting: where and how.
        engine: `local_processes` or `ray_cluster`.
        show: gets a line after each run: how far it is, and the time left.

    Returns:
        A line for each run that failed.
    """
    results = read_results(folder)
    runs = list({run.key: run for run in runs}.values())  # two of them may say the same in other words
    missing = [run for run in runs if run.key not in results]
    for run in runs:
        if run.key in results:  # where a process was killed between the two
            remove_work(run, setting.work)
    show(f"{len(runs)} runs, of which {len(runs) - len(missing)} are finished")
    left, failures = dict.fromkeys(missing), []
    for run, outcome in engine(missing, setting):
        del left[run]
        if isinstance(outcome, str):
            failures.append(f"{run.name}: {outcome}")
            show(f"FAILED {failures[-1]}")
            continue
        add_result(folder, outcome)
        remove_work(run, setting.work)
        results[run.key] = Result(run, outcome.line, folder)
        report = outcome.line["report"]
        rest = time_left(left, results.values()) / setting.workers
        show(
            f"[{len(runs) - len(left)}/{len(runs)}] {run.name}: {report['test_metrics']['error_rate']:.2f}% error, "
            f"{report['wall_time_seconds']['total']:.0f} s; {rest / 60:.0f} min left"
        )
    return failures


def time_left(runs: Iterable[Run], results: Iterable[Result]) -> float:
    """Seconds that the runs will take, one after the other: as long as those most like them took.

    Like is the same model on the same data set and rows; failing that the same model, failing that any.
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
    """Processes on this machine, started anew so that each has its own threads.

    A process that dies, as when memory runs out, takes those beside it along, and no one knows whose fault it was. What
    ran in them runs again at the end, each run by itself.
    """
    interrupted: list[Run] = []
    for shared in ([run] for run in runs) if setting.fresh else [runs]:
        waiting = deque(shared)
        while waiting:
            interrupted += yield from _in_one_pool(waiting, setting)
    for run in interrupted:
        if (yield from _in_one_pool(deque([run]), setting)):
            yield run, f"its process died, twice; if memory ran out, see --workers; its log is one of {setting.work}"


def _in_one_pool(waiting: deque[Run], setting: Setting) -> Generator[Finished, None, list[Run]]:
    """Takes runs from `waiting` until there are none left or a process dies; returns those that ran then."""
    context = multiprocessing.get_context("spawn")
    Path(setting.work).mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(setting.workers, context, initializer=_start_worker, initargs=(setting,))
    running: dict[Future[Outcome | str], Run] = {}
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


def _attempt(execute: Callable[..., Outcome], *arguments: object) -> Outcome | str:
    """In a worker: what went wrong goes to its log, and in one line back, since not every exception can be sent."""
    try:
        return execute(*arguments)
    except Exception as error:
        traceback.print_exc()
        return _in_one_line(error)


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _start_worker(setting: Setting) -> None:
    """What a worker prints goes to a file, since the parent alone speaks to the user; and it ends with its parent."""
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
    """A Ray cluster: the one that `RAY_ADDRESS` names, or one of this machine. A run whose worker is lost runs again.

    Every node must see `setting.data` and `setting.work`, and have kr-text installed. A run has an accelerator for
    itself where the cluster has any, which is untested.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("engine ray needs the package: pip install 'kr-text[ray]'") from error

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
            yield run, _in_one_line(error.cause)  # what `execute` raised
        except ray.exceptions.RayError as error:
            yield run, _in_one_line(error)


ENGINES: dict[str, Engine] = {"local": local_processes, "ray": ray_cluster}


def default_workers() -> int:
    """A run for each core; with an accelerator one, since the runs would share it."""
    import torch

    return 1 if torch.accelerator.is_available() else usable_cores()


def commit_of_code() -> str | None:
    """The commit of the checkout that this package is in, with `CHANGED` if it differs; None where git knows none."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", "kr_text", "models")
    except (OSError, subprocess.CalledProcessError):  # no git here, or a folder that it does not trust
        return None
    return commit + CHANGED if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
