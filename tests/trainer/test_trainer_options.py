"""KRTrainer with the options of Trainer and with the libraries that scripts combine it with."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from transformers import (
    BertForSequenceClassification,
    EarlyStoppingCallback,
    EvalPrediction,
    Seq2SeqTrainer,
    Trainer,
    TrainerCallback,
)
from transformers.optimization import Adafactor, AdafactorSchedule

from kr_text import KRLoss, KRTrainer
from trainer_cases import (
    LOGGED,
    NUM_LABELS,
    arguments,
    bert,
    bert_config,
    collate,
    make_trainer,
    matrix,
    numbers,
    rows,
    trained,
    training_logs,
    weights,
)


def assert_trained(trainer: KRTrainer, steps: int) -> None:
    assert trainer.state.global_step == steps
    assert trainer.residual_optimizer.state_dict()["state"][0]["step"] == steps
    assert matrix(trainer).dtype == torch.float32
    assert matrix(trainer).abs().max() > 1e-3


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "rmsprop"])
def test_residual_matrix_trains_with_every_optimizer(tmp_path: Path, optim: str) -> None:
    trainer = trained(tmp_path, bert(), max_steps=4, optim=optim)
    assert_trained(trainer, 4)
    last_rate = 1e-2 / 4  # after 3 of 4 steps of a linear decay
    assert trainer.residual_optimizer.param_groups[0]["lr"] == pytest.approx(last_rate)


def test_residual_matrix_trains_with_a_schedule_free_optimizer(tmp_path: Path) -> None:
    trainer = trained(tmp_path, bert(), max_steps=4, optim="schedule_free_adamw", lr_scheduler_type="constant")
    assert_trained(trainer, 4)
    assert trainer.residual_optimizer.param_groups[0]["lr"] == pytest.approx(1e-2)


def test_residual_learning_rate_follows_a_custom_schedule(tmp_path: Path) -> None:
    model = bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=100)
    trainer = trained(tmp_path, model, max_steps=2, optimizers=(optimizer, schedule))
    assert trainer.residual_optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 / 2)


def residual_rates(tmp_path: Path, schedule: Any) -> list[float]:
    """Returns the learning rates of S in eight steps of a custom schedule."""
    seen: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append(trainer.residual_optimizer.param_groups[0]["lr"])

    model = bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizers = (optimizer, schedule(optimizer))
    settings: dict[str, Any] = {"residual_learning_rate": 0.1, "callbacks": [Watch()]}
    trainer = make_trainer(tmp_path, model, max_steps=8, optimizers=optimizers, **settings)
    trainer.train()
    return seen


def test_one_cycle_schedule_peaks_at_max_lr(tmp_path: Path) -> None:
    seen = residual_rates(tmp_path, partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.5, total_steps=9))
    assert seen[0] == pytest.approx(0.1 / 25)  # OneCycleLR's div_factor
    assert 0.05 < max(seen) <= 0.1


def test_rate_above_the_recorded_peak_counts_as_the_peak(tmp_path: Path) -> None:
    """`CyclicLR` records its lowest rate, here 1/500 of its highest."""
    cycle = partial(torch.optim.lr_scheduler.CyclicLR, base_lr=0.001, max_lr=0.5, step_size_up=4, cycle_momentum=False)
    assert residual_rates(tmp_path, cycle) == [0.1] * 8


def test_reduce_on_plateau_has_the_optimizers_default_as_peak(tmp_path: Path) -> None:
    model = bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    settings: dict[str, Any] = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"}
    settings |= {"metric_for_best_model": "eval_loss", "eval_dataset": rows()}
    trainer = trained(tmp_path, model, optimizers=(optimizer, schedule), **settings)
    assert trainer.residual_optimizer.param_groups[0]["lr"] == pytest.approx(1e-2)


def test_fraction_is_one_without_a_learning_rate(tmp_path: Path) -> None:
    """Covers Adafactor with relative steps, and a learning rate of 0."""
    model = bert()
    adafactor = Adafactor(model.parameters(), scale_parameter=True, relative_step=True, warmup_init=True)
    trainer = trained(tmp_path, model, max_steps=2, optimizers=(adafactor, AdafactorSchedule(adafactor)))
    assert trainer.residual_optimizer.param_groups[0]["lr"] == 1e-2
    trainer = trained(tmp_path, bert(), max_steps=2, learning_rate=0.0)
    assert trainer.residual_optimizer.param_groups[0]["lr"] == 1e-2
    torch.testing.assert_close(weights(trainer), dict(bert().state_dict()), rtol=0, atol=0)


def test_bf16_autocast_keeps_the_loss_in_float32(tmp_path: Path) -> None:
    trainer, plain = trained(tmp_path, bert(), max_steps=4, bf16=True), trained(tmp_path, bert(), max_steps=4)
    assert_trained(trainer, 4)
    for in_bf16, in_float32 in zip(training_logs(trainer), training_logs(plain), strict=True):
        assert in_bf16["loss"] == pytest.approx(in_float32["loss"], abs=0.02)
        assert in_bf16["loss"] != in_float32["loss"]


class Scaled(KRTrainer):
    """A KRTrainer with the gradient scaler of fp16, which accelerate creates on accelerators only."""

    def __init__(self, *args: Any, init_scale: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)


def test_fp16_scaling_does_not_scale_the_residual_gradient(tmp_path: Path) -> None:
    class ScaledBy1024(Scaled):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, init_scale=1024.0, **kwargs)

    settings: dict[str, Any] = {"max_steps": 3, "optim": "sgd", "max_grad_norm": 0.0}
    scaled, plain = (
        trained(tmp_path, bert(), trainer_class=ScaledBy1024, **settings),
        trained(tmp_path, bert(), **settings),
    )
    assert scaled.accelerator.scaler.get_scale() == 1024
    torch.testing.assert_close(weights(scaled), weights(plain), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(scaled), matrix(plain), rtol=0, atol=1e-6)


class Overflowing(Scaled):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, init_scale=float("inf"), **kwargs)


def test_fp16_overflow_skips_the_residual_step(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 2, "max_grad_norm": 0.0, "optim": "adamw_torch"}
    trainer = trained(tmp_path, bert(), trainer_class=Overflowing, **settings)
    torch.testing.assert_close(weights(trainer), dict(bert().state_dict()), rtol=0, atol=0)
    assert not matrix(trainer).any()


class InfiniteAtFirst(BertForSequenceClassification):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        if not hasattr(self, "was_called"):
            self.was_called = True
            output.logits = output.logits * torch.inf
        return output


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_infinite_logits_in_fp16_skip_the_residual_step(tmp_path: Path, optim: str) -> None:
    class ScaledBy1024(Scaled):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, init_scale=1024.0, **kwargs)

    model = InfiniteAtFirst(bert_config())
    settings: dict[str, Any] = {"max_steps": 3, "max_grad_norm": 0.0, "optim": optim, "remove_unused_columns": False}
    trainer = trained(tmp_path, model, trainer_class=ScaledBy1024, **settings)
    assert matrix(trainer).isfinite().all()
    assert trainer.residual_optimizer.state_dict()["state"][0]["step"] == 2


def test_infinite_logits_under_deepspeed_skip_the_residual_step(tmp_path: Path) -> None:
    class LikeDeepSpeed(KRTrainer):
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            self.accelerator.state._mixed_precision = "fp16"  # without a scaler

    trainer = trained(
        tmp_path, InfiniteAtFirst(bert_config()), trainer_class=LikeDeepSpeed, max_steps=1, remove_unused_columns=False
    )
    assert not matrix(trainer).any()


@pytest.mark.filterwarnings("default:.*gradient_checkpointing.* is deprecated:FutureWarning")  # transformers renamed it
def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    runs = [
        trained(tmp_path, bert(), max_steps=3, gradient_checkpointing=checkpointing) for checkpointing in (False, True)
    ]
    torch.testing.assert_close(weights(runs[1]), weights(runs[0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(runs[1]), matrix(runs[0]), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("default")  # the compiler warns
def test_compiled_model_trains_like_an_uncompiled_model(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 3, "optim": "sgd"}
    compiled = trained(tmp_path, bert(), torch_compile=True, **settings)
    plain = trained(tmp_path, bert(), **settings)
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=0, atol=1e-5)
    torch.testing.assert_close(matrix(compiled), matrix(plain), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("default:.*gradient_checkpointing.* is deprecated:FutureWarning")  # peft uses the old name
def test_lora_adapter_is_trained_saved_loaded_and_evaluated(tmp_path: Path) -> None:
    model = get_peft_model(bert(), LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]))
    trainer = trained(tmp_path, model, max_steps=4, learning_rate=0.1)
    assert_trained(trainer, 4)
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    loaded = PeftModel.from_pretrained(bert(), str(tmp_path / "adapter"))
    input_ids = collate(rows().to_list())["input_ids"]
    with torch.no_grad():
        logits, untrained = loaded.eval()(input_ids).logits, bert().eval()(input_ids).logits
    assert torch.equal(logits, torch.tensor(trainer.predict(cast(Any, rows())).predictions))
    assert (logits - untrained).abs().max() > 1e-3


class AtTheStart(TrainerCallback):
    """Records the largest entry of S, and the number of S's Adam states, at the start of each training."""

    def __init__(self) -> None:
        self.found: list[tuple[float, int]] = []
        self.trainer: KRTrainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        moments = self.trainer.residual_optimizer.state_dict()["state"]
        self.found.append((matrix(self.trainer).abs().max().item(), len(moments)))


