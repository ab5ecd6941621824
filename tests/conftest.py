"""Fixtures that several test files share: a small data set and a training run on it.

Fixtures import slow modules themselves, so that the tests of the losses start at once.
"""

import csv
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from kr_text.training.report import Report

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test tensors are too small for several threads
settings.register_profile("kr-text", deadline=None)  # no test depends on the speed of the machine
settings.load_profile("kr-text")

# Flags of a run of one or two seconds; a flag given again takes precedence.
SMALL = (
    "--config_overrides num_buckets=1000 --num_train_epochs 3 --per_device_train_batch_size 16 --learning_rate 0.05 "
    "--disable_tqdm true"
)


@pytest.fixture(scope="session")
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Temporary default cache of `datasets`."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        yield folder


@pytest.fixture(scope="session")
def news(tmp_path_factory: pytest.TempPathFactory, datasets_cache: Path) -> Path:
    """Folder with 240 training and 60 test rows of six classes."""
    from kr_text.data.synthetic_news import synthetic_news

    folder = tmp_path_factory.mktemp("data") / "tiny_news"
    folder.mkdir()
    for split, rows in synthetic_news(num_train=240, num_test=60).dataset.items():
        names = rows.features["label"].names
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows((text, names[label]) for text, label in zip(rows["text"], rows["label"], strict=True))
    return folder


@pytest.fixture(scope="session")
def small_flags(news: Path) -> list[str]:
    return [*SMALL.split(), "--dataset", str(news)]


@pytest.fixture(scope="session")
def train_small(small_flags: list[str]) -> Callable[..., "Report"]:
    """Function that trains like `kr-text train` on the news folder: train_small(output_dir, *flags)."""
    from kr_text.training.arguments import parse_training
    from kr_text.training.train import train

    def train_small(output_dir: Path, *flags: str) -> "Report":
        run, args = parse_training([*small_flags, "--output_dir", str(output_dir), *flags], "kr-text train")
        return train(run, args, command="kr-text train", started=time.time())

    return train_small


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, train_small: Callable[..., "Report"]) -> Path:
    """Run folder of FastText with KR-LS, which tests only read."""
    folder = tmp_path_factory.mktemp("runs") / "fasttext"
    train_small(folder)
    return folder


@pytest.fixture
def cache_dir(tmp_path: Path) -> str:
    """Temporary folder for the Arrow files of `load`."""
    return str(tmp_path / "cache")


@pytest.fixture
def zhang(tmp_path: Path) -> Path:
    """Folder in the format of Zhang et al. (2015), with 60 training and 9 test rows of three classes."""
    from data_cases import write_zhang, zhang_rows

    return write_zhang(tmp_path / "zhang", {"train": zhang_rows(60), "test": zhang_rows(9)})


@pytest.fixture(scope="session")
def shell_environment(datasets_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables of a shell with empty caches, without the Hub, and with buffered output."""
    home = str(tmp_path_factory.mktemp("home"))
    caches = {"HF_HOME": home, "HF_DATASETS_CACHE": str(datasets_cache), "HF_HUB_OFFLINE": "1"}
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | caches


@pytest.fixture(scope="session")
def shell(shell_environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in a process of its own: shell("-m", "kr_text", "train")."""

    def shell(*argv: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        settings = {"capture_output": True, "text": True, "env": shell_environment, **settings}
        return subprocess.run([sys.executable, *argv], **settings)

    return shell


@pytest.fixture
def kr_text() -> Iterator[Callable[..., int]]:
    """Runs `kr-text` in this process and returns its exit code: kr_text("train", "--model", "fasttext")."""
    from kr_text.cli import main

    loggers = [logging.getLogger(name) for name in ("kr_text", "huggingface_hub")]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    yield lambda *argv: main(argv)
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.level = handlers, level


@pytest.fixture(params=["fasttext", "textrnn", "charcnn", "transformer"])
def model_name(request: pytest.FixtureRequest) -> str:
    """Name of a classifier; a test runs for each of the four."""
    return str(request.param)


@pytest.fixture
def model(model_name: str) -> "PreTrainedModel":
    """A tiny random model of each classifier."""
    from model_cases import make_random_model

    random_model: PreTrainedModel = make_random_model(model_name)
    return random_model


@pytest.fixture
def exact_model(model: "PreTrainedModel") -> "PreTrainedModel":
    """The model in float64, where two ways to compute the same logits differ by less than 1e-10."""
    return model.double()
