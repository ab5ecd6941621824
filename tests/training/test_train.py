import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
    TrainingArguments,
)

import kr_text.training.batches_trainer
import kr_text.training.train
from kr_text.classifier import Classifier, evaluate
from kr_text.data.sources import load
from kr_text.data.synthetic_news import synthetic_news
from kr_text.evaluation.calibration import at_temperature, fit_temperature
from kr_text.evaluation.metrics import classification_metrics, confusion_matrix
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.losses.kr_variants import KR_VARIANTS
from kr_text.losses.label_softening import SOFTENING_LOSSES
from kr_text.models import FastTextForSequenceClassification
from kr_text.text.batches import ShuffledRows, batches_for, whole_batch
from kr_text.text.encoding import encode
from kr_text.trainer.residual_checkpoint import RESIDUAL_FILE
from kr_text.training.arguments import parse_training
from kr_text.training.batches_trainer import ClassifierTrainer
from kr_text.training.recipes import has_bf16
from kr_text.training.report import Report, report_markdown
from kr_text.training.train import PREDICTIONS_FILE, train
from training_cases import OVERRIDES, Train, build_from, predictions

NO_GROUPS = (
    ("--train_sampling_strategy", "random")
    if hasattr(TrainingArguments, "train_sampling_strategy")
    else ("--group_by_length", "no")
)


