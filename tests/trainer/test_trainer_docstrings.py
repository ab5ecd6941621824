"""Docstrings of the public classes: arguments with their shapes, and an example that runs."""

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import kr_text.trainer
from kr_text.losses import make_loss
from trainer_cases import NUM_LABELS, arguments, bert, rows

DOCSTRINGS = {name: inspect.getdoc(getattr(kr_text.trainer, name)) or "" for name in kr_text.trainer.__all__}


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_arguments_of_a_public_class_are_documented(name: str) -> None:
    (section,) = re.findall(r"^Args:\n(.*?)\n\n", DOCSTRINGS[name], re.DOTALL | re.MULTILINE)
    documented = re.findall(r"^ {4}(\w+): ", section, re.MULTILINE)
    assert documented == list(inspect.signature(getattr(kr_text.trainer, name)).parameters)


@pytest.mark.parametrize("name", ["KRTrainer", "SofteningTrainer"])
def test_docstring_of_a_trainer_gives_the_shape_of_the_logits(name: str) -> None:
    assert "`logits` (batch, num_labels)" in DOCSTRINGS[name]


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_example_in_the_docstring_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = textwrap.dedent(DOCSTRINGS[name].partition("Example::\n")[2])
    names: dict[str, Any] = {value: getattr(kr_text.trainer, value) for value in DOCSTRINGS}
    names |= {"make_loss": make_loss, "num_labels": NUM_LABELS, "train_dataset": rows()}
    names |= {"model": bert(), "first": bert(), "second": bert(), "args": arguments(tmp_path, max_steps=2)}
    exec(example, names)
    if name == "MutualPair":
        assert (tmp_path / "classifier" / "model.safetensors").is_file()
        return
    assert names["trainer"].state.global_step == 2
    learned = names["learned"] if name == "KRTrainer" else names["learned"]["c_matrix"]
    assert learned.shape == (NUM_LABELS, NUM_LABELS)
    assert torch.any(learned)
