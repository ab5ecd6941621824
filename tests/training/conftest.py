"""A run of the Transformer, which several test files share."""

from pathlib import Path

import pytest

from training_cases import OVERRIDES, Train


@pytest.fixture(scope="session")
def transformer_flags() -> list[str]:
    """A run with dropout, shuffled rows, a schedule, a residual matrix and label matrices: the state to restore."""
    overrides = OVERRIDES["transformer"]
    return ["--model", "transformer", "--config_overrides", overrides, "--learning_rate", "0.01", "--label_matrices"]


@pytest.fixture(scope="session")
def transformer_run(tmp_path_factory: pytest.TempPathFactory, train_small: Train, transformer_flags: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    train_small(folder, *transformer_flags)
    return folder
