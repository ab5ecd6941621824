"""This process: usable cores, memory settings for training, peak memory."""

import ctypes
import gc
import os
import re
import sys
from pathlib import Path
from typing import TypedDict

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


class PeakMemory(TypedDict):
    """Peak resident memory in MB (10^6 bytes); None where the system does not report it.

    Attributes:
        process: Peak of this process.
        largest_child: Largest peak among the child processes that have ended.
    """

    process: float | None
    largest_child: float | None


def usable_cores() -> int:
    """Number of cores that this process may use; a container, a batch system or `taskset` may limit it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_for_training() -> None:
    """Configures garbage collection and malloc for training; call it after all modules are imported.

    Garbage collection: excludes all present objects, mostly modules, from collection. A full collection of them takes a
    quarter of a second.

    malloc: on Linux with glibc, keeps freed blocks of up to 1 GiB for the next training step. By default, glibc returns
    large blocks to the kernel, which clears them page by page when the next step allocates them again. For CharCNN
    this takes a fifth of the training time.
    """
    gc.freeze()
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # None with musl
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory_mb() -> PeakMemory:
    """Peak resident memory of this process and of its largest child process that has ended.

    On Linux, `ru_maxrss` starts at the size of the parent process, so VmHWM is read instead. VmHWM is not available for
    children that have ended; their value is at least the size of this process when it started them.
    """
    if sys.platform == "win32":  # no getrusage
        return {"process": None, "largest_child": None}
    import resource

    mb_per_unit = 1e-6 if sys.platform == "darwin" else 1024e-6  # getrusage(2): bytes on macOS, kilobytes on Linux
    process: float | None = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * mb_per_unit
    if sys.platform == "linux":
        mark = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        process = int(mark[1]) * 1024e-6 if mark else None
    return {"process": process, "largest_child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * mb_per_unit}


def reset_peak_memory() -> None:
    """Resets the peak memory of this process (proc(5)); does nothing on systems other than Linux."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
