"""How this process treats memory while a model trains in it."""

import ctypes
import gc
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


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
