import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
)

import kr_text.machine.environment
from kr_text.classifier import Classifier
from kr_text.data.synthetic_news import synthetic_news
from kr_text.models import FastTextForSequenceClassification
from kr_text.training.arguments import parse_training
from kr_text.training.batches_trainer import ClassifierTrainer
from kr_text.training.recipes import has_bf16
from kr_text.training.train import train
from training_cases import OVERRIDES, Train, report_of


def test_the_folder_of_a_run_has_model_tokenizer_residual_matrix_and_report(run_folder: Path) -> None:
    assert {path.name for path in run_folder.iterdir() if path.is_file()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "residual_matrix.safetensors",
        "test_predictions.safetensors",
        "report.json",
        "report.md",
        "settings.json",
    }
    assert [path.name.partition("-")[0] for path in run_folder.iterdir() if path.is_dir()] == ["checkpoint"]


def test_the_saved_model_has_class_names_and_nothing_from_the_loss(run_folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(run_folder)
    assert isinstance(model, FastTextForSequenceClassification)
    assert model.config.id2label == dict(enumerate(report_of(run_folder)["dataset"]["class_names"]))
    assert model.config.label2id == {name: index for index, name in model.config.id2label.items()}
    assert "residual" not in (run_folder / "config.json").read_text()
    assert set(load_file(run_folder / "model.safetensors")) == set(model.state_dict())


def test_arguments_may_be_created_in_python(tmp_path: Path, small_flags: list[str]) -> None:
    """In a process of its own, where nothing has parsed flags before."""
    code = (
        "import sys, time; from transformers import TrainingArguments; "
        "from kr_text.training.arguments import RunArguments; "
        "from kr_text.training.train import train; "
        "args = TrainingArguments(sys.argv[1], max_steps=1, use_cpu=True, report_to='none', disable_tqdm=True); "
        "run = RunArguments(dataset=sys.argv[2], config_overrides='num_buckets=100'); "
        "train(run, args, command='', started=time.time())"
    )
    news = small_flags[small_flags.index("--dataset") + 1]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run"), news], check=True)
    assert report_of(tmp_path / "run")["dataset"]["num_test_rows"] == 60


@pytest.mark.parametrize("model", ["textrnn", "charcnn"])
def test_each_model_trains_with_its_recipe(tmp_path: Path, train_small: Train, model: str) -> None:
    report = train_small(tmp_path, "--model", model, "--config_overrides", OVERRIDES[model], "--num_train_epochs", "1")
    assert report["model"]["name"] == model
    assert report["hyper_parameters"].get("bf16", False) == has_bf16()
    texts = ["the bank raised its rates", ""]
    assert [len(prediction.probabilities) for prediction in Classifier(str(tmp_path))(texts)] == [6, 6]


def test_the_residual_labels_recover_the_class_relations_of_the_corpus(tmp_path: Path) -> None:
    run, args = parse_training(["--output_dir", str(tmp_path), "--disable_tqdm", "true"], "kr-text train")
    learned = np.array(train(run, args, command="", started=0.0)["residual_labels"])
    relations = synthetic_news().class_relations  # known: every class has two neighbours, in a ring
    assert (np.sort(relations)[:, -2] > 5 * np.sort(relations)[:, -3]).all()
    nearest = [np.sort(rows.argsort(axis=1)[:, -2:]).tolist() for rows in (learned, relations)]
    assert nearest[0] == nearest[1]


def test_broken_package_metadata_fails_before_the_first_step(
    tmp_path: Path, train_small: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kr_text.machine.environment, "PACKAGES", ("torch", "kr-text-not-installed"))
    steps: list[int] = []
    monkeypatch.setattr(ClassifierTrainer, "training_step", lambda *args, **kwargs: steps.append(1))
    with pytest.raises(ValueError, match="package kr-text-not-installed must be installed"):
        train_small(tmp_path / "run")
    assert steps == []
    assert not (tmp_path / "run").exists()
