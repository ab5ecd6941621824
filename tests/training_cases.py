"""Helpers for the tests of building and training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from kr_text.data.sources import load
from kr_text.trainer.residual_checkpoint import RESIDUAL_FILE
from kr_text.training.arguments import parse_training
from kr_text.training.build import build
from kr_text.training.report import PREDICTIONS_FILE, Report

Train = Callable[..., Report]

OVERRIDES = {
    "fasttext": "embedding_dim=4,num_buckets=50",
    "textrnn": "embedding_dim=8,context_size=8,hidden_size=8",
    "charcnn": "num_filters=8,dense_size=8,num_frames=150",
    "transformer": "hidden_size=16,num_hidden_layers=1,intermediate_size=16",
}


def predictions(folder: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    saved: dict[str, npt.NDArray[Any]] = load_numpy(folder / PREDICTIONS_FILE)
    return saved["probabilities"], saved["labels"]


def build_from(news: Path, *flags: str) -> tuple[PreTrainedTokenizerFast, Any]:
    run, _ = parse_training(["--dataset", str(news), *flags], "kr-text train")
    return build(run, load(news))


def report_of(folder: Path) -> Report:
    return cast(Report, json.loads((folder / "report.json").read_text()))


def assert_same_run(one: Path, other: Path) -> None:
    """Checks that two runs are equal bit for bit, except for time, memory and the command."""
    for name in ("model.safetensors", RESIDUAL_FILE, PREDICTIONS_FILE):
        tensors, others = load_file(one / name), load_file(other / name)
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[key], others[key]) for key in tensors), name
    reports = [cast(dict[str, Any], report_of(folder)) for folder in (one, other)]
    differ = {"command", "wall_time_seconds", "peak_memory_mb"}
    assert reports[0].keys() == reports[1].keys()
    for key in reports[0].keys() - differ:
        assert reports[0][key] == reports[1][key], key
