"""SofteningTrainer: its loss, its steps, its checkpoints and the arguments it refuses."""

import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GPT2Config, GPT2ForSequenceClassification, TrainerCallback, set_seed

from kr_text.losses.kr_variants import KR_VARIANTS, ClassMeanKR, WeightedKR
from kr_text.losses.label_softening import (
    SOFTENING_LOSSES,
    ConfidencePenalty,
    LabelConfusion,
    LabelSmoothingPlusPlus,
)
from kr_text.losses.softening_loss import SofteningLoss, last_linear
from kr_text.models import MODELS
from kr_text.trainer.residual_checkpoint import SOFTENING_FILE
from kr_text.trainer.softening_trainer import SofteningTrainer
from trainer_cases import NUM_LABELS, VOCAB_SIZE, Interrupt, arguments, bert, collate, rows, training_logs, weights

LOSSES = {**SOFTENING_LOSSES, **KR_VARIANTS}
SIZES: dict[str, dict[str, Any]] = {
    "fasttext": {"embedding_dim": 8, "num_buckets": 50},
    "textrnn": {"embedding_dim": 6, "context_size": 5, "hidden_size": 7},
    "charcnn": {"num_frames": 150, "num_filters": 8, "dense_size": 9},
    "transformer": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
}


def make_model(name: str) -> nn.Module:
    set_seed(0)
    config_class, model_class = MODELS[name]
    sizes: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "num_labels": NUM_LABELS, **SIZES[name]}
    return cast(nn.Module, model_class(config_class(**sizes)))


def make_loss(name: str, model: nn.Module, **settings: Any) -> SofteningLoss:
    set_seed(0)
    if name == "lcm":
        settings["num_features"] = last_linear(model, NUM_LABELS).in_features
    return LOSSES[name](NUM_LABELS, **settings)


OWN = ("loss_learning_rate", "eval_dataset", "callbacks", "compute_loss_func")


def make_trainer(folder: Path, loss: str | SofteningLoss, model: nn.Module | None = None, **kwargs: Any) -> Any:
    model = model or bert()
    loss = make_loss(loss, model) if isinstance(loss, str) else loss
    own = {name: kwargs.pop(name) for name in OWN if name in kwargs}
    data = kwargs.pop("data", None)
    return SofteningTrainer(
        model=model,
        args=arguments(folder, **kwargs),
        loss=loss,
        train_dataset=rows() if data is None else data,
        data_collator=collate,
        **own,
    )


