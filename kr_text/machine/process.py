"""This process: its cores, how its memory is treated while a model trains, and how much that was at most."""

import ctypes
import gc
import os
import re
import sys
from pathlib import Path
from typing import TypedDict

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


class PeakMemory(TypedDict):
    """Largest resident memory so far, in MB (10^6 bytes)."""

    process: float | None
    largest_child: float | None


def usable_cores() -> int:
    """Cores that this process may use: a container, a batch system or `taskset` may leave it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_for_training() -> None:
    """Spares the steps of training what else they would do for the memory of the process, over and over.

    To be called when all modules are imported: Python's garbage collector then leaves out what there is by now, the
    modules above all, which takes it a quarter of a second each time it looks at everything. And glibc keeps memory
    that was freed, up to 1 GiB a block, for the next step. By default it returns large blocks to the kernel, which
    clears them page by page when the next step asks again: a fifth of CharCNN's time. Elsewhere than on Linux with
    glibc this second part does nothing.
    """
    gc.freeze()
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory_mb() -> PeakMemory:
    """Largest resident memory of this process so far, and of the largest of its children that ended.

    On Linux `ru_maxrss` starts from the size of the process that launched this one, so the kernel's mark VmHWM is read
    instead. A child that ended leaves no such mark: its size is never less than this process had when it was started.
    """
    if sys.platform == "win32":  # has no getrusage
        return {"process": None, "largest_child": None}
    import resource

    mb_per_unit = 1e-6 if sys.platform == "darwin" else 1024e-6  # getrusage(2): bytes on macOS, kilobytes on Linux
    process: float | None = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * mb_per_unit
    if sys.platform == "linux":
        mark = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        process = int(mark[1]) * 1024e-6 if mark else None
    return {"process": process, "largest_child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * mb_per_unit}


def reset_peak_memory() -> None:
    """Has the kernel measure the peak of this process anew, where that can be asked of it: Linux, proc(5)."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
