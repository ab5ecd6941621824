"""One training run, from the data to the report."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import DatasetDict
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file
from scipy.special import softmax
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from kr_text.arguments import RunArguments
from kr_text.data import load
from kr_text.encoding import encode
from kr_text.metrics import classification_metrics, compute_metrics, confusion_matrix
from kr_text.models import MODELS, CharCNNConfig
from kr_text.recipes import recipe
from kr_text.reports import Epoch, Report, environment, peak_memory_mb, write_report
from kr_text.tokenization import character_tokenizer, word_tokenizer
from kr_text.trainer import RESIDUAL_FILE, KRTrainer
from kr_text.word_vectors import load_word_vectors

PREDICTIONS_FILE = "test_predictions.safetensors"
PATHS = {"output_dir", "resume_from_checkpoint"}  # arguments of one machine, not of the method


def train(run: RunArguments, args: TrainingArguments, *, command: str, started: float) -> Report:
    """Trains a classifier, keeps its best epoch by validation error, and writes all that a run leaves behind.

    `args.output_dir` then holds the model and its tokenizer, the residual matrix, the probabilities of the test rows,
    report.json and report.md, beside the Trainer's checkpoints.

    Args:
        run: what to train, on what, with which loss.
        args: how; its `output_dir` is where everything goes.
        command: the command line, for the report.
        started: when the run began, in `time.time()`'s seconds.

    Raises:
        ValueError: arguments or data that do not fit; FileExistsError: the folder holds a run already.
    """
    folder = Path(args.output_dir)
    checkpoint = _prepare_folder(folder, run, args)
    with args.main_process_first(desc="data"):
        data = load(
            run.dataset,
            text_column=run.text_column,
            label_column=run.label_column,
            validation_size=run.validation_size,
            max_train_rows=run.max_train_rows,
        )
        set_seed(args.seed)
        tokenizer, model = build(run, data)
        encoded = encode(data, tokenizer)
    trainer = KRTrainer(
        model=model,
        args=args,
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
        loss=run.loss,
        residual_learning_rate=run.residual_learning_rate,
    )
    training_time = trainer.train(resume_from_checkpoint=checkpoint).metrics["train_runtime"]
    began = time.time()
    prediction = trainer.predict(encoded["test"])
    evaluation_time = time.time() - began
    probabilities, labels = softmax(prediction.predictions.astype(np.float64), axis=1), np.asarray(prediction.label_ids)
    report = _report(run, args, trainer, data, probabilities, labels, command)
    report["wall_time_seconds"] = {
        "total": time.time() - started,
        "training": training_time,
        "evaluation": evaluation_time,
    }
    if trainer.is_world_process_zero():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if trainer.criterion is not None:
            save_file({"residual_matrix": trainer.criterion.residual_matrix.detach().cpu()}, folder / RESIDUAL_FILE)
        save_numpy({"probabilities": probabilities.astype(np.float32), "labels": labels}, folder / PREDICTIONS_FILE)
        write_report(report, folder)
    return report


def build(run: RunArguments, data: DatasetDict) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """The tokenizer, built from the training rows or loaded, and the model, at random or pretrained."""
    sizes = recipe(run.model, run.dataset)
    tokenizer_sizes = {**sizes.tokenizer, **({"max_length": run.max_length} if run.max_length else {})}
    names = data["train"].features["label"].names
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    if run.model not in MODELS:
        return _pretrained(run, labels, tokenizer_sizes["max_length"])
    config_class, model_class = MODELS[run.model]
    config = config_class(**sizes.config, **labels)
    if run.config_overrides:
        config.update_from_string(run.config_overrides)
    if isinstance(config, CharCNNConfig):
        tokenizer = character_tokenizer(max_length=config.num_frames)
    else:
        batches = (batch["text"] for batch in data["train"].iter(batch_size=1000))
        tokenizer = word_tokenizer(batches, **tokenizer_sizes)
    config.vocab_size = len(tokenizer)
    model = model_class(config)
    if run.word_vectors:
        load_word_vectors(model, tokenizer, run.word_vectors)
    return tokenizer, model


def _pretrained(
    run: RunArguments, labels: dict[str, Any], max_length: int
) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(run.model)
        config = AutoConfig.from_pretrained(run.model, **labels)
        if run.config_overrides:
            config.update_from_string(run.config_overrides)
        model = AutoModelForSequenceClassification.from_pretrained(
            run.model, config=config, ignore_mismatched_sizes=True
        )
    except OSError as error:
        raise ValueError(
            f"model must be one of {', '.join(MODELS)}, or a pretrained model's folder or id, got {run.model!r}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    tokenizer.model_max_length = min(max_length, tokenizer.model_max_length)
    return tokenizer, model


def _prepare_folder(folder: Path, run: RunArguments, args: TrainingArguments) -> str | None:
    """The checkpoint to resume from, if any; refuses a folder that holds a run, unless told what to do with it."""
    if args.resume_from_checkpoint:
        return args.resume_from_checkpoint
    checkpoint = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if run.resume:
        if checkpoint is None:
            raise ValueError(f"{folder} must hold a checkpoint to resume from, and holds none; leave out --resume")
        return checkpoint
    if checkpoint or (folder / "report.json").exists():
        if not run.overwrite:
            raise FileExistsError(
                f"{folder} holds a run already; give --resume to go on, --overwrite to replace it, or --output_dir"
            )
        for path in folder.glob("checkpoint-*"):
            shutil.rmtree(path)
        (folder / "report.json").unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return None


def _report(
    run: RunArguments,
    args: TrainingArguments,
    trainer: KRTrainer,
    data: DatasetDict,
    probabilities: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    command: str,
) -> Report:
    names = data["train"].features["label"].names
    criterion = trainer.criterion
    model = trainer.accelerator.unwrap_model(trainer.model)
    epochs = _epochs(trainer.state.log_history)
    return {
        "command": command,
        "model": {"name": run.model, "num_parameters": sum(p.numel() for p in model.parameters())},
        "dataset": {
            "name": Path(run.dataset).name,
            "class_names": names,
            "num_train_rows": data["train"].num_rows,
            "num_validation_rows": data["validation"].num_rows,
            "num_test_rows": data["test"].num_rows,
        },
        "loss": {"name": run.loss, "settings": {} if criterion is None else criterion.settings()},
        "seed": args.seed,
        "device": args.device.type,
        "hyper_parameters": _hyper_parameters(args),
        "best_epoch": min(epochs, key=lambda epoch: epoch["validation_error_rate"] or 0.0)["epoch"],
        "epochs": epochs,
        "test_metrics": dict(classification_metrics(probabilities, labels)),
        "confusion_matrix": confusion_matrix(probabilities, labels, len(names)).tolist(),
        "residual_labels": None if criterion is None else criterion.residual_labels().tolist(),
        "wall_time_seconds": {"total": 0.0, "training": 0.0, "evaluation": 0.0},
        "peak_memory_mb": peak_memory_mb(),
        "environment": environment(),
    }


def _epochs(log_history: list[dict[str, float]]) -> list[Epoch]:
    """What the Trainer logged at each evaluation, with the training loss logged last before it."""
    epochs: list[Epoch] = []
    training_loss = None
    for entry in log_history:
        training_loss = entry.get("loss", training_loss)
        if "eval_error_rate" in entry:
            epochs.append(
                {
                    "epoch": entry["epoch"],
                    "training_loss": training_loss,
                    "validation_loss": entry["eval_loss"],
                    "validation_error_rate": entry["eval_error_rate"],
                }
            )
    return epochs


def _hyper_parameters(args: TrainingArguments) -> dict[str, Any]:
    """The training arguments that differ from the Trainer's defaults."""
    defaults = TrainingArguments(output_dir="").to_dict()
    given = args.to_dict()
    return {name: value for name, value in given.items() if name not in PATHS and value != defaults[name]}
