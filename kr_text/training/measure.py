"""Measures a trained classifier on validation and test rows, and makes the report of its run."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from transformers import TrainerState, TrainingArguments

from kr_text.evaluation.calibration import at_temperature, fit_temperature
from kr_text.evaluation.classes import class_metrics, most_confident_mistakes
from kr_text.evaluation.metrics import classification_metrics, confusion_matrix
from kr_text.formats.markdown import Number
from kr_text.machine.environment import Environment
from kr_text.machine.process import peak_memory_mb
from kr_text.models.tokenizer import window_stride
from kr_text.trainer.kr_trainer import LOGGED_TERMS
from kr_text.training.batches_trainer import BatchesTrainer, ClassifierTrainers
from kr_text.training.fit import Fitted
from kr_text.training.prepare import Prepared
from kr_text.training.report import Dataset, Epoch, LongTexts, Loss, Mistake, Report, Stopping, TemperatureScaling
from kr_text.training.run_arguments import RunArguments
from kr_text.training.settings import hyper_parameters

NUM_MISTAKES, MAX_TEXT = 10, 200  # mistakes in the report, and characters of their texts


class Launch(NamedTuple):
    """How, when and where a run was started.

    Attributes:
        command: Command line.
        started: Time of the start, as returned by `time.time()`.
        environment: Versions and hardware.
    """

    command: str
    started: float
    environment: Environment


class Predictions(NamedTuple):
    """Predictions for the rows of a split, in their order.

    Attributes:
        logits: (N, K).
        labels: (N,), the true classes.
    """

    logits: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """(N, K): softmax of the logits."""
        return np.asarray(softmax(self.logits, axis=1))


class Measured(NamedTuple):
    """Predictions of the kept model, and the seconds they took; no validation rows if the model trained on them."""

    validation: Predictions | None
    test: Predictions
    seconds: float


def measure(trainer: ClassifierTrainers, prepared: Prepared) -> Measured:
    """Predicts the validation and test rows."""
    began = time.time()
    validation = predict(trainer, prepared, "validation") if "validation" in prepared.encoded else None
    test = predict(trainer, prepared, "test")
    return Measured(validation, test, time.time() - began)


def predict(trainer: BatchesTrainer, prepared: Prepared, split: str) -> Predictions:
    """Predicts the rows of a split in batches of rows of similar length."""
    rows = prepared.rows(split)
    order = np.argsort(-rows["length"].to_numpy(), kind="stable")
    sorted_logits, sorted_labels = trainer.predict_logits(prepared.batches(rows.take(order)))
    if "text_index" in rows.column_names:  # the trainer returns texts, in their order
        return Predictions(sorted_logits, sorted_labels)
    logits, labels = np.empty(sorted_logits.shape), np.empty(len(order), dtype=np.int64)
    logits[order], labels[order] = sorted_logits, sorted_labels
    return Predictions(logits, labels)


def make_report(run: RunArguments, launch: Launch, prepared: Prepared, fitted: Fitted, measured: Measured) -> Report:
    """The report of a run."""
    trainer, (validation, test, seconds) = fitted.trainer, measured
    args, criterion = trainer.args, trainer.criterion
    learned = None if criterion is None else criterion.learned_residual_labels()
    counts = confusion_matrix(test.probabilities, test.labels, len(prepared.class_names))
    return {
        "command": launch.command,
        "model": {"name": run.model, "num_parameters": sum(p.numel() for p in prepared.model.parameters())},
        "dataset": _dataset(run, prepared),
        "long_texts": _long_texts(prepared),
        "loss": _loss(run, trainer),
        "seed": args.seed,
        "device": args.device.type,
        "hyper_parameters": hyper_parameters(args),
        "class_sampling": run.class_sampling,
        "early_stopping": _early_stopping(run, trainer.state),
        "best_epoch": kept_epoch(trainer.state, args),
        "epochs": epochs(trainer.state.log_history, best_metric(args)),
        "validation_metrics": _metrics(test, known=False) if validation is None else _metrics(validation),
        "test_metrics": _metrics(test),
        "temperature_scaling": _temperature_scaling(validation, test),
        "class_metrics": class_metrics(counts, prepared.class_names),
        "mistakes": _mistakes(prepared, test),
        "confusion_matrix": counts.tolist(),
        "residual_labels": None if learned is None else learned.tolist(),
        "label_matrices": fitted.label_matrices,
        "wall_time_seconds": {
            "total": time.time() - launch.started + fitted.seconds_before,
            "training": fitted.seconds,
            "evaluation": seconds,
        },
        "peak_memory_mb": peak_memory_mb(),
        "environment": launch.environment,
    }


def _dataset(run: RunArguments, prepared: Prepared) -> Dataset:
    num_rows, findings = prepared.num_texts, prepared.findings
    return {
        "name": Path(run.dataset).name,
        "class_names": prepared.class_names,
        "num_train_rows": num_rows["train"],
        "num_validation_rows": num_rows.get("validation", 0),
        "num_test_rows": num_rows["test"],
        "num_unlabelled_test_rows": 0 if findings.unlabelled is None else findings.unlabelled.num_rows,
        "left_out_rows": findings.left_out,
        "duplicates": findings.duplicates,
    }


def _long_texts(prepared: Prepared) -> LongTexts:
    tokenizer = prepared.tokenizer
    return {
        "max_length": tokenizer.model_max_length,
        "window_stride": window_stride(tokenizer),
        "num_train": prepared.num_long("train"),
        "num_validation": prepared.num_long("validation") if "validation" in prepared.encoded else 0,
        "num_test": prepared.num_long("test"),
    }


def _loss(run: RunArguments, trainer: ClassifierTrainers) -> Loss:
    if trainer.criterion is None:
        return {"name": run.loss, "settings": {}}
    settings = {**trainer.criterion.settings(), "residual_learning_rate": run.residual_learning_rate}
    return {"name": run.loss, "settings": settings}


def _mistakes(prepared: Prepared, test: Predictions) -> list[Mistake]:
    """The most confident mistakes on the test rows, of which only these are read."""
    probabilities, names = test.probabilities, prepared.class_names
    rows = most_confident_mistakes(probabilities, test.labels, NUM_MISTAKES)
    return [
        {
            "text": shorten(text),
            "label": names[test.labels[row]],
            "prediction": names[probabilities[row].argmax()],
            "probability": float(probabilities[row].max()),
        }
        for row, text in zip(rows, prepared.test_rows[rows]["text"], strict=True)
    ]


def shorten(text: str) -> str:
    """The text, or its first 199 characters and an ellipsis."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _metrics(predictions: Predictions, *, known: bool = True) -> dict[str, Number]:
    metrics = classification_metrics(predictions.probabilities, predictions.labels)
    return dict(metrics) if known else dict.fromkeys(metrics)


