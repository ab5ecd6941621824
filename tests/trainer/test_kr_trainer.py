"""KRTrainer: its loss, its steps, its logs and the arguments it refuses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset, Value
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    set_seed,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text import KRLoss, KRTrainer
from kr_text.losses.by_name import LOSSES, named_loss
from kr_text.losses.schedules import Truncated
from kr_text.models import FastTextConfig, FastTextForSequenceClassification
from trainer_cases import (
    LOGGED,
    NUM_LABELS,
    SEQ_LEN,
    VOCAB_SIZE,
    Interrupt,
    arguments,
    bert,
    bert_config,
    collate,
    fasttext,
    make_trainer,
    matrix,
    numbers,
    rows,
    token_bert,
    token_rows,
    trained,
    training_logs,
    weights,
)


@pytest.mark.parametrize("make_model", [fasttext, bert])
def test_one_batch_equals_its_micro_batches(tmp_path: Path, make_model: Any) -> None:
    whole = trained(tmp_path, make_model(), max_steps=3, optim="sgd")
    parts = trained(
        tmp_path, make_model(), max_steps=3, optim="sgd", per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(parts), matrix(whole), rtol=0, atol=1e-6)
    assert matrix(whole).abs().max() > 1e-3
    for part, full in zip(training_logs(parts), training_logs(whole), strict=True):
        for name in ("loss", *LOGGED):
            assert part[name] == pytest.approx(full[name], abs=1e-6)


def test_micro_batches_with_unevenly_ignored_labels_equal_one_batch(tmp_path: Path) -> None:
    models = []
    batches: list[dict[str, Any]] = [
        {"per_device_train_batch_size": 8},
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3},
    ]
    for settings in batches:
        data = token_rows(8)  # one step of 8 rows, or of 3 + 3 + 2 rows
        models.append(trained(tmp_path, token_bert(), data, num_train_epochs=1, optim="sgd", **settings))
    torch.testing.assert_close(weights(models[1]), weights(models[0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(models[1]), matrix(models[0]), rtol=0, atol=1e-6)


def test_steps_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_train_epochs": 3, "optim": "sgd", "max_grad_norm": 0.0}
    criterion = KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5)
    trainer = trained(tmp_path, bert(), rows(8), loss=criterion, lr_scheduler_type="constant", **settings)
    model, criterion = bert(), KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5)
    batch = collate(rows(8).to_list())
    model_optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    residual_optimizer = torch.optim.Adam(criterion.parameters(), lr=1e-2)
    for epoch in range(3):  # one batch per epoch
        criterion.set_epoch(epoch)
        loss = criterion(model(batch["input_ids"]).logits, batch["labels"])
        loss.backward()
        for optimizer in (model_optimizer, residual_optimizer):
            optimizer.step()
            optimizer.zero_grad()
        assert training_logs(trainer)[epoch]["loss"] == pytest.approx(loss.item(), abs=1e-4)
    torch.testing.assert_close(weights(trainer), dict(model.state_dict()), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(trainer), criterion.residual_matrix.detach(), rtol=0, atol=1e-6)


def test_ce_is_plain_trainer_bit_for_bit(tmp_path: Path) -> None:
    ours = trained(tmp_path, bert(), loss="ce")
    plain = Trainer(model=bert(), args=arguments(tmp_path), train_dataset=rows(), data_collator=collate)
    plain.train()
    torch.testing.assert_close(weights(ours), weights(plain), rtol=0, atol=0)
    assert numbers(ours) == numbers(plain)


def test_ls_equals_label_smoothing_factor(tmp_path: Path) -> None:
    ours = trained(tmp_path, bert(), loss="ls")
    args = arguments(tmp_path, label_smoothing_factor=0.1)
    plain = Trainer(model=bert(), args=args, train_dataset=rows(), data_collator=collate)
    plain.train()
    torch.testing.assert_close(weights(ours), weights(plain), rtol=0, atol=1e-6)
    assert matrix(ours).eq(0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_loss_name_selects_the_loss(tmp_path: Path, name: str) -> None:
    criterion = KRTrainer(model=fasttext(), args=arguments(tmp_path), loss=name).criterion
    expected = named_loss(name, NUM_LABELS)
    assert (criterion and criterion.settings()) == (expected and expected.settings())
    assert (criterion is None) == (name == "ce")


def test_logged_terms_add_up_to_the_loss(tmp_path: Path) -> None:
    logs = training_logs(trained(tmp_path, loss=KRLoss(NUM_LABELS, alpha=0.5), logging_steps=3))
    assert logs
    for entry in logs:
        total = entry["loss_hard"] + entry["alpha"] * (entry["loss_residual"] + entry["loss_update"])
        assert entry["loss"] == pytest.approx(total, abs=2e-3)  # alpha is a mean over two epochs
        assert 0 <= entry["js_divergence"] <= math.log(2)


def test_logs_are_means_since_the_last_log(tmp_path: Path) -> None:
    each = training_logs(trained(tmp_path, logging_steps=1, num_train_epochs=1))
    mean = training_logs(trained(tmp_path, logging_steps=4, num_train_epochs=1))
    assert (len(each), len(mean)) == (4, 1)
    for name in LOGGED:
        assert mean[0][name] == pytest.approx(sum(entry[name] for entry in each) / 4, abs=1e-6)


def test_alpha_follows_the_epochs_completed(tmp_path: Path) -> None:
    trainer = trained(tmp_path, loss=KRLoss(NUM_LABELS, gamma=0.5), num_train_epochs=3)
    assert [entry["alpha"] for entry in training_logs(trainer)] == [1.0] * 4 + [0.5] * 4 + [0.25] * 4


def test_truncation_freezes_the_residual_matrix(tmp_path: Path) -> None:
    one = trained(
        tmp_path, loss=KRLoss(NUM_LABELS, alpha=Truncated(1)), lr_scheduler_type="constant", num_train_epochs=1
    )
    two = trained(tmp_path, loss=KRLoss(NUM_LABELS, alpha=Truncated(1)), lr_scheduler_type="constant")
    assert matrix(one).abs().max() > 0
    torch.testing.assert_close(matrix(two), matrix(one), rtol=0, atol=0)


def test_residual_learning_rate_follows_the_models_schedule(tmp_path: Path) -> None:
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append(trainer.residual_optimizer.param_groups[0]["lr"])

    trainer = KRTrainer(
        model=fasttext(),
        args=arguments(tmp_path, max_steps=4, learning_rate=5e-5, lr_scheduler_type="linear"),
        train_dataset=rows(),
        data_collator=collate,
        residual_learning_rate=0.1,
        callbacks=[Watch()],
    )
    trainer.train()
    assert seen == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_residual_matrix_is_not_a_parameter_of_the_model(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    assert type(trainer.model) is FastTextForSequenceClassification
    assert dict(trainer.model.named_parameters()).keys() == dict(fasttext().named_parameters()).keys()
    assert trainer.optimizer is not None
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert trainer.criterion is not None
    assert id(trainer.criterion.residual_matrix) not in in_optimizer
    assert len(in_optimizer) == len(list(fasttext().parameters()))
    trainer.save_model(str(tmp_path / "saved"))
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == fasttext().state_dict().keys()


@pytest.mark.parametrize("settings", [{"max_grad_norm": 1e-3}, {"weight_decay": 10.0}])
def test_clipping_and_weight_decay_do_not_change_the_residual_matrix(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Compares the first step, in which both networks give S the same gradient."""
    plain = trained(tmp_path, bert(), max_steps=1, max_grad_norm=0.0)
    other = trained(tmp_path, bert(), max_steps=1, **{"max_grad_norm": 0.0, **settings})
    assert any(not torch.equal(weights(plain)[name], weights(other)[name]) for name in weights(plain))
    torch.testing.assert_close(matrix(other), matrix(plain), rtol=0, atol=0)


