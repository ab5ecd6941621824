import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from kr_text import KRLoss, KRTrainer
from kr_text.models import FastTextConfig, FastTextForSequenceClassification
from kr_text.schedules import Truncated
from kr_text.trainer import RESIDUAL_FILE

NUM_LABELS, VOCAB_SIZE, SEQ_LEN = 4, 50, 6
LOGGED = ("loss_hard", "loss_residual", "loss_update", "js_divergence", "alpha")


def rows(num_rows: int = 32, seed: int = 0) -> Dataset:
    """Texts whose first word tells the class, and classes that come in pairs."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(2, VOCAB_SIZE, (num_rows, SEQ_LEN), generator=generator)
    return Dataset.from_dict({"input_ids": input_ids.tolist(), "labels": (input_ids[:, 0] % NUM_LABELS).tolist()})


def token_rows(num_rows: int = 16) -> Dataset:
    """Rows for token classification with ever more ignored labels."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(2, VOCAB_SIZE, (num_rows, SEQ_LEN), generator=generator)
    labels = input_ids % NUM_LABELS
    for row in range(num_rows):
        labels[row, : row % SEQ_LEN] = -100
    return Dataset.from_dict({"input_ids": input_ids.tolist(), "labels": labels.tolist()})


def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}


def bert_config() -> BertConfig:
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = NUM_LABELS
    return config


def bert() -> BertForSequenceClassification:
    set_seed(0)
    return BertForSequenceClassification(bert_config())


def fasttext() -> FastTextForSequenceClassification:
    set_seed(0)
    return FastTextForSequenceClassification(
        FastTextConfig(vocab_size=VOCAB_SIZE, embedding_dim=8, num_buckets=100, num_labels=NUM_LABELS)
    )


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "num_train_epochs": 2,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "use_cpu": True,
        "seed": 0,
    }
    return TrainingArguments(output_dir=str(folder), **{**defaults, **settings})


def trained(
    folder: Path, model: PreTrainedModel | None = None, data: Dataset | None = None, **settings: Any
) -> KRTrainer:
    own = {name: settings.pop(name) for name in ("loss", "residual_learning_rate", "callbacks") if name in settings}
    trainer = KRTrainer(
        model=model or fasttext(),
        args=arguments(folder, **settings),
        train_dataset=data or rows(),
        data_collator=collate,
        **own,
    )
    trainer.train()
    return trainer


def matrix(trainer: KRTrainer) -> Tensor:
    assert trainer.criterion is not None
    return trainer.criterion.residual_matrix.detach()


def weights(trainer: Trainer) -> dict[str, Tensor]:
    model = trainer.model
    assert isinstance(model, nn.Module)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def training_logs(trainer: Trainer) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("make_model", [fasttext, bert])
def test_one_batch_equals_its_micro_batches(tmp_path: Path, make_model: Any) -> None:
    whole = trained(tmp_path, make_model(), max_steps=3, optim="sgd")
    parts = trained(
        tmp_path, make_model(), max_steps=3, optim="sgd", per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(parts), matrix(whole), rtol=0, atol=1e-6)
    assert matrix(whole).abs().max() > 1e-3
    for of_parts, of_whole in zip(training_logs(parts), training_logs(whole), strict=True):
        for name in ("loss", *LOGGED):
            assert of_parts[name] == pytest.approx(of_whole[name], abs=1e-6)


def test_micro_batches_with_unevenly_ignored_labels_equal_one_batch(tmp_path: Path) -> None:
    models = []
    for settings in (
        {"per_device_train_batch_size": 8},
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3},
    ):
        set_seed(0)
        model = BertForTokenClassification(bert_config())
        data = token_rows(8)  # one step: 8 rows at once, or 3 + 3 + 2
        models.append(trained(tmp_path, model, data, num_train_epochs=1, optim="sgd", **settings))
    torch.testing.assert_close(weights(models[1]), weights(models[0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix(models[1]), matrix(models[0]), rtol=0, atol=1e-6)


def test_steps_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_train_epochs": 3, "optim": "sgd", "max_grad_norm": 0.0}
    criterion = KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5)
    trainer = trained(tmp_path, bert(), rows(8), loss=criterion, lr_scheduler_type="constant", **settings)
    model, criterion = bert(), KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5)
    batch = collate(rows(8).to_list())
    of_network = torch.optim.SGD(model.parameters(), lr=1e-2)
    of_matrix = torch.optim.Adam(criterion.parameters(), lr=1e-2)
    for epoch in range(3):  # of one batch
        criterion.set_epoch(epoch)
        loss = criterion(model(batch["input_ids"]).logits, batch["labels"])
        loss.backward()
        for optimizer in (of_network, of_matrix):
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
    timed = ("train_runtime", "train_samples_per_second", "train_steps_per_second")
    without_times = [
        [{name: value for name, value in entry.items() if name not in timed} for entry in trainer.state.log_history]
        for trainer in (ours, plain)
    ]
    assert without_times[0] == without_times[1]


