import contextlib
import subprocess
import sys
from typing import Any, cast

import pytest
import torch
from transformers import Trainer

from kr_text.kernels.loop_threads import num_threads, run_in_parts, threads_for_loops
from kr_text.models import MODELS
from kr_text.trainer.mutual_pair import MutualPair
from kr_text.training.batches_trainer import ClassifierTrainer


@pytest.mark.parametrize("threads", [1, 3])
def test_every_part_runs_once(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    ran: list[tuple[int, int]] = []
    run_in_parts(lambda part, num_parts, *args: ran.append((part, num_parts)), "argument")
    torch.set_num_threads(before)
    num_parts = 1 if threads == 1 else 12
    assert sorted(ran) == [(part, num_parts) for part in range(num_parts)]


def test_pytorch_gets_its_threads_back_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with contextlib.suppress(KeyError), threads_for_loops():
        assert (torch.get_num_threads(), num_threads()) == (1, 3)
        raise KeyError
    assert (torch.get_num_threads(), num_threads()) == (3, 3)
    torch.set_num_threads(before)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize(("name", "seen"), [("fasttext", (1, 3)), ("textrnn", (3, 3))])
def test_training_gives_all_threads_to_fasttexts_loops(
    monkeypatch: pytest.MonkeyPatch, name: str, seen: tuple[int, int], pair: bool
) -> None:
    config_class: Any
    config_class, model_class = MODELS[name]
    trainer: Any = object.__new__(ClassifierTrainer)
    first, second = (cast(Any, model_class)(config_class(vocab_size=9)) for _ in range(2))
    trainer.model = MutualPair(first, second) if pair else first
    monkeypatch.setattr(Trainer, "train", lambda self: (torch.get_num_threads(), num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    assert trainer.train() == seen
    torch.set_num_threads(before)


FORKED = """
import os, sys, torch
from kr_text.kernels.ngram_loops import NgramSizes, mean_bags
torch.set_num_threads(2)
args = torch.randn(40, 4), torch.arange(1, 29), torch.tensor([0, 14]), NgramSizes(30, 10, 2, 0)
expected, _ = mean_bags(*args)
if os.fork() == 0:
    os._exit(0 if torch.equal(mean_bags(*args)[0], expected) else 7)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_loops_run_in_a_forked_process() -> None:
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=False, timeout=300).returncode == 0