def trained(folder: Path, *args: Any, resume: bool = False, **kwargs: Any) -> Any:
    trainer = make_trainer(folder, *args, **kwargs)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def loss_state(trainer: SofteningTrainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.criterion.state_dict().items()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_every_model(tmp_path: Path, model: str, loss: str) -> None:
    network = make_model(model)
    criterion = make_loss(loss, network)
    before = {name: value.clone() for name, value in criterion.state_dict().items()}
    trainer = trained(tmp_path, criterion, network, per_device_train_batch_size=16)
    assert all(0 < entry["loss"] < 10 for entry in training_logs(trainer))
    for name, value in loss_state(trainer).items():  # parameters and counts
        assert not torch.equal(value, before[name]), name
    start = dict(make_model(model).state_dict())
    assert any(not torch.equal(value, start[name]) for name, value in weights(trainer).items())


@pytest.mark.parametrize("class_weights", [None, [1.0, 2.0, 0.5, 4.0]])
@pytest.mark.parametrize("loss", ["lcm", "ols"])
def test_one_batch_equals_its_micro_batches(tmp_path: Path, loss: str, class_weights: list[float] | None) -> None:
    """Micro-batches of 3 + 3 + 2 rows would differ if their means were averaged."""
    batches: list[dict[str, Any]] = [
        {"per_device_train_batch_size": 8},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3},
    ]
    models = [bert() for _ in batches]
    losses = [make_loss(loss, model, class_weights=class_weights) for model in models]
    runs = zip(losses, models, batches, strict=True)
    whole, *parts = [trained(tmp_path, *run, data=rows(8), optim="sgd", **sizes) for *run, sizes in runs]
    for part in parts:
        torch.testing.assert_close(weights(part), weights(whole), rtol=0, atol=1e-6)
        torch.testing.assert_close(loss_state(part), loss_state(whole), rtol=0, atol=1e-5)
        for ours, theirs in zip(training_logs(part), training_logs(whole), strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def test_equal_class_weights_change_nothing(tmp_path: Path) -> None:
    models = [bert(), bert()]
    losses = [
        make_loss("ls++", model, class_weights=each) for model, each in zip(models, (None, [3.0] * 4), strict=True)
    ]
    plain, weighted = (trained(tmp_path, loss, model) for loss, model in zip(losses, models, strict=True))
    torch.testing.assert_close(weights(weighted), weights(plain), rtol=0, atol=1e-5)
    torch.testing.assert_close(loss_state(weighted), loss_state(plain), rtol=0, atol=1e-5)


def test_training_after_an_interrupt_has_no_stale_gradient(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "lcm", gradient_accumulation_steps=2, callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    torch.testing.assert_close(loss_state(trainer), loss_state(trained(tmp_path, "lcm", gradient_accumulation_steps=2)))


def test_unfinished_epoch_does_not_count_in_the_next_training(tmp_path: Path) -> None:
    counted: list[float] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            counted.append(trainer.criterion.counts.sum().item())

    trainer = make_trainer(tmp_path, "ols", max_steps=3, callbacks=[Watch()])
    for _ in range(2):
        trainer.train()
    assert counted[2] > 0
    assert counted[0] == counted[3] == 0


def test_steps_equal_a_plain_loop(tmp_path: Path) -> None:
    """Trains three epochs of one batch. Gradient clipping excludes the loss's gradient."""
    settings: dict[str, Any] = {"optim": "sgd", "max_grad_norm": 1e-2, "lr_scheduler_type": "constant"}
    criterion = WeightedKR(NUM_LABELS, gamma=0.5)
    trainer = trained(tmp_path, criterion, data=rows(8), num_train_epochs=3, loss_learning_rate=0.05, **settings)
    model, criterion = bert(), WeightedKR(NUM_LABELS, gamma=0.5)
    batch = collate(rows(8).to_list())
    model_optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    loss_optimizer = torch.optim.Adam(criterion.parameters(), lr=0.05)
    for epoch in range(3):
        criterion.set_epoch(epoch)
        loss = criterion(model(batch["input_ids"]).logits, batch["labels"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
        for optimizer in (model_optimizer, loss_optimizer):
            optimizer.step()
            optimizer.zero_grad()
        assert training_logs(trainer)[epoch]["loss"] == pytest.approx(loss.item(), abs=1e-4)
    torch.testing.assert_close(weights(trainer), dict(model.state_dict()), rtol=0, atol=1e-6)
    torch.testing.assert_close(loss_state(trainer), dict(criterion.state_dict()), rtol=0, atol=1e-5)


def test_loss_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, LabelSmoothingPlusPlus(NUM_LABELS), max_steps=4, loss_learning_rate=0.1)
    seen = []
    step = trainer.loss_optimizer.step

    def watched() -> None:
        seen.append(trainer.loss_optimizer.param_groups[0]["lr"])
        step()

    trainer.loss_optimizer.step = watched
    trainer.train()
    assert seen == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_loss_is_told_every_epoch(tmp_path: Path) -> None:
    told = []

    class Watch(ConfidencePenalty):
        def set_epoch(self, epoch: float) -> None:
            told.append(f"begin {epoch}")

        def end_epoch(self) -> None:
            told.append("end")

    trained(tmp_path, Watch(NUM_LABELS), num_train_epochs=3)
    assert told == ["begin 0", "end", "begin 1", "end", "begin 2"]


def test_second_training_ends_its_epochs_too(tmp_path: Path) -> None:
    trainer, ended = make_trainer(tmp_path, "ols"), []
    trainer.criterion.end_epoch = lambda: ended.append(trainer.state.global_step)
    trainer.train()
    trainer.train()
    assert ended == [4, 4]  # training stops before the second epoch is reported as ended


def test_soft_labels_come_from_the_previous_epoch(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_train_epochs": 2, "lr_scheduler_type": "constant"}  # 4 steps per epoch
    seen = trained(tmp_path, "ols", max_steps=4, **settings).criterion
    assert 0 < seen.counts.sum() < 32
    expected = torch.where(seen.counts[:, None] > 0, seen.sums / seen.counts.clamp(min=1)[:, None], 0.25)
    used = trained(tmp_path, "ols", max_steps=5, **settings).criterion
    torch.testing.assert_close(used.soft_labels, expected)
    assert used.counts.sum() <= 8


def test_features_are_the_input_of_the_last_linear_layer(tmp_path: Path) -> None:
    seen = []

    class Watch(LabelConfusion):
        def row_losses(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
            seen.append((logits.detach(), features.detach()))
            return super().row_losses(logits, labels, features)

    model = make_model("textrnn")
    head = last_linear(model, NUM_LABELS)
    trainer = make_trainer(tmp_path, Watch(NUM_LABELS, num_features=7), model, max_steps=1, learning_rate=0.0)
    trainer.train()
    ((logits, features),) = seen
    assert features.shape == (8, 7)
    torch.testing.assert_close(F.linear(features, head.weight, head.bias), logits)
    assert trainer._features is None


def test_evaluation_is_plain_cross_entropy_and_leaves_the_loss_unchanged(tmp_path: Path) -> None:
    trainer = trained(tmp_path, ClassMeanKR(NUM_LABELS))
    batch, before = collate(rows(20, seed=1).to_list()), loss_state(trainer)
    metrics = trainer.evaluate(rows(20, seed=1))
    with torch.no_grad():
        logits = trainer.model.eval()(batch["input_ids"]).logits
    assert metrics["eval_loss"] == pytest.approx(F.cross_entropy(logits, batch["labels"]).item(), abs=1e-6)
    prediction = trainer.predict(rows(20, seed=1))
    torch.testing.assert_close(torch.tensor(prediction.predictions), logits, rtol=0, atol=1e-6)
    assert prediction.label_ids.tolist() == batch["labels"].tolist()
    torch.testing.assert_close(loss_state(trainer), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("loss", "stopped_at"),  # within the first epoch of 4 steps, at its end, and within the second
    [("ols", 3), ("ols", 4), ("ols", 6), ("ls++", 4), ("cp", 3), ("lcm", 3), ("kr-mean", 3)],
)
def test_resumed_equals_uninterrupted(tmp_path: Path, loss: str, stopped_at: int) -> None:
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": stopped_at, "num_train_epochs": 2}
    whole = trained(tmp_path, loss, bert(dropout=0.1), **settings)
    for checkpoint in tmp_path.glob("checkpoint-*"):
        if checkpoint.name != f"checkpoint-{stopped_at}":
            shutil.rmtree(checkpoint)
    resumed = trained(tmp_path, loss, bert(dropout=0.1), resume=True, **settings)
    assert resumed.state.global_step == 8
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    torch.testing.assert_close(loss_state(resumed), loss_state(whole), rtol=0, atol=0)
    if whole.loss_optimizer is not None:
        states = [trainer.loss_optimizer.state_dict()["state"] for trainer in (resumed, whole)]
        torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


@pytest.mark.parametrize(("loss", "save_only_model"), [("ols", False), ("ls++", False), ("ols", True)])
def test_best_model_is_loaded_with_its_loss(tmp_path: Path, loss: str, save_only_model: bool) -> None:
    trainer = trained(
        tmp_path,
        loss,
        num_train_epochs=3,
        save_only_model=save_only_model,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # selects the first epoch, whose loss is the largest
        eval_dataset=rows(),
    )
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    saved = load_file(tmp_path / "checkpoint-4" / SOFTENING_FILE)
    last = load_file(tmp_path / "checkpoint-12" / SOFTENING_FILE)
    for name, value in loss_state(trainer).items():
        torch.testing.assert_close(value, saved[name], rtol=0, atol=0)
        assert not torch.equal(value, last[name])


def test_loss_parameters_are_not_parameters_of_the_model(tmp_path: Path) -> None:
    trainer = trained(tmp_path, "lcm")
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert in_optimizer == {id(parameter) for parameter in trainer.model.parameters()}
    trainer.save_model(str(tmp_path / "saved"))
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == bert().state_dict().keys()


def test_checkpoint_without_the_loss_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, "ls++", save_strategy="steps", save_steps=4)
    (tmp_path / "checkpoint-8" / SOFTENING_FILE).unlink()
    with pytest.raises(
        ValueError, match=r"checkpoint-8/softening_loss\.safetensors must hold the state of the loss, got: No such file"
    ):
        trained(tmp_path, "ls++", resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": ConfidencePenalty(3)}, "loss must have the model's 4 labels, got 3"),
        ({"label_smoothing_factor": 0.1}, r"label_smoothing_factor must be 0, got 0\.1"),
        ({"compute_loss_func": lambda *_, **__: 0}, "compute_loss_func must be None"),
    ],
)
def test_unsuitable_arguments_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, **{"loss": ConfidencePenalty(NUM_LABELS), **settings})


def test_several_devices_are_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="SofteningTrainer must run in one process, on one device, got 2"):
        SofteningTrainer(model=bert(), args=args, loss=ConfidencePenalty(NUM_LABELS))


def test_model_init_is_refused(tmp_path: Path) -> None:
    args, loss = arguments(tmp_path), ConfidencePenalty(NUM_LABELS)
    with pytest.raises(
        ValueError, match="model_init must be None: a second model would continue with the loss of the first"
    ):
        SofteningTrainer(model_init=lambda: bert(), args=args, loss=loss, train_dataset=rows())


def test_fp16_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, ConfidencePenalty(NUM_LABELS))
    trainer.args.fp16 = True  # TrainingArguments refuses it on a CPU
    with pytest.raises(ValueError, match="fp16 must be False, got True"):
        trainer._check_arguments()


def test_model_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="model must have a linear layer with 4 outputs, got Embedding"):
        last_linear(nn.Embedding(3, NUM_LABELS), NUM_LABELS)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_int32_labels_equal_int64_labels(tmp_path: Path, loss: str) -> None:
    def narrow(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        tensors = collate(batch)
        return {**tensors, "labels": tensors["labels"].int()}

    wide, trainer = (make_trainer(tmp_path / name, loss, bert(), max_steps=2) for name in ("wide", "narrow"))
    trainer.data_collator = narrow
    wide.train()
    trainer.train()
    torch.testing.assert_close(weights(trainer), weights(wide))


def test_features_per_token_are_refused(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=VOCAB_SIZE, n_embd=8, n_layer=1, n_head=2, pad_token_id=0)
    config.num_labels = NUM_LABELS
    trainer = make_trainer(tmp_path, "lcm", GPT2ForSequenceClassification(config))
    with pytest.raises(
        ValueError, match=r"input of the last linear layer must be \(batch, num_features\), got \(\d+, 6, 8\)"
    ):
        trainer.train()
