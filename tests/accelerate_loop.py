"""Runs the accelerate loop of docs/trainer.md: python accelerate_loop.py FOLDER BATCH_SIZE."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from kr_text import KRLoss
from trainer_cases import NUM_LABELS, bert, collate, rows

DOCS = (Path(__file__).parent.parent / "docs" / "trainer.md").read_text(encoding="utf-8")


def run(folder: Path, batch_size: int) -> None:
    """Trains, and writes the residual matrix and the model of each process to `folder`."""
    loop = next(code for code in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "Accelerator" in code)
    model, criterion = bert(), KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5)
    groups: list[dict[str, Any]] = [{"params": model.parameters()}, {"params": criterion.parameters(), "lr": 1.0}]
    names: dict[str, Any] = {
        "model": model,
        "criterion": criterion,
        "optimizer": torch.optim.SGD(groups, lr=0.1),
        "loader": DataLoader(rows().to_list(), batch_size=batch_size, collate_fn=collate),
        "num_epochs": 2,
    }
    exec(loop, names)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {**model.state_dict(), "residual_matrix": criterion.residual_matrix.detach()}
    save_file(tensors, folder / f"rank{names['accelerator'].process_index}.safetensors")
    names["accelerator"].wait_for_everyone()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)  # threads of torch.distributed may crash or block a normal exit
