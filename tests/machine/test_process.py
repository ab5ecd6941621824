import mmap
import os
import subprocess
import sys

import pytest

from kr_text.machine.process import peak_memory_mb, reset_peak_memory, usable_cores

PROGRAM = """
import sys
import torch
from kr_text.machine.process import prepare_for_training

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

if sys.argv[1] == "keep":
    prepare_for_training()
before = resident_mb()
block = torch.ones(50_000_000)
del block
print(resident_mb() - before)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_usable_cores_counts_only_the_cores_of_the_affinity_mask() -> None:
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_prepare_for_training_keeps_freed_blocks_in_the_process() -> None:
    grown = [
        float(subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True).stdout)
        for word in ("keep", "return")
    ]
    assert grown[0] > 190  # the block has 200 MB
    assert grown[1] < 50


def test_prepare_for_training_freezes_the_imported_objects() -> None:
    program = (
        "import gc; from kr_text.machine.process import prepare_for_training as p; p(); print(gc.get_freeze_count())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(result.stdout) > 1000


def test_the_peak_memory_can_be_reset_on_linux_only() -> None:
    """Allocates 300 MB, which go back to the kernel at once."""
    size = 300_000_000
    with mmap.mmap(-1, size) as block:
        block[:: mmap.PAGESIZE] = bytes(len(range(0, size, mmap.PAGESIZE)))
    before = peak_memory_mb()["process"] or 0.0
    reset_peak_memory()
    assert ((peak_memory_mb()["process"] or 0.0) < before - 200) == (sys.platform == "linux")


def test_peak_memory_counts_the_allocations_of_the_process_and_not_of_its_parent() -> None:
    held = bytearray(b"x") * 300_000_000
    code = """if True:
        from kr_text.machine.process import peak_memory_mb
        before = peak_memory_mb()["process"]
        block = bytearray(b"x") * 100_000_000
        print(before, peak_memory_mb()["process"], peak_memory_mb()["largest_child"])
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after, no_child = map(float, result.stdout.split())
    assert no_child == 0
    assert before < len(held) / 1e6 / 2
    assert after - before == pytest.approx(100, abs=5)
    children = peak_memory_mb()["largest_child"]
    assert children is not None
    assert children >= after
