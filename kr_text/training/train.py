"""One training run, from the data to the report."""

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import DatasetDict
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file
from scipy.special import softmax
from transformers import (
    Trainer,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from kr_text.data.sources import fingerprint, load
from kr_text.evaluation.calibration import at_temperature, fit_temperature
from kr_text.evaluation.label_matrices import LabelMatrices
from kr_text.evaluation.metrics import classification_metrics, compute_metrics, confusion_matrix, only_logits
from kr_text.formats.markdown import Number
from kr_text.formats.overrides import parse_overrides
from kr_text.losses.by_name import make_loss
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.machine.environment import environment
from kr_text.machine.process import peak_memory_mb
from kr_text.text.batches import Batches, batches_for, whole_batch
from kr_text.text.encoding import encode
from kr_text.trainer.kr_trainer import LOGGED_TERMS
from kr_text.trainer.mutual_pair import MutualPair
from kr_text.trainer.residual_checkpoint import RESIDUAL_FILE
from kr_text.training.arguments import GROUP_BY_LENGTH, RunArguments, default_training
from kr_text.training.batches_trainer import ClassifierTrainers, make_trainer
from kr_text.training.build import build, make_optimizer, teacher_logits
from kr_text.training.checkpointed import TrainingClock
from kr_text.training.matrix_recorder import LabelMatrixRecorder
from kr_text.training.report import Epoch, Report, write_report
from kr_text.training.settings import check_same_data, check_same_run, hyper_parameters, save_settings

PREDICTIONS_FILE = "test_predictions.safetensors"


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
    default_training()  # where parse_training has not made the arguments: before there is a Trainer
    folder = Path(cast(str, args.output_dir))
    with args.main_process_first(desc="data"):
        checkpoint = _checkpoint_to_resume(folder, run, args)
        data = load_for(run)
        data_fingerprint = fingerprint(data)
        if checkpoint and _is_in(folder, checkpoint):
            check_same_data(data_fingerprint, folder)
        set_seed(args.seed)
        tokenizer, model = build(run, data)
        pair = MutualPair(model, build(run, data)[1]) if run.loss == "dml" else None
        extra = {"teacher_logits": teacher_logits(run.teacher, data["train"])} if run.teacher else None
        encoded = encode(data, tokenizer)
    names = data["train"].features["label"].names
    del data  # whose files would stay in memory
    rows = {split: encoded[split].with_format("arrow") for split in encoded}
    batches = partial(batches_for, model, tokenizer)
    settings = parse_overrides(run.loss_overrides, "loss_overrides")
    criterion = make_loss(run.loss, model, len(names), settings)
    clock = TrainingClock()
    recorder = LabelMatrixRecorder() if run.label_matrices else None
    trainer = make_trainer(
        run,
        criterion,
        model=pair or model,
        args=args,
        train_dataset=batches(rows["train"][:], extra),
        eval_dataset=batches(rows["validation"][:]),
        data_collator=whole_batch,
        processing_class=tokenizer,
        compute_metrics=recorder or compute_metrics,
        callbacks=[clock, *([recorder] if recorder else [])],
        optimizers=(make_optimizer(pair or model, args), None),
    )
    if recorder is not None:
        recorder.trainer = trainer
    if trainer.is_world_process_zero():
        if not (checkpoint and _is_in(folder, checkpoint)):
            _empty(folder)
        save_settings(run, args, data_fingerprint, folder)
    training_time = trainer.train(resume_from_checkpoint=checkpoint).metrics["train_runtime"] + clock.seconds_before
    matrices = recorder.matrices.copy() if recorder else None  # the predictions below add to it
    began = time.time()
    validation, test = (_predict(trainer, rows[split][:], batches) for split in ("validation", "test"))
    evaluation_time = time.time() - began
    report = _report(run, args, trainer, names, encoded, validation, test, matrices, command)
    report["wall_time_seconds"] = {
        "total": time.time() - started + clock.seconds_before,
        "training": training_time,
        "evaluation": evaluation_time,
    }
    if trainer.is_world_process_zero():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if isinstance(criterion, KRLoss):
            save_file({"residual_matrix": criterion.residual_matrix.detach().cpu()}, folder / RESIDUAL_FILE)
        save_numpy({"probabilities": test.probabilities, "labels": test.labels}, folder / PREDICTIONS_FILE)
        write_report(report, folder)
    return report


def load_for(run: RunArguments) -> DatasetDict:
    """The data of a run."""
    return load(
        run.dataset,
        text_column=run.text_column,
        label_column=run.label_column,
        validation_size=run.validation_size,
        max_train_rows=run.max_train_rows,
    )


def _checkpoint_to_resume(folder: Path, run: RunArguments, args: TrainingArguments) -> str | None:
    """The checkpoint to resume from, if any; refuses a folder that holds a run, unless told what to do with it."""
    checkpoint = args.resume_from_checkpoint or (last_checkpoint(folder) if run.resume else None)
    if run.resume and checkpoint is None:
        raise ValueError(f"{folder} must hold a checkpoint to resume from, and holds none; leave out --resume")
    if checkpoint and _is_in(folder, checkpoint):
        check_same_run(run, folder)
    elif not run.overwrite and (any(folder.glob("checkpoint-*")) or (folder / "report.json").exists()):
        raise FileExistsError(
            f"{folder} holds a run already; give --resume to go on, --overwrite to replace it, or --output_dir"
        )
    return checkpoint


def _is_in(folder: Path, checkpoint: str) -> bool:
    return Path(checkpoint).resolve().parent == folder.resolve()


def _empty(folder: Path) -> None:
    """Removes the run that a folder holds, now that nothing is left to check of the one that takes its place."""
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
    for name in ("report.json", "report.md", "config.json", "model*.safetensors*", RESIDUAL_FILE, PREDICTIONS_FILE):
        for path in folder.glob(name):
            path.unlink()


def last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that is whole: the Trainer writes its state at the end of each."""
    whole = (str(state.parent) for state in folder.glob("checkpoint-*/trainer_state.json") if _is_json(state))
    return max(whole, key=lambda path: int(path.rpartition("-")[2]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


class _Predictions(NamedTuple):
    logits: npt.NDArray[np.float64]  # (N, K)
    labels: npt.NDArray[np.int64]  # (N,)

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        return np.asarray(softmax(self.logits, axis=1))


def _predict(trainer: Trainer, rows: pa.Table, batches: Callable[[pa.Table], Batches]) -> _Predictions:
    """Logits and labels of all encoded rows, in their order.

    The Trainer's own order would be that of its sampler: under "group_by_length" a shuffle that depends on the seed.
    """
    changed = (*GROUP_BY_LENGTH, "dataloader_drop_last", "prediction_loss_only")
    given = {name: getattr(trainer.args, name) for name in changed}
    for name in given:
        setattr(trainer.args, name, getattr(TrainingArguments, name))  # the default
    order = np.argsort(-rows["length"].to_numpy(), kind="stable")  # like lengths together
    prediction = trainer.predict(cast(Any, batches(rows.take(order))))
    for name, value in given.items():
        setattr(trainer.args, name, value)
    sorted_logits = only_logits(prediction.predictions)  # (N, K)
    logits, labels = np.empty(sorted_logits.shape), np.empty(len(order), dtype=np.int64)
    logits[order] = sorted_logits
    labels[order] = cast(npt.NDArray[np.int64], prediction.label_ids)
    return _Predictions(logits, labels)


def _report(
    run: RunArguments,
    args: TrainingArguments,
    trainer: ClassifierTrainers,
    names: list[str],
    data: DatasetDict,
    validation: _Predictions,
    test: _Predictions,
    matrices: list[LabelMatrices] | None,
    command: str,
) -> Report:
    criterion, settings = trainer.criterion, {}
    if criterion is not None:
        settings = {**criterion.settings(), "residual_learning_rate": run.residual_learning_rate}
    learns = isinstance(criterion, KRLoss) and bool(criterion.residual_matrix.any())  # zero: it never took a step
    learned = cast(KRLoss, criterion).residual_labels().tolist() if learns else None
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    model = model.first if isinstance(model, MutualPair) else model  # what is kept of a pair
    temperature = fit_temperature(*validation)
    scaled = classification_metrics(at_temperature(test.logits, temperature), test.labels)
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
        "loss": {"name": run.loss, "settings": settings},
        "seed": args.seed,
        "device": args.device.type,
        "hyper_parameters": hyper_parameters(args),
        "best_epoch": _kept_epoch(trainer.state, args),
        "epochs": _epochs(trainer.state.log_history),
        "validation_metrics": dict(classification_metrics(validation.probabilities, validation.labels)),
        "test_metrics": dict(classification_metrics(test.probabilities, test.labels)),
        "temperature_scaling": {"temperature": temperature, "test_metrics": dict(scaled)},
        "confusion_matrix": confusion_matrix(test.probabilities, test.labels, len(names)).tolist(),
        "residual_labels": learned,
        "label_matrices": matrices,
        "wall_time_seconds": {"total": 0.0, "training": 0.0, "evaluation": 0.0},
        "peak_memory_mb": peak_memory_mb(),
        "environment": environment(),
    }


def _kept_epoch(state: TrainerState, args: TrainingArguments) -> float:
    """The epoch after which the model was as it is now: the best by `metric_for_best_model`, or the last."""
    best = {entry["step"]: entry["epoch"] for entry in state.log_history if "eval_error_rate" in entry}
    kept = state.best_global_step if args.load_best_model_at_end and state.best_model_checkpoint else None
    return best[kept] if kept is not None else state.epoch or 0.0


def _epochs(log_history: list[dict[str, float]]) -> list[Epoch]:
    """What the Trainer logged at each evaluation, with the training loss logged last before it."""
    epochs: list[Epoch] = []
    training_loss: float | None = None
    terms: dict[str, Number] = {}
    for entry in log_history:
        if "loss" in entry:
            training_loss, terms = entry["loss"], {name: entry[name] for name in LOGGED_TERMS if name in entry}
        if "eval_error_rate" in entry:
            epochs.append(
                {
                    "epoch": entry["epoch"],
                    "training_loss": training_loss,
                    "loss_terms": terms,
                    "validation_loss": entry["eval_loss"],
                    "validation_error_rate": entry["eval_error_rate"],
                }
            )
    return epochs