def test_each_search_trial_starts_with_s_at_zero(tmp_path: Path) -> None:
    at_the_start = AtTheStart()
    trainer = make_trainer(
        tmp_path,
        model_init=lambda: bert(),
        eval_dataset=rows(seed=1),
        callbacks=[at_the_start],
        max_steps=3,
        eval_strategy="steps",
        eval_steps=3,
    )
    at_the_start.trainer = trainer
    best = cast(Any, trainer).hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True)},
        backend="optuna",
        n_trials=3,
        direction="minimize",
    )
    assert at_the_start.found == [(0.0, 0)] * 3
    assert 1e-3 <= best.hyperparameters["learning_rate"] <= 1e-1
    assert_trained(trainer, 3)


@pytest.mark.parametrize("frozen", [False, True])
def test_each_new_model_starts_with_the_given_s(tmp_path: Path, frozen: bool) -> None:
    criterion = KRLoss(NUM_LABELS)
    given = torch.arange(16.0).view(4, 4)
    criterion.residual_matrix.data.copy_(given)
    criterion.residual_matrix.requires_grad_(not frozen)
    at_the_start = AtTheStart()
    trainer = make_trainer(tmp_path, model_init=lambda: bert(), loss=criterion, max_steps=2, callbacks=[at_the_start])
    at_the_start.trainer = trainer
    trainer.train()
    assert torch.equal(matrix(trainer), given) == frozen
    trainer.train()
    assert at_the_start.found == [(15.0, 0)] * 2


