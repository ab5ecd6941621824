"""Threads for compiled loops, which share the cores with PyTorch's own threads."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch

PARTS_PER_THREAD = 4


def run_in_parts(loop: Callable[..., None], *args: Any) -> None:
    """Runs `loop(part, num_parts, *args)` for every part on all threads.

    There are several parts for each thread, so that fast threads do not wait for one that starts late.
    """
    num_others = num_threads() - 1
    num_parts = PARTS_PER_THREAD * (num_others + 1) if num_others else 1
    parts = iter(range(num_parts))  # shared by the threads

    def work() -> None:
        for part in parts:
            loop(part, num_parts, *args)

    others = [_executor().submit(work) for _ in range(num_others)]
    work()
    for other in others:
        other.result()


def num_threads() -> int:
    """Number of threads for a loop: PyTorch's setting, as it was before `threads_for_loops`."""
    return _num_threads.get() or torch.get_num_threads()


_num_threads: ContextVar[int | None] = ContextVar("num_threads", default=None)


@contextmanager
def threads_for_loops() -> Iterator[None]:
    """Limits PyTorch to one thread and leaves the other cores to the loops, since PyTorch's idle threads spin."""
    before = torch.get_num_threads()
    token = _num_threads.set(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _num_threads.reset(token)


@lru_cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="loops")


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_executor.cache_clear)
