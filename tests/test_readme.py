"""The README's commands and code run, and print what the README shows."""

import contextlib
import csv
import gzip
import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from kr_text.cli import main
from kr_text.experiments.grids import read_grid
from kr_text.experiments.results import read_results
from kr_text.experiments.verdicts import spread
from kr_text.models import FastTextConfig, FastTextForSequenceClassification
from kr_text.training.arguments import parse_training

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_block(word: str) -> str:
    """The only Python block of the README that contains `word`."""
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in block]
    return str(block)


def test_loss_in_a_plain_loop_prints_what_the_readme_says() -> None:
    shown = re.search(r"```\n(tensor.*?)```", README, re.DOTALL)
    assert shown is not None
    command = [sys.executable, "-c", python_block("import KRLoss")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
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
        exec(python_block("import KRTrainer"), names)
    assert "tensor([[0.0000" in printed.getvalue()


def test_train_commands_are_parsed_as_they_stand() -> None:
    commands = re.findall(r"^kr-text train (.*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        run, args = parse_training([*shlex.split(command), "--recipe", "benchmarks"], "kr-text train")
        assert run.dataset == "my_news"
        assert args.output_dir in ("runs/news", "runs/rnn", "runs/fasttext-my_news-kr-ls")


def test_every_command_is_one_of_kr_text() -> None:
    blocks = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    commands = set(re.findall(r"(?:^|\| )kr-text (\w+) ", blocks, re.MULTILINE))
    assert commands == {"train", "predict", "evaluate", "tune", "compare", "run", "report"}
    for command in commands:
        assert main([command, "--help"]) == 0


def test_every_file_and_folder_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README) + re.findall(r"(?:scripts|results|docs)/[\w./]+\w", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


if "KR_TEXT_DATA" in os.environ:

    def test_the_csv_example_trains_and_predicts_what_the_readme_shows(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """AG News in the form of the README's `my_news`, and the README's commands and Python on it."""
        source = Path(os.environ["KR_TEXT_DATA"]) / "ag_news"
        names = (source / "classes.txt").read_text(encoding="utf-8").split("\n")
        (tmp_path / "my_news").mkdir()
        for split in ("train", "test"):
            with (
                gzip.open(source / f"{split}.csv.gz", "rt", newline="", encoding="utf-8") as given,
                (tmp_path / "my_news" / f"{split}.csv").open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.writer(file)
                writer.writerow(["text", "label"])
                for number, *fields in csv.reader(given):
                    text = " ".join(filter(None, fields)).replace("\\n", " ")
                    writer.writerow([text, names[int(number) - 1].strip()])
        monkeypatch.chdir(tmp_path)
        (block,) = [block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "predict" in block]
        command = f"{shlex.quote(sys.executable)} -m kr_text"
        block = re.sub(r"(^|\| )kr-text", rf"\1{command}", block, flags=re.MULTILINE)
        result = subprocess.run(["sh", "-ec", block], capture_output=True, text=True, check=True)
        printed = json.loads(result.stdout.splitlines()[-1])
        shown = re.search(r"```json\n(.*?)\n```", README, re.DOTALL)
        assert shown is not None
        expected = json.loads(shown[1])
        assert printed["label"] == expected["label"]
        assert printed["probabilities"] == pytest.approx(expected["probabilities"], abs=0.02)
        error = re.search(r"a test\s+error of ([\d.]+)%", README)
        assert error is not None
        report = json.loads(Path("runs/news/report.json").read_text(encoding="utf-8"))
        assert report["test_metrics"]["error_rate"] == pytest.approx(float(error[1]), abs=0.15)
        exec(python_block("import Classifier"))


def test_the_table_has_the_numbers_of_the_results() -> None:
    """If this fails, run scripts/readme_table.py, which rewrites the table."""
    row = r"^\| (\w+) \| (\w+) \| ([\d,]+) \| (\d+) \| ([\d.]+) \| \**([\d.]+)\** \|"
    lines = re.findall(row, README, re.MULTILINE)
    assert len(lines) >= 6
    runs = read_grid(ROOT / "scripts" / "grids" / "table3.yaml").runs
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