def report_of(folder: Path) -> Report:
    return cast(Report, json.loads((folder / "report.json").read_text()))


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit, but for time, memory and the command."""
    for name in ("model.safetensors", RESIDUAL_FILE, PREDICTIONS_FILE):
        tensors, others = load_file(one / name), load_file(other / name)
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[key], others[key]) for key in tensors), name
    reports = [cast(dict[str, Any], report_of(folder)) for folder in (one, other)]
    differ = {"command", "wall_time_seconds", "peak_memory_mb"}
    assert reports[0].keys() == reports[1].keys()
    for key in reports[0].keys() - differ:
        assert reports[0][key] == reports[1][key], key


# What a run leaves behind


def test_a_run_leaves_the_model_the_tokenizer_the_residual_matrix_and_the_report(run_folder: Path) -> None:
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


def test_the_saved_model_knows_its_classes_and_nothing_of_the_loss(run_folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(run_folder)
    assert isinstance(model, FastTextForSequenceClassification)
    assert model.config.id2label == dict(enumerate(report_of(run_folder)["dataset"]["class_names"]))
    assert model.config.label2id == {name: index for index, name in model.config.id2label.items()}
    assert "residual" not in (run_folder / "config.json").read_text()
    assert set(load_file(run_folder / "model.safetensors")) == set(model.state_dict())


# Least validation error after epoch 4, least validation loss after epoch 6.
UNEVEN = ["--num_train_epochs", "6", "--lr_scheduler_type", "constant", "--seed", "1"]


@pytest.fixture(scope="module")
def uneven_run(tmp_path_factory: pytest.TempPathFactory, train_small: Train) -> Path:
    folder = tmp_path_factory.mktemp("uneven")
    train_small(folder, *UNEVEN)
    return folder


def best_epochs(report: Report, name: Literal["validation_error_rate", "validation_loss"]) -> list[float]:
    values = {epoch["epoch"]: cast(float, epoch[name]) for epoch in report["epochs"]}
    assert list(values) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    return [epoch for epoch, value in values.items() if value == min(values.values())]


def test_the_kept_model_is_that_of_the_epoch_with_the_least_validation_error(uneven_run: Path, news: Path) -> None:
    report = report_of(uneven_run)
    assert best_epochs(report, "validation_error_rate")[0] == report["best_epoch"]
    assert report["best_epoch"] < 6  # else a run that keeps its last epoch would pass
    best = report["epochs"][int(report["best_epoch"]) - 1]
    rows = load(news)["validation"]
    probabilities = Classifier(str(uneven_run)).probabilities(list(rows["text"]))
    metrics = classification_metrics(probabilities, np.asarray(rows["label"]))
    assert metrics["error_rate"] == best["validation_error_rate"]
    assert metrics["nll"] == pytest.approx(best["validation_loss"], rel=1e-5)


def test_the_kept_residual_matrix_is_that_of_the_same_epoch(uneven_run: Path) -> None:
    report = report_of(uneven_run)
    saved = load_file(uneven_run / RESIDUAL_FILE)["residual_matrix"]
    checkpoint = uneven_run / f"checkpoint-{14 * int(report['best_epoch'])}"  # 216 rows, 16 a batch
    assert torch.equal(saved, load_file(checkpoint / RESIDUAL_FILE)["residual_matrix"])
    assert saved.abs().max() > 0.1
    criterion = KRLoss(6)
    with torch.no_grad():
        criterion.residual_matrix.copy_(saved)
    assert report["residual_labels"] == criterion.residual_labels().tolist()


def test_another_metric_can_choose_the_epoch(tmp_path: Path, train_small: Train) -> None:
    report = train_small(tmp_path, *UNEVEN, "--metric_for_best_model", "loss")
    assert best_epochs(report, "validation_loss") == [report["best_epoch"]]
    assert best_epochs(report, "validation_error_rate") != [report["best_epoch"]]


@pytest.mark.parametrize("evaluation", ["epoch", "no"])
def test_without_a_best_model_the_last_one_is_kept(tmp_path: Path, train_small: Train, evaluation: str) -> None:
    flags = ["--load_best_model_at_end", "false", "--eval_strategy", evaluation, "--save_total_limit", "3"]
    report = train_small(tmp_path, *flags)
    assert report["best_epoch"] == 3.0
    assert len(report["epochs"]) == (3 if evaluation == "epoch" else 0)
    last = load_file(tmp_path / "checkpoint-42" / "model.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(saved[name], last[name]) for name in saved)


def test_the_residual_labels_find_how_the_classes_of_the_corpus_relate(tmp_path: Path) -> None:
    run, args = parse_training(["--output_dir", str(tmp_path), "--disable_tqdm", "true"], "kr-text train")
    learned = np.array(train(run, args, command="", started=0.0)["residual_labels"])
    relations = synthetic_news().class_relations  # known: every class has two neighbours, in a ring
    assert (np.sort(relations)[:, -2] > 5 * np.sort(relations)[:, -3]).all()
    nearest = [np.sort(rows.argsort(axis=1)[:, -2:]).tolist() for rows in (learned, relations)]
    assert nearest[0] == nearest[1]


def test_the_report_agrees_with_the_saved_predictions(run_folder: Path, news: Path) -> None:
    report = report_of(run_folder)
    probabilities, labels = predictions(run_folder)
    assert report["test_metrics"] == classification_metrics(probabilities, labels)
    assert report["confusion_matrix"] == confusion_matrix(probabilities, labels, 6).tolist()
    assert report["dataset"] == {
        "name": "tiny_news",
        "class_names": load(news)["test"].features["label"].names,
        "num_train_rows": 216,
        "num_validation_rows": 24,
        "num_test_rows": 60,
    }
    model = FastTextForSequenceClassification.from_pretrained(run_folder)
    assert report["model"] == {"name": "fasttext", "num_parameters": sum(p.numel() for p in model.parameters())}
    assert report["loss"]["name"] == "kr-ls"
    assert report["loss"]["settings"]["label_smoothing"] == 0.1
    assert report["loss"]["settings"]["residual_learning_rate"] == 0.01
    assert report["hyper_parameters"]["learning_rate"] == 0.05
    assert "output_dir" not in report["hyper_parameters"]
    assert 0 < report["wall_time_seconds"]["training"] < report["wall_time_seconds"]["total"]
    assert (run_folder / "report.md").read_text() == report_markdown(report)


def test_the_validation_metrics_are_those_of_the_kept_epoch(uneven_run: Path) -> None:
    report = report_of(uneven_run)
    kept = report["epochs"][int(report["best_epoch"]) - 1]
    metrics = report["validation_metrics"]
    assert metrics.keys() == report["test_metrics"].keys()
    assert metrics["error_rate"] == kept["validation_error_rate"] != report["test_metrics"]["error_rate"]
    assert metrics["nll"] == pytest.approx(kept["validation_loss"], rel=1e-5)


def test_the_temperature_is_fitted_on_validation_rows_and_scales_the_test_rows(run_folder: Path, news: Path) -> None:
    report, rows = report_of(run_folder), load(news)["validation"]
    scaling = report["temperature_scaling"]
    log_p = np.log(Classifier(str(run_folder)).probabilities(list(rows["text"])))
    assert scaling["temperature"] == pytest.approx(fit_temperature(log_p, rows["label"]), rel=1e-3)
    assert scaling["temperature"] is not None
    probabilities, labels = predictions(run_folder)
    expected = classification_metrics(at_temperature(np.log(probabilities), scaling["temperature"]), labels)
    assert scaling["test_metrics"] == pytest.approx(expected, rel=1e-6)
    assert scaling["test_metrics"]["error_rate"] == report["test_metrics"]["error_rate"]
    assert scaling["test_metrics"]["nll"] != pytest.approx(report["test_metrics"]["nll"], rel=1e-3)


def test_the_terms_of_the_loss_are_reported_by_epoch_and_add_up(run_folder: Path) -> None:
    epochs = report_of(run_folder)["epochs"]
    for number, epoch in enumerate(epochs):
        terms = {name: cast(float, value) for name, value in epoch["loss_terms"].items()}
        assert terms.keys() == {"loss_hard", "loss_residual", "loss_update", "js_divergence", "alpha"}
        assert terms["alpha"] == pytest.approx(0.99**number)
        total = terms["loss_hard"] + terms["alpha"] * (terms["loss_residual"] + terms["loss_update"])
        assert epoch["training_loss"] == pytest.approx(total, abs=1e-3)
    assert len(epochs) == 3


def test_settings_of_the_loss_are_those_of_the_flag(tmp_path: Path, train_small: Train) -> None:
    report = train_small(tmp_path, "--loss", "kr", "--loss_overrides", "alpha=0.5,until=1", "--num_train_epochs", "2")
    assert [epoch["loss_terms"]["alpha"] for epoch in report["epochs"]] == [0.5, 0.0]
    assert report["loss"]["name"] == "kr"


def test_cross_entropy_has_no_terms_and_no_settings(tmp_path: Path, train_small: Train) -> None:
    assert [epoch["loss_terms"] for epoch in train_small(tmp_path, "--loss", "ce")["epochs"]] == [{}] * 3
    with pytest.raises(ValueError, match="loss 'ce' has no settings, got alpha"):
        train_small(tmp_path / "other", "--loss", "ce", "--loss_overrides", "alpha=1")


def test_the_saved_predictions_are_in_the_order_of_the_test_rows(run_folder: Path, news: Path) -> None:
    rows = load(news)["test"]
    probabilities, labels = predictions(run_folder)
    assert labels.tolist() == list(rows["label"])
    again = Classifier(str(run_folder)).probabilities(list(rows["text"]))
    np.testing.assert_allclose(probabilities, again, atol=1e-6)


# Seeds, and going on


@pytest.fixture(scope="module")
def transformer_flags() -> list[str]:
    """Dropout, shuffled rows, a schedule, the residual matrix, label matrices: all that a resumed run must restore."""
    overrides = OVERRIDES["transformer"]
    return ["--model", "transformer", "--config_overrides", overrides, "--learning_rate", "0.01", "--label_matrices"]


@pytest.fixture(scope="module")
def transformer_run(tmp_path_factory: pytest.TempPathFactory, train_small: Train, transformer_flags: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    train_small(folder, *transformer_flags)
    return folder


def test_the_same_seed_gives_the_same_run(
    tmp_path: Path, train_small: Train, transformer_flags: list[str], transformer_run: Path
) -> None:
    train_small(tmp_path, *transformer_flags)
    assert_same_run(tmp_path, transformer_run)


def test_another_seed_gives_another_run_on_the_same_rows(
    tmp_path: Path, train_small: Train, transformer_flags: list[str], transformer_run: Path
) -> None:
    assert train_small(tmp_path, *transformer_flags, "--seed", "1")["seed"] == 1
    probabilities, labels = predictions(tmp_path)
    of_other_seed, same_labels = predictions(transformer_run)
    assert np.abs(probabilities - of_other_seed).max() > 1e-3
    assert labels.tolist() == same_labels.tolist()


class StopAfterSaving(TrainerCallback):
    def on_save(self, args: TrainingArguments, *_: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Runs a training that dies just after its first checkpoint."""

    class StoppedTrainer(ClassifierTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(StopAfterSaving())

    def stop(training: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(kr_text.training.batches_trainer, "ClassifierTrainer", StoppedTrainer)
            with pytest.raises(KeyboardInterrupt):
                training()

    return stop


def test_a_resumed_run_equals_one_that_was_not_interrupted(
    tmp_path: Path,
    train_small: Train,
    transformer_flags: list[str],
    transformer_run: Path,
    stop: Callable[[Callable[[], object]], None],
) -> None:
    stop(lambda: train_small(tmp_path, *transformer_flags))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-14", "settings.json"}
    (tmp_path / "checkpoint-28").mkdir()  # cut off while it was written: it has no state yet
    record_more_time(tmp_path / "checkpoint-14")
    resumed = train_small(tmp_path, *transformer_flags, "--resume")
    assert_same_run(tmp_path, transformer_run)
    assert [matrices["epoch"] for matrices in resumed["label_matrices"] or []] == [1, 2, 3]
    seconds = resumed["wall_time_seconds"]
    assert 1000 < seconds["training"] < seconds["total"] < 1600


def record_more_time(checkpoint: Path) -> None:
    """Has the clock of a checkpoint record 1,000 seconds more."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text())
    clock = state["stateful_callbacks"]["TrainingClock"]["attributes"]
    assert 0 < clock["record"] < 600
    clock["record"] += 1000
    path.write_text(json.dumps(state))


def test_a_folder_with_a_run_is_refused(tmp_path: Path, train_small: Train) -> None:
    for left in ("report.json", "checkpoint-14"):
        folder = tmp_path / left
        (folder / left).mkdir(parents=True)
        with pytest.raises(FileExistsError, match=r"holds a run already; give --resume to go on, --overwrite"):
            train_small(folder)
        assert [path.name for path in folder.iterdir()] == [left]


def test_resuming_needs_a_checkpoint(tmp_path: Path, train_small: Train) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="must hold a checkpoint to resume from, and holds none"):
            train_small(folder, "--resume")


def test_overwriting_replaces_all_of_a_run(tmp_path: Path, run_folder: Path, train_small: Train) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "notes.txt").write_text("mine")
    train_small(folder, "--overwrite", "--loss", "ce", "--num_train_epochs", "1")
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "test_predictions.safetensors",
        "report.json",
        "report.md",
        "settings.json",
        "checkpoint-14",
        "notes.txt",
    }  # and no residual matrix: cross-entropy learns none
    report = report_of(folder)
    assert report["loss"] == {"name": "ce", "settings": {}}
    assert report["residual_labels"] is None
    assert len(report["epochs"]) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--loss_overrides", "alfa=1"], "unexpected keyword argument 'alfa'"),
        (["--dataset", "./nowhere"], "must be a file or a folder that exists"),
        (["--loss", "cp", "--loss_overrides", "until=2"], "of loss 'cp' .* unexpected keyword argument 'until'"),
        (["--weight_decay", "0.1"], r"weight_decay must be 0 .* with FastText's adagrad, got 0\.1"),
    ],
)
def test_a_run_stays_where_the_one_that_is_to_replace_it_cannot_start(
    tmp_path: Path, run_folder: Path, train_small: Train, flags: list[str], message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    with pytest.raises((ValueError, OSError), match=message):
        train_small(folder, "--overwrite", *flags)
    assert_same_run(folder, run_folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in run_folder.iterdir()}


def test_another_run_is_not_gone_on_with(tmp_path: Path, run_folder: Path, train_small: Train) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    with pytest.raises(ValueError, match="must hold the same run to go on, got loss=ce where it has loss=kr-ls"):
        train_small(folder, "--resume", "--loss", "ce")
    longer = train_small(folder, "--resume", "--num_train_epochs", "4")
    assert [epoch["epoch"] for epoch in longer["epochs"]] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "flags", [["--dataloader_drop_last", "true", "--per_device_eval_batch_size", "7"], ["--max_grad_norm", "1"]]
)
def test_flags_of_the_trainer_that_touch_our_own_ways(tmp_path: Path, train_small: Train, flags: list[str]) -> None:
    report = train_small(tmp_path, *flags)
    assert len(predictions(tmp_path)[1]) == report["dataset"]["num_test_rows"] == 60
    kept = report["epochs"][int(report["best_epoch"]) - 1]
    assert kept["validation_loss"] == pytest.approx(report["validation_metrics"]["nll"], abs=1e-5)


def test_callbacks_keep_their_records_where_the_trainer_would_restore_them(
    tmp_path: Path, run_folder: Path, train_small: Train
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    flags = ["--resume", "--restore_callback_states_from_checkpoint", "true", "--num_train_epochs", "4"]
    for checkpoint in folder.glob("checkpoint-*"):
        record_more_time(checkpoint)
    assert train_small(folder, *flags)["wall_time_seconds"]["training"] > 1000


def test_arguments_may_be_made_in_python(tmp_path: Path, small_flags: list[str]) -> None:
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


# The models


@pytest.mark.parametrize("model", ["textrnn", "charcnn"])
def test_each_model_trains_with_its_recipe(tmp_path: Path, train_small: Train, model: str) -> None:
    report = train_small(tmp_path, "--model", model, "--config_overrides", OVERRIDES[model], "--num_train_epochs", "1")
    assert report["model"]["name"] == model
    assert report["hyper_parameters"].get("bf16", False) == has_bf16()
    texts = ["the bank raised its rates", ""]
    assert [len(prediction.probabilities) for prediction in Classifier(str(tmp_path))(texts)] == [6, 6]


def test_max_train_rows_and_validation_size_are_those_of_the_report(tmp_path: Path, train_small: Train) -> None:
    flags = ["--max_train_rows", "50", "--validation_size", "30", "--num_train_epochs", "1"]
    data = train_small(tmp_path, *flags)["dataset"]
    assert (data["num_train_rows"], data["num_validation_rows"], data["num_test_rows"]) == (50, 30, 60)


def test_the_tokenizer_sees_the_training_rows_alone(news: Path, run_folder: Path) -> None:
    data = load(news)
    seen = {word for text in data["train"]["text"] for word in text.split()}
    vocab = set(AutoTokenizer.from_pretrained(run_folder).get_vocab()) - {"[PAD]", "[UNK]"}
    assert vocab == seen
    assert isinstance(data, DatasetDict)


def test_rows_are_shuffled_in_groups_unless_told_otherwise(news: Path, tmp_path: Path) -> None:
    for strategy, sampler in (((), ShuffledRows), (NO_GROUPS, torch.utils.data.RandomSampler)):
        flags = ["--dataset", str(news), "--model", "textrnn", "--output_dir", str(tmp_path), "--eval_strategy", "no"]
        tokenizer, model = build_from(news, "--model", "textrnn")
        flags += ["--load_best_model_at_end", "no", *strategy]
        _, args = parse_training(flags, "kr-text train")
        rows = batches_for(model, tokenizer, encode(load(news), tokenizer)["train"].with_format("arrow")[:])
        trainer = ClassifierTrainer(model=model, args=args, train_dataset=cast(Any, rows), data_collator=whole_batch)
        assert isinstance(trainer._get_train_sampler(), sampler)


@pytest.mark.parametrize("loss", [*SOFTENING_LOSSES, *KR_VARIANTS])
def test_every_softening_loss_can_be_named(train_small: Train, tmp_path: Path, loss: str) -> None:
    report = train_small(tmp_path, "--loss", loss, "--num_train_epochs", "1")
    assert report["loss"]["name"] == loss
    assert report["loss"]["settings"].items() >= {"num_labels": 6, "residual_learning_rate": 0.01}.items()
    assert report["residual_labels"] is None
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("flags", [["--loss", "ls"], ["--loss", "kr", "--residual_learning_rate", "0"]])
def test_a_residual_matrix_that_never_moved_is_not_reported_as_learned(
    train_small: Train, tmp_path: Path, flags: list[str]
) -> None:
    report = train_small(tmp_path, *flags, "--num_train_epochs", "1")
    assert report["residual_labels"] is None
    assert "No residual labels." in (tmp_path / "report.md").read_text()


def test_a_pair_leaves_its_first_model(train_small: Train, tmp_path: Path, news: Path) -> None:
    alone = train_small(tmp_path / "ce", "--loss", "ce", "--num_train_epochs", "1")
    report = train_small(tmp_path / "dml", "--loss", "dml")
    assert report["model"] == alone["model"]
    metrics = evaluate(Classifier(str(tmp_path / "dml")), load(str(news))["test"])
    assert metrics["nll"] == pytest.approx(report["test_metrics"]["nll"], rel=1e-4)


def test_a_student_learns_from_its_teacher_alone(train_small: Train, tmp_path: Path, run_folder: Path) -> None:
    flags = ["--loss", "kd", "--teacher", str(run_folder), "--loss_overrides", "weight=1,temperature=1"]
    train_small(tmp_path, *flags, "--num_train_epochs", "30", "--learning_rate", "0.3")
    student, teacher = (load_numpy(folder / PREDICTIONS_FILE)["probabilities"] for folder in (tmp_path, run_folder))
    assert (student.argmax(axis=1) == teacher.argmax(axis=1)).mean() > 0.8


@pytest.mark.parametrize("flags", [["--loss", "kd"], ["--loss", "kr", "--teacher", "somewhere"]])
def test_a_teacher_belongs_to_kd(train_small: Train, tmp_path: Path, flags: list[str]) -> None:
    with pytest.raises(ValueError, match="teacher must be given for loss kd, and for no other"):
        train_small(tmp_path, *flags)


def test_a_run_that_is_replaced_leaves_no_model_behind(
    tmp_path: Path, run_folder: Path, train_small: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClassifierTrainer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_small(folder, "--overwrite", "--loss", "ce")
    with pytest.raises(ValueError, match="model must be a saved classifier's folder"):
        Classifier(str(folder))


def test_a_checkpoint_of_another_folder_replaces_no_run(tmp_path: Path, run_folder: Path, train_small: Train) -> None:
    train_small(tmp_path / "run", "--loss", "ce", "--num_train_epochs", "1")
    checkpoint = str(max(run_folder.glob("checkpoint-*")))
    flags = ["--resume_from_checkpoint", checkpoint, "--num_train_epochs", "4"]
    with pytest.raises(FileExistsError, match="holds a run already"):
        train_small(tmp_path / "run", *flags)
    with pytest.raises(ValueError, match="must hold the same run to go on"):
        train_small(run_folder, *flags, "--loss", "ce")
    report = train_small(tmp_path / "new", *flags)
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2, 3, 4]


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, news: Path, train_small: Train) -> None:
    data = tmp_path / "data"
    shutil.copytree(news, data)
    flags = ["--dataset", str(data)]
    train_small(tmp_path / "run", *flags, "--num_train_epochs", "1")
    (data / "test.csv").write_text((news / "test.csv").read_text())  # the same, at another time
    train_small(tmp_path / "run", *flags, "--num_train_epochs", "2", "--resume")
    (data / "train.csv").write_text((news / "train.csv").read_text().replace(" the ", " teh "))
    with pytest.raises(ValueError, match="run must hold a run on the same data to go on, and its texts or labels were"):
        train_small(tmp_path / "run", *flags, "--num_train_epochs", "3", "--resume")