def test_ls_is_label_smoothing_factor(tmp_path: Path) -> None:
    ours = trained(tmp_path, bert(), loss="ls")
    args = arguments(tmp_path, label_smoothing_factor=0.1)
    plain = Trainer(model=bert(), args=args, train_dataset=rows(), data_collator=collate)
    plain.train()
    torch.testing.assert_close(weights(ours), weights(plain), rtol=0, atol=1e-6)
    assert matrix(ours).eq(0).all()


def test_named_losses_have_the_papers_settings(tmp_path: Path) -> None:
    settings = {}
    for name in ("ls", "kr", "kr-ls"):
        criterion = KRTrainer(model=fasttext(), args=arguments(tmp_path), loss=name).criterion
        assert criterion is not None
        settings[name] = (criterion.label_smoothing, criterion.schedule(0), round(criterion.schedule(1), 12))
    assert settings == {"ls": (0.1, 0.0, 0.0), "kr": (0.0, 1.0, 0.99), "kr-ls": (0.1, 1.0, 0.99)}
    assert KRTrainer(model=fasttext(), args=arguments(tmp_path), loss="ce").criterion is None


def test_logged_terms_add_up_to_the_loss(tmp_path: Path) -> None:
    logs = training_logs(trained(tmp_path, loss=KRLoss(NUM_LABELS, alpha=0.5), logging_steps=3))
    assert logs
    for entry in logs:
        total = entry["loss_hard"] + entry["alpha"] * (entry["loss_residual"] + entry["loss_update"])
        assert entry["loss"] == pytest.approx(total, abs=2e-3)  # alpha is a mean over steps of two epochs
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


