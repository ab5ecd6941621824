import subprocess
import sys

import pytest

PROGRAM = """
import sys
import torch
from kr_text.process import prepare_for_training

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

if sys.argv[1] == "keep":
    prepare_for_training()
before = resident_mb()
block = torch.ones(50_000_000)
del block
print(resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_block_that_was_freed_stays_with_the_process() -> None:
    grown = [
        float(subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True).stdout)
        for word in ("keep", "return")
    ]
    assert grown[0] > 190  # of 200 MB
    assert grown[1] < 50


def test_the_garbage_collector_leaves_out_what_was_imported() -> None:
    program = "import gc; from kr_text.process import prepare_for_training as p; p(); print(gc.get_freeze_count())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(result.stdout) > 1000
