"""A tiny data set, tiny models and short runs, shared by the tests of the trainers and by their worker processes."""

import inspect
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from kr_text import KRTrainer
from kr_text.models import FastTextConfig, FastTextForSequenceClassification

NUM_LABELS, VOCAB_SIZE, SEQ_LEN = 4, 50, 6
LOGGED = ("loss_hard", "loss_residual", "loss_update", "js_divergence", "alpha")


def rows(num_rows: int = 32, seed: int = 0) -> Dataset:
    """Texts whose first token determines the class."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(2, VOCAB_SIZE, (num_rows, SEQ_LEN), generator=generator)
    return Dataset.from_dict({"input_ids": input_ids.tolist(), "labels": (input_ids[:, 0] % NUM_LABELS).tolist()})


def token_rows(num_rows: int = 16) -> Dataset:
    """Rows for token classification. Row i has i % SEQ_LEN ignored labels."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(2, VOCAB_SIZE, (num_rows, SEQ_LEN), generator=generator)
    labels = input_ids % NUM_LABELS
    for row in range(num_rows):
        labels[row, : row % SEQ_LEN] = -100
    return Dataset.from_dict({"input_ids": input_ids.tolist(), "labels": labels.tolist()})


def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}


def bert_config(dropout: float = 0.0) -> BertConfig:
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    config.num_labels = NUM_LABELS
    return config


def bert(dropout: float = 0.0) -> BertForSequenceClassification:
    set_seed(0)
    return BertForSequenceClassification(bert_config(dropout))


def token_bert() -> BertForTokenClassification:
    set_seed(0)
    return BertForTokenClassification(bert_config())


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


TRAINER_ARGUMENTS = inspect.signature(Trainer).parameters.keys() | inspect.signature(KRTrainer).parameters.keys()


def make_trainer(
    folder: Path, model: Any = None, data: Any = None, trainer_class: type[KRTrainer] = KRTrainer, **settings: Any
) -> KRTrainer:
    """Returns a trainer, by default of FastText on `rows()`. `settings` go to the trainer or to TrainingArguments."""
    own = {name: settings.pop(name) for name in TRAINER_ARGUMENTS & settings.keys()}
    if "model_init" not in own:
        own["model"] = model or fasttext()
    return trainer_class(
        args=arguments(folder, **settings),
        train_dataset=rows() if data is None else data,
        **{"data_collator": collate, **own},
    )


def trained(folder: Path, model: Any = None, data: Any = None, *, resume: bool = False, **settings: Any) -> KRTrainer:
    trainer = make_trainer(folder, model, data, **settings)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


class Interrupt(TrainerCallback):
    """Interrupts the first run between two micro-batches of its first step."""

    def __init__(self) -> None:
        self.interrupted = False

    def on_substep_end(self, *args: Any, **kwargs: Any) -> None:
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt


def matrix(trainer: KRTrainer) -> Tensor:
    assert trainer.criterion is not None
    return trainer.criterion.residual_matrix.detach()


def weights(trainer: Trainer) -> dict[str, Tensor]:
    model = trainer.model
    assert isinstance(model, nn.Module)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def training_logs(trainer: Trainer) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def numbers(trainer: Trainer) -> list[dict[str, float]]:
    """Returns all log entries without timings."""
    timed = ("runtime", "per_second")
    return [
        {name: value for name, value in entry.items() if not name.endswith(timed)}
        for entry in trainer.state.log_history
    ]
