"""Trains in a separate process: python trainer_worker.py FOLDER SETTINGS, with the settings as JSON.

Each rank writes the residual matrices of all steps to FOLDER/rank{N}.safetensors. Rank 0 also writes the weights.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from kr_text import KRLoss, KRTrainer
from trainer_cases import NUM_LABELS, bert, make_trainer, matrix, rows, token_bert, token_rows


class Record(TrainerCallback):
    """Records the residual matrix after every step, and kills the process at `kill_at_step`."""

    def __init__(self, kill_at_step: int | None) -> None:
        self.kill_at_step = kill_at_step
        self.matrices: list[Tensor] = []
        self.trainer: KRTrainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.matrices.append(matrix(self.trainer).clone())
        if state.global_step == self.kill_at_step:
            os.kill(os.getpid(), signal.SIGKILL)


class Sharding(KRTrainer):
    """A KRTrainer with FSDP on CPUs. accelerate enables FSDP on accelerators only."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**cast(dict[str, Any], self.args.fsdp_plugin_args))
        self.is_fsdp_enabled = True


def start_deepspeed() -> dict[str, Any]:
    """Sets up the processes of DeepSpeed on CPUs, which accelerate does on accelerators only.

    Returns:
        Value for `TrainingArguments.accelerator_config`.
    """
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    state = PartialState()
    state.backend = "gloo"
    state.num_processes = torch.distributed.get_world_size()
    state.process_index = state.local_process_index = torch.distributed.get_rank()
    return {"use_configured_state": True}


def run(folder: Path, settings: dict[str, Any]) -> KRTrainer:
    """Trains BERT on texts, or if `settings` has `tokens`, on tokens with unevenly ignored labels."""
    tokens, dropout = settings.pop("tokens", False), settings.pop("dropout", 0.1)
    if "deepspeed" in settings:
        settings |= {"use_cpu": False, "accelerator_config": start_deepspeed()}
    record = Record(settings.pop("kill_at_step", None))
    trainer = make_trainer(
        folder,
        token_bert() if tokens else bert(dropout),
        token_rows() if tokens else rows(),
        loss=KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5),
        callbacks=[record],
        trainer_class=Sharding if "fsdp" in settings else KRTrainer,
        **settings,
    )
    record.trainer = trainer
    trainer.train()
    save_file({"matrices": torch.stack(record.matrices)}, folder / f"rank{trainer.args.process_index}.safetensors")
    weights = {name: whole(weight) for name, weight in cast(nn.Module, trainer.model).state_dict().items()}
    if trainer.is_world_process_zero():
        save_file(weights, folder / "weights.safetensors")
    return trainer


def whole(weight: Tensor) -> Tensor:
    """Returns the full weight, gathered from all ranks if it is sharded."""
    return (weight.full_tensor() if isinstance(weight, DTensor) else weight).clone()


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2])).accelerator.wait_for_everyone()
    os._exit(0)  # threads of torch.distributed may crash or block a normal exit