def _temperature_scaling(validation: Predictions | None, test: Predictions) -> TemperatureScaling:
    if validation is None:
        return {"temperature": None, "test_metrics": _metrics(test, known=False)}
    temperature = fit_temperature(*validation)
    scaled = classification_metrics(at_temperature(test.logits, temperature), test.labels)
    return {"temperature": temperature, "test_metrics": dict(scaled)}


def _early_stopping(run: RunArguments, state: TrainerState) -> Stopping | None:
    if not run.early_stopping_patience:
        return None
    return {"patience": run.early_stopping_patience, "stopped": state.global_step < state.max_steps}


def best_metric(args: TrainingArguments) -> str:
    """Name of the metric that chooses the best epoch, as the Trainer logs it."""
    return f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"


def kept_epoch(state: TrainerState, args: TrainingArguments) -> float:
    """Epoch of the kept model: the best by `metric_for_best_model`, or the last."""
    evaluated = {entry["step"]: entry["epoch"] for entry in state.log_history if "eval_error_rate" in entry}
    kept = state.best_global_step if args.load_best_model_at_end and state.best_model_checkpoint else None
    return evaluated[kept] if kept is not None else state.epoch or 0.0


def epochs(log_history: list[dict[str, float]], best: str) -> list[Epoch]:
    """The evaluations in the Trainer's log, each with the training loss that was logged last before it.

    Args:
        log_history: The log.
        best: Result of `best_metric`.
    """
    found: list[Epoch] = []
    training_loss: float | None = None
    terms: dict[str, Number] = {}
    for entry in log_history:
        if "loss" in entry:
            training_loss, terms = entry["loss"], {name: entry[name] for name in LOGGED_TERMS if name in entry}
        if "eval_error_rate" in entry:
            found.append(
                {
                    "epoch": entry["epoch"],
                    "training_loss": training_loss,
                    "loss_terms": terms,
                    "validation_loss": entry["eval_loss"],
                    "validation_error_rate": entry["eval_error_rate"],
                    "metric_for_best_model": entry[best],
                }
            )
    return found
