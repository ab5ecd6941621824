import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

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
        "from kr_text.training.run_arguments import RunArguments; "
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
    flags = ["--model", model, "--recipe", "benchmarks", "--config_overrides", OVERRIDES[model]]
    report = train_small(tmp_path, *flags, "--num_train_epochs", "1")
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


# Training on the validation rows


@pytest.fixture(scope="module")
def final_folder(tmp_path_factory: pytest.TempPathFactory, train_small: Train) -> Path:
    """Run that trained on the validation rows, which tests only read."""
    folder = tmp_path_factory.mktemp("runs") / "final"
    train_small(folder, "--train_on_validation", "true")
    return folder


def test_a_run_on_the_validation_rows_keeps_the_last_epoch(final_folder: Path) -> None:
    report = report_of(final_folder)
    rows = [report["dataset"][name] for name in ("num_train_rows", "num_validation_rows", "num_test_rows")]
    assert rows == [240, 0, 60]
    assert (report["best_epoch"], report["epochs"]) == (3.0, [])
    assert [path.name for path in final_folder.glob("checkpoint-*")] == ["checkpoint-45"]  # 3 epochs of 240 / 16 steps


def test_a_run_on_the_validation_rows_reports_no_numbers_on_them(final_folder: Path) -> None:
    report, text = report_of(final_folder), (final_folder / "report.md").read_text()
    assert set(report["validation_metrics"].values()) == {None}
    assert report["temperature_scaling"]["temperature"] is None
    assert set(report["temperature_scaling"]["test_metrics"].values()) == {None}
    assert report["test_metrics"].keys() == report["validation_metrics"].keys()
    assert "The model was trained on the validation rows too, so no rows are left for temperature scaling." in text
    assert "No evaluations: the model is that of the last epoch, 3." in text


def test_the_words_of_the_validation_rows_are_known_to_a_run_on_them(
    tmp_path: Path, train_small: Train, news: Path
) -> None:
    data = Path(shutil.copytree(news, tmp_path / "data"))
    header, row, *_ = (news / "test.csv").read_text().splitlines()
    (data / "validation.csv").write_text("\n".join([header, "zyzzyva " + row.replace('"', "")]))
    for name in ("true", "false"):
        flags = ["--dataset", str(data), "--train_on_validation", name, "--num_train_epochs", "1"]
        train_small(tmp_path / name, *flags)
        vocabulary = PreTrainedTokenizerFast.from_pretrained(tmp_path / name).get_vocab()
        assert ("zyzzyva" in vocabulary) == (name == "true")


def test_a_run_on_the_validation_rows_resumes_to_the_same_model(
    final_folder: Path, tmp_path: Path, train_small: Train
) -> None:
    flags = ["--train_on_validation", "true"]
    train_small(tmp_path, *flags, "--max_steps", "30", "--lr_scheduler_type", "constant")
    train_small(tmp_path, *flags, "--max_steps", "45", "--lr_scheduler_type", "constant", "--resume")
    train_small(tmp_path / "whole", *flags, "--max_steps", "45", "--lr_scheduler_type", "constant")
    assert_same_weights(tmp_path, tmp_path / "whole")


def test_an_epoch_cannot_be_chosen_without_validation_rows(tmp_path: Path, train_small: Train) -> None:
    with pytest.raises(ValueError, match="eval_strategy"):
        train_small(tmp_path, "--train_on_validation", "true", "--eval_strategy", "epoch")


def assert_same_weights(one: Path, other: Path) -> None:
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert all(weights[name].equal(others[name]) for name in weights)
