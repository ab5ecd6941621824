"""What the tests of building and of training share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file as load_numpy
from transformers import PreTrainedTokenizerFast

from kr_text.data.sources import load
from kr_text.training.arguments import parse_training
from kr_text.training.build import build
from kr_text.training.report import Report
from kr_text.training.train import PREDICTIONS_FILE

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