def test_the_loss_is_not_the_models(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    assert isinstance(trainer.model, FastTextForSequenceClassification)
    assert trainer.optimizer is not None
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert id(matrix(trainer)) not in in_optimizer
    assert len(in_optimizer) == len(list(fasttext().parameters()))
    trainer.save_model(str(tmp_path / "saved"))
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == fasttext().state_dict().keys()


def test_evaluation_is_plain_cross_entropy(tmp_path: Path) -> None:
    trainer = trained(tmp_path, bert())
    batch = collate(rows(20, seed=1).to_list())
    metrics = trainer.evaluate(rows(20, seed=1))
    with torch.no_grad():
        logits = trainer.model.eval()(batch["input_ids"]).logits  # type: ignore[union-attr]  # it has a model
    assert metrics["eval_loss"] == pytest.approx(F.cross_entropy(logits, batch["labels"]).item(), abs=1e-6)
    prediction = trainer.predict(rows(20, seed=1))
    torch.testing.assert_close(torch.tensor(prediction.predictions), logits, rtol=0, atol=1e-6)


def test_any_module_whose_output_has_logits_can_be_trained(tmp_path: Path) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.EmbeddingBag(VOCAB_SIZE, NUM_LABELS)

        def forward(self, input_ids: Tensor) -> SequenceClassifierOutput:
            return SequenceClassifierOutput(logits=self.embedding(input_ids))

    set_seed(0)
    trainer = KRTrainer(
        model=Plain(),
        args=arguments(tmp_path, remove_unused_columns=False),
        train_dataset=rows(),
        data_collator=collate,
        loss=KRLoss(NUM_LABELS),
    )
    trainer.train()
    assert training_logs(trainer)[-1]["loss"] < training_logs(trainer)[0]["loss"]
    assert matrix(trainer).abs().max() > 0


class Stop(TrainerCallback):
    """Ends the training the hard way once a checkpoint stands."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("saved_at", "accumulation"), [(3, 1), (4, 1), (2, 2)])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, saved_at: int, accumulation: int) -> None:
    settings: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": saved_at,
        "gradient_accumulation_steps": accumulation,
        "loss": KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5),
    }
    whole = trained(tmp_path / "whole", bert(), **settings)
    settings["loss"] = KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", bert(), callbacks=[Stop(saved_at)], **settings)
    trainer = KRTrainer(
        model=bert(),
        args=arguments(
            tmp_path / "parts",
            save_strategy="steps",
            save_steps=saved_at,
            gradient_accumulation_steps=accumulation,
        ),
        train_dataset=rows(),
        data_collator=collate,
        loss=KRLoss(NUM_LABELS, label_smoothing=0.1, gamma=0.5),
    )
    trainer.train(resume_from_checkpoint=True)
    torch.testing.assert_close(weights(trainer), weights(whole), rtol=0, atol=0)
    torch.testing.assert_close(matrix(trainer), matrix(whole), rtol=0, atol=0)
    resumed, straight = (each.residual_optimizer.state_dict()["state"] for each in (trainer, whole))
    torch.testing.assert_close(resumed, straight, rtol=0, atol=0)
    assert training_logs(trainer) == training_logs(whole)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    trained(tmp_path, save_strategy="steps", save_steps=4)
    return tmp_path / "checkpoint-4"


def resume(checkpoint: Path, **settings: Any) -> KRTrainer:
    trainer = KRTrainer(
        model=fasttext(), args=arguments(checkpoint.parent), train_dataset=rows(), data_collator=collate, **settings
    )
    trainer.train(resume_from_checkpoint=str(checkpoint))
    return trainer


def test_checkpoint_holds_the_matrix_and_its_optimizer(checkpoint: Path) -> None:
    saved = load_file(checkpoint / RESIDUAL_FILE)
    assert saved["residual_matrix"].shape == (NUM_LABELS, NUM_LABELS)
    assert saved["residual_matrix"].abs().max() > 0
    assert saved["adam.step"] == 4
    assert saved["adam.exp_avg_sq"].max() > 0


def test_checkpoint_with_a_truncated_matrix_is_refused(checkpoint: Path) -> None:
    path = checkpoint / RESIDUAL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"residual_matrix\.safetensors must hold the residual matrix.*start anew"):
        resume(checkpoint)


def test_checkpoint_without_a_matrix_is_refused(checkpoint: Path) -> None:
    (checkpoint / RESIDUAL_FILE).unlink()
    with pytest.raises(ValueError, match=r"must hold the residual matrix.*resume from another checkpoint"):
        resume(checkpoint)


def test_checkpoint_of_another_number_of_classes_is_refused(checkpoint: Path) -> None:
    saved = load_file(checkpoint / RESIDUAL_FILE)
    save_file({**saved, "residual_matrix": torch.zeros(5, 5)}, checkpoint / RESIDUAL_FILE)
    with pytest.raises(ValueError, match=r"must be \(4, 4\), got \(5, 5\)"):
        resume(checkpoint)


def test_best_model_comes_with_its_matrix(tmp_path: Path) -> None:
    set_seed(0)
    trainer = KRTrainer(
        model=fasttext(),
        args=arguments(
            tmp_path,
            num_train_epochs=3,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="eval_loss",
            greater_is_better=True,  # the first epoch, whose loss is the largest
        ),
        train_dataset=rows(),
        eval_dataset=rows(),
        data_collator=collate,
    )
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best is not None
    assert json.loads((Path(best) / "trainer_state.json").read_text())["epoch"] == 1
    torch.testing.assert_close(matrix(trainer), load_file(Path(best) / RESIDUAL_FILE)["residual_matrix"])


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
        ({"loss": KRLoss(3)}, "loss must be for the model's 4 labels, got one for 3"),
        ({"compute_loss_func": lambda *_, **__: 0}, "compute_loss_func must be None"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KRTrainer(model=fasttext(), args=arguments(tmp_path), **settings)


def test_label_smoothing_beside_the_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing_factor must be 0 beside this loss, got 0\.1"):
        KRTrainer(model=fasttext(), args=arguments(tmp_path, label_smoothing_factor=0.1))


def test_data_parallel_is_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="accelerate launch"):
        KRTrainer(model=fasttext(), args=args)


def test_batch_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a batch must have 'labels', got input_ids"):
        trained(tmp_path, data=rows().remove_columns("labels"))


def test_class_weights_are_averaged_as_cross_entropy_averages_them(tmp_path: Path) -> None:
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
