from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import (
    TrainingArguments,
)

from kr_text.data.sources import load
from kr_text.text.batches import ShuffledRows, batches_for, whole_batch
from kr_text.text.encoding import encode
from kr_text.training.arguments import parse_training
from kr_text.training.batches_trainer import ClassifierTrainer
from kr_text.training.checkpointed import TrainingClock
from kr_text.training.fit import classifier_trainer
from kr_text.training.prepare import prepare
from kr_text.training.resume import Start
from training_cases import OVERRIDES, Train, build_from, predictions

NO_GROUPS = (
    ("--train_sampling_strategy", "random")
    if hasattr(TrainingArguments, "train_sampling_strategy")
    else ("--group_by_length", "no")
)


def test_rows_are_grouped_by_length_by_default(news: Path, tmp_path: Path) -> None:
    for strategy, sampler in (((), ShuffledRows), (NO_GROUPS, torch.utils.data.RandomSampler)):
        flags = ["--dataset", str(news), "--model", "textrnn", "--output_dir", str(tmp_path), "--eval_strategy", "no"]
        tokenizer, model = build_from(news, "--model", "textrnn")
        flags += ["--load_best_model_at_end", "no", *strategy]
        _, args = parse_training(flags, "kr-text train")
        rows = batches_for(model, tokenizer, encode(load(news), tokenizer)["train"].with_format("arrow")[:])
        trainer = ClassifierTrainer(model=model, args=args, train_dataset=cast(Any, rows), data_collator=whole_batch)
        assert isinstance(trainer._get_train_sampler(), sampler)


@pytest.mark.parametrize(
    "flags", [["--dataloader_drop_last", "true", "--per_device_eval_batch_size", "7"], ["--max_grad_norm", "1"]]
)
def test_evaluation_covers_all_rows_whatever_the_flags(tmp_path: Path, train_small: Train, flags: list[str]) -> None:
    report = train_small(tmp_path, *flags)
    assert len(predictions(tmp_path)[1]) == report["dataset"]["num_test_rows"] == 60
    kept = report["epochs"][int(report["best_epoch"]) - 1]
    assert kept["validation_loss"] == pytest.approx(report["validation_metrics"]["nll"], abs=1e-5)


def test_predictions_cover_all_rows_in_order_and_leave_the_arguments_alone(
    news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--model", "textrnn", "--config_overrides", OVERRIDES["textrnn"], "--dataloader_drop_last", "true"]
    flags += ["--prediction_loss_only", "true", "--per_device_eval_batch_size", "7", "--disable_tqdm", "true"]
    run, args = parse_training(["--dataset", str(news), *flags, "--output_dir", str(tmp_path)], "kr-text train")
    prepared = prepare(run, args, Start(tmp_path, None))
    trainer = classifier_trainer(run, args, prepared, TrainingClock(), None)
    before = args.to_dict()

    def refuse(args: TrainingArguments, name: str, value: object) -> None:
        pytest.fail(f"{name} is set to {value}")

    monkeypatch.setattr(TrainingArguments, "__setattr__", refuse)
    logits, labels = trainer.predict_logits(prepared.batches(prepared.rows("test")))
    assert args.to_dict() == before
    assert labels.tolist() == prepared.encoded["test"]["labels"]
    with torch.no_grad():
        (batch,) = prepared.batches(prepared.rows("test")).__getitems__(range(60))
        expected = prepared.model.eval()(**batch)["logits"].double().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)
