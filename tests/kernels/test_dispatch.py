import logging
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from kr_text.kernels import dispatch
from kr_text.kernels.dispatch import use_compiled_loops
from kr_text.models import FastTextConfig, FastTextForSequenceClassification, TextRNNConfig
from kr_text.models.textrnn import TextRNNForSequenceClassification

WARNING = "numba is not installed, so FastText runs more slowly on a CPU: `pip install numba`"
WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None  # import and find_spec behave as if numba were not installed
import torch
from kr_text.kernels.rowwise_adagrad import RowwiseAdagrad
from kr_text.models import FastTextConfig, FastTextForSequenceClassification
model = FastTextForSequenceClassification(FastTextConfig(vocab_size=9, num_buckets=9))
model.embedding.sparse = True
optimizer = RowwiseAdagrad(model.parameters())
before = model.embedding.weight.clone()
print("training")
for _ in range(2):
    optimizer.zero_grad()
    model(torch.tensor([[1, 2, 3], [4, 5, 0]]), labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
assert not torch.equal(model.embedding.weight, before)
"""


@pytest.fixture
def _without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not logged the warning yet."""
    monkeypatch.setattr(dispatch, "HAS_NUMBA", False)
    dispatch._warn_without_numba.cache_clear()


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [entry for entry in caplog.record_tuples if entry[0] == "kr_text"]


def fasttext() -> Any:
    return FastTextForSequenceClassification(FastTextConfig(vocab_size=9, num_buckets=9))


WORDS = torch.tensor([[1, 2, 3]])


def test_a_process_without_numba_trains_fasttext_and_prints_one_warning() -> None:
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_NUMBA]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (result.returncode, result.stdout, result.stderr) == (0, "training\n", WARNING + "\n")


@pytest.mark.usefixtures("_without_numba")
def test_the_first_run_of_fasttext_on_a_cpu_without_numba_logs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    models = fasttext(), fasttext()
    assert logged(caplog) == []
    for model in models:
        model(WORDS)
        model(WORDS)
    assert logged(caplog) == [("kr_text", logging.WARNING, WARNING)]


@pytest.mark.usefixtures("_without_numba")
def test_runs_that_numba_would_not_speed_up_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    TextRNNForSequenceClassification(TextRNNConfig(vocab_size=9))(WORDS)
    fasttext().bfloat16()(WORDS)
    fasttext().to("meta")(WORDS.to("meta"))
    assert logged(caplog) == []


def test_fasttext_logs_nothing_with_numba(caplog: pytest.LogCaptureFixture) -> None:
    dispatch._warn_without_numba.cache_clear()
    fasttext()(WORDS)
    assert logged(caplog) == []


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (torch.zeros(2, 3), True),
        (torch.zeros(2, 3, dtype=torch.float64), True),
        (torch.zeros(2, 3, dtype=torch.bfloat16), False),
        (torch.zeros(2, 3, device="meta"), False),
    ],
    ids=["float32", "float64", "bfloat16", "meta device"],
)
def test_loops_process_floats_on_a_cpu(monkeypatch: pytest.MonkeyPatch, table: Tensor, expected: bool) -> None:
    assert use_compiled_loops(table) == expected
    monkeypatch.setattr(dispatch, "HAS_NUMBA", False)
    assert not use_compiled_loops(table)
