from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file

from kr_text.classifier import Classifier, evaluate
from kr_text.data.sources import load
from kr_text.losses.by_name import NAMES
from kr_text.trainer.residual_checkpoint import RESIDUAL_FILE, SOFTENING_FILE
from kr_text.training.report import PREDICTIONS_FILE
from training_cases import Train, report_of


def test_the_loss_terms_are_reported_by_epoch_and_sum_to_the_loss(run_folder: Path) -> None:
    epochs = report_of(run_folder)["epochs"]
    for number, epoch in enumerate(epochs):
        terms = {name: cast(float, value) for name, value in epoch["loss_terms"].items()}
        assert terms.keys() == {"loss_hard", "loss_residual", "loss_update", "js_divergence", "alpha"}
        assert terms["alpha"] == pytest.approx(0.99**number)
        total = terms["loss_hard"] + terms["alpha"] * (terms["loss_residual"] + terms["loss_update"])
        assert epoch["training_loss"] == pytest.approx(total, abs=1e-3)
    assert len(epochs) == 3


def test_loss_overrides_reach_the_loss(tmp_path: Path, train_small: Train) -> None:
    report = train_small(tmp_path, "--loss", "kr", "--loss_overrides", "alpha=0.5,until=1", "--num_train_epochs", "2")
    assert [epoch["loss_terms"]["alpha"] for epoch in report["epochs"]] == [0.5, 0.0]
    assert report["loss"]["name"] == "kr"


def test_cross_entropy_has_no_terms_and_no_settings(tmp_path: Path, train_small: Train) -> None:
    assert [epoch["loss_terms"] for epoch in train_small(tmp_path, "--loss", "ce")["epochs"]] == [{}] * 3
    with pytest.raises(ValueError, match="loss 'ce' has no settings except class_weights, got alpha"):
        train_small(tmp_path / "other", "--loss", "ce", "--loss_overrides", "alpha=1")


WITH_MATRIX = {"ls", "kr", "kr-ls", "ls++", "kr-weighted"}
WITH_RESIDUAL_LABELS = {"kr", "kr-ls", "ls++", "kr-weighted", "kr-mean"}


@pytest.mark.parametrize("loss", NAMES)
def test_what_a_loss_learned_is_in_the_folder_the_checkpoint_and_the_report(
    train_small: Train, tmp_path: Path, run_folder: Path, loss: str
) -> None:
    teacher = ["--teacher", str(run_folder)] if loss == "kd" else []
    report = train_small(tmp_path, "--loss", loss, "--num_train_epochs", "1", "--label_matrices", *teacher)
    assert report["loss"]["name"] == loss
    settings = {} if loss == "ce" else {"num_labels": 6, "residual_learning_rate": 0.01}
    assert report["loss"]["settings"].items() >= settings.items()
    matrix, in_checkpoint = matrix_in(tmp_path), matrices_in_checkpoint(tmp_path)
    assert (matrix is not None) == (loss in WITH_MATRIX)
    assert matrix is None or any(torch.equal(matrix, other) for other in in_checkpoint)
    labels = report["residual_labels"]
    assert (labels is not None) == (loss in WITH_RESIDUAL_LABELS)
    assert ("No residual labels." in (tmp_path / "report.md").read_text()) == (labels is None)
    assert report["label_matrices"] is not None
    recorded = report["label_matrices"][-1]["learned"]
    if labels is None:
        assert recorded is None
        return
    np.testing.assert_allclose(np.array(recorded), np.array(labels), atol=1e-5)
    np.testing.assert_allclose(np.sum(labels, axis=1), np.ones(6), rtol=1e-6)
    assert np.diag(labels).tolist() == [0.0] * 6
    if matrix is not None:
        own_class = torch.eye(6, dtype=torch.bool)
        expected = matrix.masked_fill(own_class, -torch.inf).softmax(dim=1)
        np.testing.assert_allclose(labels, expected.numpy(), atol=1e-6)


def matrix_in(folder: Path) -> torch.Tensor | None:
    """The residual matrix in the final folder of a run."""
    path = folder / RESIDUAL_FILE
    return load_file(path)["residual_matrix"] if path.exists() else None


def matrices_in_checkpoint(folder: Path) -> list[torch.Tensor]:
    """All tensors of the loss in the one checkpoint of a run."""
    (checkpoint,) = folder.glob("checkpoint-*")
    files = [checkpoint / name for name in (RESIDUAL_FILE, SOFTENING_FILE)]
    return [tensor for path in files if path.exists() for tensor in load_file(path).values()]


@pytest.mark.parametrize("flags", [["--loss", "ls"], ["--loss", "kr", "--residual_learning_rate", "0"]])
def test_a_residual_matrix_that_never_moved_is_not_reported(
    train_small: Train, tmp_path: Path, flags: list[str]
) -> None:
    report = train_small(tmp_path, *flags, "--num_train_epochs", "1")
    assert report["residual_labels"] is None
    assert "No residual labels." in (tmp_path / "report.md").read_text()


def test_the_first_model_of_a_pair_is_kept(train_small: Train, tmp_path: Path, news: Path) -> None:
    alone = train_small(tmp_path / "ce", "--loss", "ce", "--num_train_epochs", "1")
    report = train_small(tmp_path / "dml", "--loss", "dml")
    assert report["model"] == alone["model"]
    metrics = evaluate(Classifier(str(tmp_path / "dml")), load(str(news))["test"])
    assert metrics["nll"] == pytest.approx(report["test_metrics"]["nll"], rel=1e-4)


def test_a_student_learns_from_its_teacher(train_small: Train, tmp_path: Path, run_folder: Path) -> None:
    flags = ["--loss", "kd", "--teacher", str(run_folder), "--loss_overrides", "weight=1,temperature=1"]
    train_small(tmp_path, *flags, "--num_train_epochs", "30", "--learning_rate", "0.3", "--recipe", "benchmarks")
    student, teacher = (load_numpy(folder / PREDICTIONS_FILE)["probabilities"] for folder in (tmp_path, run_folder))
    assert (student.argmax(axis=1) == teacher.argmax(axis=1)).mean() > 0.8
