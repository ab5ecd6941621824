"""What the README shows is run, and what it says that it prints is compared."""

import contextlib
import io
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from kr_text.experiments.grids import read_grid
from kr_text.experiments.results import read_results
from kr_text.experiments.verdicts import spread
from kr_text.models import FastTextConfig, FastTextForSequenceClassification
from kr_text.training.arguments import parse_training

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_loss_in_a_plain_loop_prints_what_the_readme_says() -> None:
    shown = re.search(r"```\n(tensor.*?)```", README, re.DOTALL)
    assert shown is not None
    result = subprocess.run([sys.executable, "-c", PYTHON[0]], capture_output=True, text=True, check=True)
    numbers = [[float(number) for number in re.findall(r"\d\.\d+", text)] for text in (result.stdout, shown[1])]
    assert numbers[0] == pytest.approx(numbers[1], abs=2e-3)


def test_trainer_example_runs(tmp_path: Path) -> None:
    rows = [{"input_ids": torch.tensor([2, 3, 4]), "labels": torch.tensor(index % 3)} for index in range(6)]
    names: dict[str, Any] = {
        "model": FastTextForSequenceClassification(FastTextConfig(vocab_size=9, num_buckets=9, num_labels=3)),
        "args": TrainingArguments(str(tmp_path), max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True),
        "train_dataset": rows,
        "eval_dataset": rows,
    }
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(PYTHON[1], names)
    assert "tensor([[0.0000" in printed.getvalue()


def test_train_commands_are_parsed_as_they_stand() -> None:
    commands = re.findall(r"^kr-text train (.*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert commands
    for command in commands:
        run, args = parse_training(shlex.split(command), "kr-text train")
        assert run.model == "fasttext"
        assert args.output_dir == "runs/mine"


def test_every_file_in_the_tree_exists() -> None:
    tree = re.search(r"## What is where\n\n```\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    names = set(re.findall(r"[\w/]+\.(?:py|md|yaml|sh|txt)\b", tree[1])) - {"report.md"}
    assert len(names) > 20
    folders = [ROOT / name for name in ("", "kr_text", "models", "scripts", "docs")]
    assert not {name for name in names if not any((folder / name).exists() for folder in folders)}


def test_every_module_is_in_the_tree() -> None:
    for path in [*(ROOT / "kr_text").glob("*.py"), *(ROOT / "models").glob("*.py")]:
        assert path.name in README or path.name == "__init__.py"


def test_the_table_has_the_numbers_of_the_results() -> None:
    """Where it is red, scripts/readme_table.py makes it anew."""
    row = r"^\| (\w+) \| (\w+) \| ([\d,]+) \| (\d+) \| ([\d.]+) \| \**([\d.]+)\** \|"
    lines = re.findall(row, README, re.MULTILINE)
    assert len(lines) >= 6
    runs = read_grid(ROOT / "results" / "table3.yaml").runs
    results = read_results(ROOT / "results")
    finished = [results[run.key] for run in runs if run.key in results]
    for dataset, model, rows, seeds, *errors in lines:
        for loss, error in zip(("ce", "kr-ls"), errors, strict=True):
            found = [
                result.report["test_metrics"]["error_rate"] or math.nan
                for result in finished
                if (result.run.dataset, result.run.model, result.run.loss) == (dataset, model, loss)
                and result.report["dataset"]["num_train_rows"] == int(rows.replace(",", ""))
            ]
            assert (len(found), f"{spread(found).mean:.2f}") == (int(seeds), error)