def test_custom_training_step_may_divide_the_loss(tmp_path: Path) -> None:
    class Mine(Trainer):
        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
            loss = cast(Tensor, self.compute_loss(model, inputs)) / self.args.gradient_accumulation_steps
            self.accelerator.backward(loss)
            return loss.detach()

    class Both(KRTrainer, Mine):
        pass

    settings: dict[str, Any] = {"gradient_accumulation_steps": 2, "max_steps": 4}
    mine = trained(tmp_path, bert(), trainer_class=Both, **settings)
    assert_close_logs(mine, trained(tmp_path, bert(), **settings))


def assert_close_logs(trainer: KRTrainer, other: KRTrainer) -> None:
    for ours, theirs in zip(training_logs(trainer), training_logs(other), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    torch.testing.assert_close(matrix(trainer), matrix(other), rtol=0, atol=1e-6)


def test_steps_per_epoch_sets_alpha_for_iterable_data(tmp_path: Path) -> None:
    trainer = trained(
        tmp_path,
        bert(),
        rows().to_iterable_dataset(),
        max_steps=6,
        steps_per_epoch=2,
        loss=KRLoss(NUM_LABELS, gamma=0.5),
    )
    assert [entry["alpha"] for entry in training_logs(trainer)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert_trained(trainer, 6)


def test_rereading_iterable_data_starts_an_epoch(tmp_path: Path) -> None:
    data = rows().to_iterable_dataset()  # four batches
    trainer = trained(tmp_path, bert(), data, max_steps=6, loss=KRLoss(NUM_LABELS, gamma=0.5))
    assert [entry["alpha"] for entry in training_logs(trainer)] == [1.0] * 4 + [0.5] * 2


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(np.mean(np.equal(cast(Any, prediction.predictions), cast(Any, prediction.label_ids))))}


def test_metrics_predictions_and_several_evaluation_sets(tmp_path: Path) -> None:
    trainer = trained(
        tmp_path,
        bert(),
        eval_dataset={"seen": rows(), "new": rows(20, seed=1)},
        eval_strategy="epoch",
        compute_metrics=accuracy,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(dim=-1),
    )
    names = {name for entry in trainer.state.log_history for name in entry}
    assert {"eval_seen_loss", "eval_seen_accuracy", "eval_new_loss", "eval_new_accuracy"} <= names
    prediction = trainer.predict(cast(Any, rows(20, seed=1)))
    assert np.shape(cast(Any, prediction.predictions)) == (20,)
    assert prediction.metrics is not None
    assert prediction.metrics["test_accuracy"] == accuracy(cast(EvalPrediction, prediction))["accuracy"]


def test_early_stopping_ends_training(tmp_path: Path) -> None:
    trainer = trained(
        tmp_path,
        bert(),
        num_train_epochs=5,
        eval_dataset=rows(),
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # makes every epoch after the first worse
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    assert trainer.state.epoch == 3


def test_tensorboard_has_the_loss_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    trained(tmp_path, bert(), max_steps=3, report_to="tensorboard")
    events = EventAccumulator(str(next((tmp_path / "tensorboard").rglob("events.*")).parent))
    events.Reload()
    for name in LOGGED:
        assert len(events.Scalars(f"train/{name}")) == 3


def test_model_card_names_the_loss_and_its_settings(tmp_path: Path) -> None:
    trainer = trained(tmp_path, bert(), max_steps=1, loss=KRLoss(NUM_LABELS, label_smoothing=0.2, gamma=0.5))
    trainer.create_model_card(model_name="tiny")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "# tiny" in card
    assert "Knowledge Refinery: Learning from Decoupled Label, AAAI 2021" in card
    assert "| label_smoothing | 0.2 |" in card
    assert "| residual_learning_rate | 0.01 |" in card
    assert 'gamma=0.5)" |' in card


def test_model_card_for_ce_has_no_section_on_the_loss(tmp_path: Path) -> None:
    trained(tmp_path, bert(), max_steps=1, loss="ce").create_model_card()
    assert "KRLoss" not in (tmp_path / "README.md").read_text(encoding="utf-8")


class Noting(Trainer):
    """A custom Trainer with its own training step and an additional argument."""

    def __init__(self, *args: Any, note: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.note, self.losses = note, list[float]()

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.losses.append(loss.item())
        return loss

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("KRTrainer must override it")


def test_combined_with_another_trainer_it_changes_only_the_loss(tmp_path: Path) -> None:
    class KRNoting(KRTrainer, Noting):
        pass

    settings: dict[str, Any] = {"train_dataset": rows(), "data_collator": collate, "model": bert()}
    trainer = KRNoting(args=arguments(tmp_path), note="mine", loss="kr", **settings)
    trainer.train()
    plain = trained(tmp_path, bert(), loss="kr")
    assert trainer.note == "mine"
    assert trainer.losses == pytest.approx([entry["loss"] for entry in training_logs(plain)], abs=1e-4)
    torch.testing.assert_close(weights(trainer), weights(plain), rtol=0, atol=0)
    torch.testing.assert_close(matrix(trainer), matrix(plain), rtol=0, atol=0)
    assert numbers(trainer) == numbers(plain)


class OwnStep(Trainer):
    """A custom Trainer whose training step does not pass `num_items_in_batch`."""

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        model.train()
        loss = cast(Tensor, self.compute_loss(model, self._prepare_inputs(inputs)))
        self.accelerator.backward(loss)
        return loss.detach()


def test_combined_with_a_trainer_that_overrides_training_step(tmp_path: Path) -> None:
    class KROwnStep(KRTrainer, OwnStep):
        pass

    trainer, plain = trained(tmp_path, bert(), trainer_class=KROwnStep), trained(tmp_path, bert())
    torch.testing.assert_close(weights(trainer), weights(plain), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(trainer), matrix(plain), rtol=0, atol=1e-6)


def test_combined_with_seq2seq_trainer(tmp_path: Path) -> None:
    from transformers import Seq2SeqTrainingArguments

    class KRSeq2Seq(KRTrainer, Seq2SeqTrainer):
        pass

    args = arguments(tmp_path, max_steps=2)
    fields = {field.name: getattr(args, field.name) for field in dataclasses.fields(args) if field.init}
    trainer = KRSeq2Seq(
        model=bert(), args=Seq2SeqTrainingArguments(**fields), train_dataset=rows(), data_collator=collate
    )
    trainer.train()
    assert_trained(trainer, 2)


def test_model_that_returns_tuples_trains_alike(tmp_path: Path) -> None:
    model = bert()
    model.config.return_dict = False
    trainer, plain = trained(tmp_path, model, max_steps=2), trained(tmp_path, bert(), max_steps=2)
    torch.testing.assert_close(weights(trainer), weights(plain), rtol=0, atol=0)
    data = cast(Dataset, rows(20, seed=1))
    assert np.array_equal(cast(Any, trainer.predict(data).predictions), cast(Any, plain.predict(data).predictions))


def test_model_that_returns_none_before_its_logits_trains_alike(tmp_path: Path) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert()

        def forward(self, input_ids: Tensor) -> tuple[None, Tensor]:
            return None, self.bert(input_ids).logits

    data = cast(Dataset, rows(20, seed=1))
    pair, plain = trained(tmp_path, Pair(), loss=KRLoss(NUM_LABELS, label_smoothing=0.1)), trained(tmp_path, bert())
    torch.testing.assert_close(matrix(pair), matrix(plain), rtol=0, atol=0)
    assert np.array_equal(cast(Any, pair.predict(data).predictions), cast(Any, plain.predict(data).predictions))
