"""Distillation and mutual learning: the losses by hand, and training with a teacher's logits or with a pair."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertForSequenceClassification, set_seed

from kr_text.losses.distillation import DistillationLoss, MutualLoss
from kr_text.models import FastTextForSequenceClassification
from kr_text.trainer.mutual_pair import MutualPair
from kr_text.trainer.softening_trainer import SofteningTrainer
from loss_cases import kl, softmax
from trainer_cases import NUM_LABELS, arguments, bert, bert_config, collate, fasttext, rows, training_logs, weights

STUDENT, TEACHER = [2.0, 1.0, 0.0], [0.0, 3.0, -1.0]  # logits
P1, P2 = [0.5, 0.3, 0.2], [0.2, 0.7, 0.1]  # predictions


def rows_of(*logits: list[float]) -> Tensor:
    return torch.tensor(logits, dtype=torch.float64, requires_grad=True)


def log(p: list[float]) -> list[float]:
    return [math.log(value) for value in p]


def gradient(logits: Tensor) -> list[float]:
    assert logits.grad is not None
    return [float(entry) for entry in logits.grad[0]]


def test_distillation_is_cross_entropy_plus_the_divergence_between_softened_predictions() -> None:
    student = rows_of(STUDENT, [0.0, 1.0, 5.0])
    teacher = rows_of(TEACHER, [1.0, 1.0, 2.0])
    hard = -(math.log(softmax(STUDENT)[0]) + math.log(softmax([0.0, 1.0, 5.0])[2])) / 2
    of_first = kl(softmax([0.0, 1.5, -0.5]), softmax([1.0, 0.5, 0.0]))
    of_second = kl(softmax([0.5, 0.5, 1.0]), softmax([0.0, 0.5, 2.5]))
    loss = DistillationLoss(3, temperature=2.0, weight=0.25)(student, torch.tensor([0, 2]), teacher)
    assert loss.item() == pytest.approx(0.75 * hard + 0.25 * 4 * (of_first + of_second) / 2)


def test_distillation_pulls_the_student_towards_the_teacher_which_gets_no_gradient() -> None:
    student, teacher = rows_of(STUDENT), rows_of(TEACHER)
    DistillationLoss(3)(student, torch.tensor([0]), teacher).backward()
    p, soft, aim = softmax(STUDENT), softmax([0.5, 0.25, 0.0]), softmax([0.0, 0.75, -0.25])
    expected = [0.1 * (p[k] - (k == 0)) + 0.9 * 4 * (soft[k] - aim[k]) for k in range(3)]  # T = 4, and T^2 / T
    assert gradient(student) == pytest.approx(expected)
    assert teacher.grad is None


def test_with_a_teacher_equal_to_the_student_only_cross_entropy_remains() -> None:
    student, labels = rows_of(STUDENT), torch.tensor([0])
    loss = DistillationLoss(3, weight=0.9)(student, labels, student.detach().clone())
    torch.testing.assert_close(loss, 0.1 * F.cross_entropy(student, labels))
    loss.backward()
    assert gradient(student) == pytest.approx([0.1 * (p - (k == 0)) for k, p in enumerate(softmax(STUDENT))])
    student = rows_of(STUDENT)
    DistillationLoss(3, weight=1.0)(student, labels, student.detach().clone()).backward()
    assert gradient(student) == pytest.approx([0.0, 0.0, 0.0], abs=1e-15)


def test_mutual_loss_is_the_sum_of_the_losses_of_both_networks() -> None:
    first, second = rows_of(log(P1)), rows_of(log(P2))
    loss = MutualLoss(3)(first, torch.tensor([1]), second)
    assert loss.item() == pytest.approx(-math.log(0.3) + kl(P2, P1) - math.log(0.7) + kl(P1, P2))
    loss.backward()  # (p - one-hot) + (p - the other p, detached)
    assert gradient(first) == pytest.approx([2 * a - b - (k == 1) for k, (a, b) in enumerate(zip(P1, P2, strict=True))])
    assert gradient(second) == pytest.approx(
        [2 * b - a - (k == 1) for k, (a, b) in enumerate(zip(P1, P2, strict=True))]
    )


@pytest.mark.parametrize("loss", [DistillationLoss, MutualLoss])
def test_bf16_logits_are_widened_to_float32(loss: Any) -> None:
    torch.manual_seed(0)
    first, second, labels = torch.randn(5, 3).bfloat16(), torch.randn(5, 3).bfloat16(), torch.tensor([0, 1, 2, 0, 1])
    narrow, wide = loss(3)(first, labels, second), loss(3)(first.float(), labels, second.float())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, wide, rtol=0, atol=0)


def test_settings_are_json() -> None:
    settings = DistillationLoss(3, temperature=2.0, weight=0.5).settings()
    assert json.loads(json.dumps(settings)) == {"num_labels": 3, "temperature": 2.0, "weight": 0.5}
    assert DistillationLoss(3).settings() == {"num_labels": 3, "temperature": 4.0, "weight": 0.9}
    assert MutualLoss(3).settings() == {"num_labels": 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0 and finite, got 0.0"),
        ({"temperature": float("inf")}, "temperature must be above 0 and finite, got inf"),
        ({"weight": 1.5}, r"weight must be in \[0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationLoss(3, **settings)


def make_pair(dropout: float = 0.0) -> MutualPair:
    first = bert(dropout)
    set_seed(1)
    return MutualPair(first, BertForSequenceClassification(bert_config(dropout)))


def make_trainer(folder: Path, model: Any, loss: Any, data: Any = None, **settings: Any) -> SofteningTrainer:
    return SofteningTrainer(
        model=model,
        args=arguments(folder, **settings),
        loss=loss,
        train_dataset=rows() if data is None else data,
        eval_dataset=rows(20, seed=1),
        data_collator=collate,
    )


def taught_rows() -> Any:
    logits = torch.randn(32, NUM_LABELS, generator=torch.Generator().manual_seed(0))
    return rows().add_column("teacher_logits", logits.tolist())


def test_a_student_is_trained_with_the_teacher_logits_in_its_batches(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"per_device_train_batch_size": 32, "optim": "sgd", "max_steps": 1}
    trainer = make_trainer(tmp_path, bert(), DistillationLoss(NUM_LABELS), taught_rows(), **settings)
    trainer.train()
    model, batch = bert(), collate(taught_rows().to_list())
    loss = DistillationLoss(NUM_LABELS)(model(batch["input_ids"]).logits, batch["labels"], batch["teacher_logits"])
    assert training_logs(trainer)[0]["loss"] == pytest.approx(loss.item(), abs=1e-4)
    metrics = trainer.evaluate()  # on rows without teacher logits
    with torch.no_grad():
        batch = collate(rows(20, seed=1).to_list())
        logits = trainer.model.eval()(batch["input_ids"]).logits  # type: ignore[union-attr]  # it has a model
    assert metrics["eval_loss"] == pytest.approx(F.cross_entropy(logits, batch["labels"]).item(), abs=1e-6)


def test_batches_without_teacher_logits_are_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, bert(), DistillationLoss(NUM_LABELS))
    with pytest.raises(ValueError, match="a batch must have 'teacher_logits' for this loss, got input_ids, labels"):
        trainer.train()


def test_the_predictions_of_a_pair_are_those_of_its_first_network() -> None:
    pair, batch = make_pair(), {"input_ids": collate(rows().to_list())["input_ids"]}
    training = pair.train()(**batch)
    torch.testing.assert_close(training["logits"], pair.first(**batch).logits)
    torch.testing.assert_close(training["peer_logits"], pair.second(**batch).logits)
    evaluated = pair.eval()(**batch)
    assert list(evaluated) == ["logits"]
    torch.testing.assert_close(evaluated["logits"], pair.first(**batch).logits)
    assert pair.config is pair.first.config


def test_both_networks_of_a_pair_learn(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optim": "sgd", "max_steps": 1, "max_grad_norm": 0.0}
    settings |= {"per_device_train_batch_size": 8, "lr_scheduler_type": "constant"}
    trainer = make_trainer(tmp_path, make_pair(), MutualLoss(NUM_LABELS), rows(8), **settings)
    trainer.train()
    pair, batch = make_pair(), collate(rows(8).to_list())
    z1, z2 = (model(batch["input_ids"]).logits for model in (pair.first, pair.second))
    labels, q1, q2 = batch["labels"], z1.detach().softmax(1), z2.detach().softmax(1)
    (F.cross_entropy(z1, labels) + F.cross_entropy(z1, q2)).backward()  # KL plus a constant
    (F.cross_entropy(z2, labels) + F.cross_entropy(z2, q1)).backward()
    torch.optim.SGD(pair.parameters(), lr=1e-2).step()
    start = make_pair().state_dict()
    for name, value in weights(trainer).items():
        torch.testing.assert_close(value, pair.state_dict()[name], rtol=0, atol=1e-6)
    for network in ("first", "second"):
        name = f"{network}.classifier.weight"
        assert not torch.equal(weights(trainer)[name], start[name])


def test_the_best_pair_is_loaded_from_its_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        make_pair(),
        MutualLoss(NUM_LABELS),
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,
    )
    trainer.train()
    losses = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    best = max(losses, key=lambda step: losses[step])
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    saved = load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors")
    torch.testing.assert_close(weights(trainer), saved, rtol=0, atol=0)
    other = next(step for step in losses if step != best)
    others = load_file(tmp_path / f"checkpoint-{other}" / "model.safetensors")
    assert not torch.equal(saved["second.classifier.weight"], others["second.classifier.weight"])
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[best], abs=1e-6)


def test_a_resumed_pair_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 5, "max_steps": 8}
    whole = make_trainer(tmp_path, make_pair(dropout=0.1), MutualLoss(NUM_LABELS), **settings)
    whole.train()
    resumed = make_trainer(tmp_path, make_pair(dropout=0.1), MutualLoss(NUM_LABELS), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


def test_the_first_network_of_a_pair_is_saved_as_an_ordinary_model(tmp_path: Path) -> None:
    second = FastTextForSequenceClassification(fasttext().config)
    trainer = make_trainer(tmp_path, MutualPair(fasttext(), second), MutualLoss(NUM_LABELS), num_train_epochs=1)
    trainer.train()
    pair: Any = trainer.model
    pair.first.save_pretrained(tmp_path / "saved")
    loaded = FastTextForSequenceClassification.from_pretrained(tmp_path / "saved")
    input_ids = collate(rows().to_list())["input_ids"]
    torch.testing.assert_close(loaded(input_ids).logits, pair.eval()(input_ids=input_ids)["logits"])


def test_mutual_learning_refuses_networks_that_are_not_a_pair(tmp_path: Path) -> None:
    config = bert_config()
    config.num_labels = 3
    with pytest.raises(ValueError, match="second must have the first's 4 labels, got 3"):
        MutualPair(bert(), BertForSequenceClassification(config))
    with pytest.raises(ValueError, match="model must be a MutualPair for this loss, got BertForSequenceClassification"):
        make_trainer(tmp_path, bert(), MutualLoss(NUM_LABELS))