def test_gradient_norm_excludes_the_residual_matrix(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"label_smoothing": 0.1, "alpha": 300.0}
    trainer = trained(tmp_path, bert(), rows(8), max_steps=1, loss=KRLoss(NUM_LABELS, **settings))
    model, criterion, batch = bert(), KRLoss(NUM_LABELS, **settings), collate(rows(8).to_list())
    criterion(model(batch["input_ids"]).logits, batch["labels"]).backward()
    squares = sum(
        float(parameter.grad.square().sum()) for parameter in model.parameters() if parameter.grad is not None
    )
    assert criterion.residual_matrix.grad is not None
    assert criterion.residual_matrix.grad.square().sum() > 1e-2 * squares
    assert training_logs(trainer)[0]["grad_norm"] == pytest.approx(math.sqrt(squares), rel=1e-5)


def test_evaluation_is_plain_cross_entropy(tmp_path: Path) -> None:
    trainer = trained(tmp_path, bert())
    batch = collate(rows(20, seed=1).to_list())
    metrics = trainer.evaluate(rows(20, seed=1))
    with torch.no_grad():
        logits = trainer.model.eval()(batch["input_ids"]).logits  # type: ignore[union-attr]  # it has a model
    assert metrics["eval_loss"] == pytest.approx(F.cross_entropy(logits, batch["labels"]).item(), abs=1e-6)
    prediction = trainer.predict(rows(20, seed=1))
    torch.testing.assert_close(torch.tensor(prediction.predictions), logits, rtol=0, atol=1e-6)


