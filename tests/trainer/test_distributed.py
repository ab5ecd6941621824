"""Two processes compared with one. torchrun starts them, since `accelerate launch` needs MPI for several on CPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer_worker import run

TESTS = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


FSDP = {"transformer_layer_cls_to_wrap": ["BertLayer"]}  # otherwise the embeddings are wrapped twice
DEEPSPEED = {
    "zero_optimization": {"stage": 2},
    "zero_allow_untested_optimizer": True,  # torch's SGD
    "zero_force_ds_cpu_optimizer": False,  # not DeepSpeedCPUAdam
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
}


def launch(launcher: list[str], script: str, *arguments: str | Path, **environment: str) -> str:
    result = subprocess.run(
        [*launcher, str(TESTS / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "settings",
    [
        {"max_steps": 5},
        {"tokens": True, "max_steps": 4, "gradient_accumulation_steps": 2},
        {"max_steps": 5, "fsdp": True, "fsdp_config": FSDP},
        pytest.param(
            {"tokens": True, "max_steps": 4, "gradient_accumulation_steps": 2, "deepspeed": DEEPSPEED},
            marks=pytest.mark.deepspeed,
        ),
    ],
    ids=["texts", "tokens", "fsdp", "deepspeed"],
)
def test_two_processes_equal_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Compares runs with the same global batch size. Token rows have unevenly ignored labels and a short last batch."""
    settings = {"optim": "sgd", "dropout": 0.0, **settings}
    whole = {name: value for name, value in settings.items() if not name.startswith(("fsdp", "deepspeed"))}
    one = run(tmp_path / "one", {**whole, "per_device_train_batch_size": 4})
    launch(TORCHRUN, "trainer_worker.py", tmp_path / "two", json.dumps({**settings, "per_device_train_batch_size": 2}))
    ranks = [load_file(tmp_path / "two" / f"rank{rank}.safetensors")["matrices"] for rank in (0, 1)]
    assert torch.equal(ranks[0], ranks[1])
    expected = load_file(tmp_path / "one" / "rank0.safetensors")["matrices"]
    assert len(expected) == settings["max_steps"]
    assert expected[-1].abs().max() > 1e-3
    torch.testing.assert_close(ranks[0], expected, rtol=0, atol=1e-6)
    models = [load_file(tmp_path / name / "weights.safetensors") for name in ("two", "one")]
    torch.testing.assert_close(models[0], models[1], rtol=0, atol=1e-6)
    assert one.state.global_step == settings["max_steps"]


def test_accelerate_loop_of_two_processes_equals_one(tmp_path: Path) -> None:
    cpu = {"ACCELERATE_USE_CPU": "true"}  # otherwise Accelerator() does not wait for the other process
    launch([sys.executable], "accelerate_loop.py", tmp_path / "one", "8", **cpu)
    launch(TORCHRUN, "accelerate_loop.py", tmp_path / "two", "4", **cpu)
    one = load_file(tmp_path / "one" / "rank0.safetensors")
    ranks = [load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in (0, 1)]
    assert one["residual_matrix"].abs().max() > 1e-3
    torch.testing.assert_close(ranks[0], ranks[1], rtol=0, atol=0)
    torch.testing.assert_close(ranks[0], one, rtol=0, atol=1e-6)
