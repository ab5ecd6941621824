"""Training with a second network: a student with a teacher's logits, and the two networks of mutual learning."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, set_seed

from kr_text.losses.distillation import DistillationLoss, MutualLoss
from kr_text.models import FastTextForSequenceClassification
from kr_text.trainer.mutual_pair import MutualPair
from kr_text.trainer.softening_trainer import SofteningTrainer
from trainer_cases import NUM_LABELS, arguments, bert, bert_config, collate, fasttext, rows, training_logs, weights


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