class Plain(nn.Module):
    """A module without a config whose forward takes no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(VOCAB_SIZE, NUM_LABELS)

    def forward(self, input_ids: Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.embedding(input_ids))


@pytest.mark.parametrize("remove_unused_columns", [False, True])
def test_any_module_whose_output_has_logits_can_be_trained(tmp_path: Path, remove_unused_columns: bool) -> None:
    set_seed(0)
    trainer = KRTrainer(
        model=Plain(),
        args=arguments(tmp_path, remove_unused_columns=remove_unused_columns),
        train_dataset=rows(),
        eval_dataset=rows(),
        data_collator=collate,
        loss=KRLoss(NUM_LABELS),
    )
    trainer.train()
    assert training_logs(trainer)[-1]["loss"] < training_logs(trainer)[0]["loss"]
    assert matrix(trainer).abs().max() > 0
    assert 0 < trainer.evaluate()["eval_loss"] < 2


class Fixed(Plain):
    """A module whose `training` flag never changes."""

    def __init__(self, training: bool) -> None:
        super().__init__()
        self.training = training

    def train(self, mode: bool = True) -> "Fixed":
        return self


@pytest.mark.parametrize("training", [False, True])
def test_enabled_gradients_decide_between_training_and_evaluation(tmp_path: Path, training: bool) -> None:
    trainers = []
    for make_model in (Plain, lambda: Fixed(training)):
        set_seed(0)
        trainer = trained(tmp_path, make_model(), loss=KRLoss(NUM_LABELS, label_smoothing=0.1), eval_dataset=rows())
        trainer.evaluate()
        trainers.append(trainer)
    plain, fixed = trainers
    assert numbers(fixed) == numbers(plain)
    torch.testing.assert_close(matrix(fixed), matrix(plain), rtol=0, atol=0)
    assert fixed.criterion is not None
    assert fixed.criterion.residual_matrix.grad is None


def test_int32_labels_equal_int64_labels(tmp_path: Path) -> None:
    data = rows().cast_column("labels", Value("int32"))

    def collate_as_they_are(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {**collate(batch), "labels": torch.tensor([row["labels"] for row in batch], dtype=torch.int32)}

    settings: dict[str, Any] = {"eval_dataset": data, "eval_strategy": "epoch"}
    narrow = trained(tmp_path, data=data, data_collator=collate_as_they_are, **settings)
    assert numbers(narrow) == numbers(trained(tmp_path, **settings))


def test_ce_works_without_a_config(tmp_path: Path) -> None:
    KRTrainer(model=Plain(), args=arguments(tmp_path), loss="ce")


def test_batch_of_ignored_labels_keeps_everything_finite(tmp_path: Path) -> None:
    data = token_rows(4)
    data = Dataset.from_dict({"input_ids": data["input_ids"], "labels": [[-100] * SEQ_LEN, *data["labels"][1:]]})
    trainer = trained(tmp_path, token_bert(), data, per_device_train_batch_size=1)
    assert all(value.isfinite().all() for value in weights(trainer).values())
    assert matrix(trainer).isfinite().all()
    assert matrix(trainer).any()
    assert all(math.isfinite(value) for entry in training_logs(trainer) for value in entry.values())


def test_training_after_an_interrupt_equals_training_from_scratch(tmp_path: Path) -> None:
    """Interrupts and restarts training, as in a notebook."""
    settings: dict[str, Any] = {"gradient_accumulation_steps": 2}
    trainer = make_trainer(tmp_path, bert(), callbacks=[Interrupt()], **settings)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    whole = trained(tmp_path, bert(), **settings)
    torch.testing.assert_close(matrix(trainer), matrix(whole), rtol=0, atol=0)
    torch.testing.assert_close(weights(trainer), weights(whole), rtol=0, atol=0)
    assert numbers(trainer)[:-1] == numbers(whole)[:-1]  # the last entry sums the FLOPs of both runs


def test_frozen_residual_matrix_does_not_change(tmp_path: Path) -> None:
    criterion = KRLoss(NUM_LABELS)
    criterion.residual_matrix.requires_grad_(False)
    assert not matrix(trained(tmp_path, loss=criterion)).any()


def test_two_classes_warn_and_train(tmp_path: Path) -> None:
    config = FastTextConfig(vocab_size=VOCAB_SIZE, num_buckets=10, num_labels=2)
    data = rows().map(lambda row: {"labels": row["labels"] % 2})
    with pytest.warns(UserWarning, match="every KR term is 0"):
        trainer = trained(tmp_path, FastTextForSequenceClassification(config), data, loss="kr-ls")
    assert all(entry["loss_residual"] == entry["loss_update"] == 0 for entry in training_logs(trainer))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "kl"}, "loss must be one of ce, ls, kr, kr-ls, or a KRLoss; got 'kl'"),
        ({"loss": KRLoss(3)}, "loss must have the model's 4 labels, got 3"),
        ({"compute_loss_func": lambda *_, **__: 0}, "compute_loss_func must be None"),
        ({"loss": nn.CrossEntropyLoss()}, "loss must be one of ce, .* or a KRLoss; got a CrossEntropyLoss"),
    ],
)
def test_unsuitable_arguments_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KRTrainer(model=fasttext(), args=arguments(tmp_path), **settings)


def test_label_smoothing_factor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"label_smoothing_factor must be 0, got 0\.1; set label smoothing in the loss"
    ):
        KRTrainer(model=fasttext(), args=arguments(tmp_path, label_smoothing_factor=0.1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_labels": 1}, r"num_labels must be at least 2, got 1, which is regression; pass loss='ce'"),
        ({"num_labels": 4, "problem_type": "regression"}, "problem_type must be 'single_label.*, got 'regression'"),
        ({"num_labels": 4, "problem_type": "multi_label_classification"}, "got 'multi_label_classification'"),
    ],
)
def test_regression_and_multi_label_heads_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    config = bert_config()
    for name, value in settings.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=message):
        KRTrainer(model=BertForSequenceClassification(config), args=arguments(tmp_path))
    KRTrainer(model=BertForSequenceClassification(config), args=arguments(tmp_path), loss="ce")


def test_float_labels_are_refused_before_the_first_step(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, fasttext(), rows().cast_column("labels", Value("float32")))
    with pytest.raises(ValueError, match=r"labels must be integers, got torch\.float32"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_steps_per_epoch_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps_per_epoch must be at least 1, got 0"):
        make_trainer(tmp_path, steps_per_epoch=0)


def test_data_parallel_is_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="accelerate launch"):
        KRTrainer(model=fasttext(), args=args)


def test_batch_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a batch must have 'labels', got input_ids"):
        trained(tmp_path, data=rows().remove_columns("labels"))


def test_class_weights_are_averaged_as_in_cross_entropy(tmp_path: Path) -> None:
    class_weights = torch.tensor([1.0, 2.0, 0.5, 4.0])
    criterion = KRLoss(NUM_LABELS, alpha=0.0, class_weights=class_weights)
    settings: dict[str, Any] = {"max_steps": 1, "optim": "sgd"}
    trainer = trained(
        tmp_path,
        bert(),
        rows(8),
        loss=criterion,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        **settings,
    )
    batch = collate(rows(8).to_list())
    loss = F.cross_entropy(bert()(batch["input_ids"]).logits, batch["labels"], weight=class_weights)
    assert training_logs(trainer)[0]["loss"] == pytest.approx(loss.item(), abs=1e-4)
