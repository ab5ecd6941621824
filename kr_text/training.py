"""One training run, from the data to the report."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from datasets import DatasetDict
from safetensors import SafetensorError
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file
from scipy.special import softmax
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.training_args import OptimizerNames

from kr_text.arguments import GROUP_BY_LENGTH, RunArguments
from kr_text.batches import Batches, ShuffledRows, batches_for, whole_batch
from kr_text.calibration import at_temperature, fit_temperature
from kr_text.data import load
from kr_text.encoding import encode
from kr_text.label_matrices import LabelMatrixRecorder
from kr_text.metrics import classification_metrics, compute_metrics, confusion_matrix
from kr_text.models import MODELS, CharCNNConfig, FastTextForSequenceClassification
from kr_text.optimizers import RowwiseAdagrad
from kr_text.overrides import parse_overrides
from kr_text.recipes import recipe
from kr_text.reports import Epoch, LabelMatrices, Number, Report, environment, peak_memory_mb, write_report
from kr_text.tokenization import character_tokenizer, word_tokenizer
from kr_text.trainer import LOGGED_TERMS, RESIDUAL_FILE, KRTrainer, named_loss
from kr_text.word_vectors import load_word_vectors

PREDICTIONS_FILE = "test_predictions.safetensors"
FIXED_BY_DATA = {"num_labels", "id2label", "label2id", "vocab_size"}
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
    folder = Path(cast(str, args.output_dir))
    with args.main_process_first(desc="data"):
        checkpoint = _prepare_folder(folder, run, args)
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
    names = data["train"].features["label"].names
    del data  # whose files would stay in memory
    rows = {split: encoded[split].with_format("arrow") for split in encoded}
    batches = partial(batches_for, model, tokenizer)
    criterion = named_loss(run.loss, len(names), **parse_overrides(run.loss_overrides, "loss_overrides"))
    recorder = LabelMatrixRecorder() if run.label_matrices else None
    trainer = ClassifierTrainer(
        model=model,
        args=args,
        train_dataset=batches(rows["train"][:]),
        eval_dataset=batches(rows["validation"][:]),
        data_collator=whole_batch,
        processing_class=tokenizer,
        compute_metrics=recorder or compute_metrics,
        optimizers=(make_optimizer(model, args), None),
        loss=criterion or "ce",
        residual_learning_rate=run.residual_learning_rate,
    )
    if recorder is not None:
        recorder.trainer = trainer
    training_time = trainer.train(resume_from_checkpoint=checkpoint).metrics["train_runtime"]
    matrices = recorder and recorder.matrices.copy()  # the predictions below add to it
    began = time.time()
    validation, test = (_predict(trainer, rows[split][:], batches) for split in ("validation", "test"))
    evaluation_time = time.time() - began
    report = _report(run, args, trainer, names, encoded, validation, test, matrices, command)
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
        save_numpy({"probabilities": test.probabilities, "labels": test.labels}, folder / PREDICTIONS_FILE)
        write_report(report, folder)
    return report


class ClassifierTrainer(KRTrainer):
    """A KRTrainer for `Batches`.

    It takes the norm of gradients for clipping only, since torch has none for those of a sparse table, and groups rows
    by length in a moment.
    """

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        return grad_norm

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        if any(getattr(self.args, name) != value for name, value in GROUP_BY_LENGTH.items()):
            return super()._get_train_sampler(train_dataset)
        rows = cast(Batches, self.train_dataset if train_dataset is None else train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ShuffledRows(rows, batch_size, seed)


def build(run: RunArguments, data: DatasetDict) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """The tokenizer, built from the training rows or loaded, and the model, at random or pretrained."""
    sizes = recipe(run.model, run.dataset)
    tokenizer_sizes = {**sizes.tokenizer, **({"max_length": run.max_length} if run.max_length else {})}
    names = data["train"].features["label"].names
    classes = dict(enumerate(names))
    labels: dict[str, Any] = {"id2label": classes, "label2id": {name: index for index, name in classes.items()}}
    if run.model not in MODELS:
        return _pretrained(run, labels, tokenizer_sizes["max_length"])
    config_class, model_class = MODELS[run.model]
    config = config_class(**sizes.config, **labels)
    _override(config, run.config_overrides)
    config = config_class.from_dict(config.to_dict())  # checks the ranges of what was overridden
    if isinstance(config, CharCNNConfig):
        tokenizer = character_tokenizer(max_length=run.max_length or config.num_frames)
    else:
        batches = (
            batch["text"].combine_chunks() for batch in data["train"].with_format("arrow").iter(batch_size=50_000)
        )
        tokenizer = word_tokenizer(batches, **tokenizer_sizes)
    config.vocab_size = len(tokenizer)
    model = model_class(config)
    if run.word_vectors:
        load_word_vectors(model, tokenizer, run.word_vectors)
    return tokenizer, model


def _pretrained(
    run: RunArguments, labels: dict[str, Any], max_length: int
) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    if run.word_vectors:
        raise ValueError(f"word_vectors must be left out with a pretrained model, {run.model}: it has its own")
    with _pretrained_in(run.model):
        config = AutoConfig.from_pretrained(run.model, **labels)
        tokenizer = cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(run.model))
    if tokenizer.pad_token_id is None:
        raise ValueError(f"model must have a tokenizer with a padding token, and that of {run.model} has none")
    _override(config, run.config_overrides)
    with _pretrained_in(run.model):
        model = AutoModelForSequenceClassification.from_pretrained(
            run.model, config=config, ignore_mismatched_sizes=True
        )
    tokenizer.model_max_length = min(max_length, tokenizer.model_max_length)
    return tokenizer, model


@contextmanager
def _pretrained_in(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"model must be one of {', '.join(MODELS)}, or a pretrained model's folder or id, got {name!r}: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _override(config: PreTrainedConfig, overrides: str | None) -> None:
    if not overrides:
        return
    if fixed := FIXED_BY_DATA & {part.partition("=")[0].strip() for part in overrides.split(",")}:
        raise ValueError(f"config_overrides must leave {' and '.join(sorted(fixed))} to the data, got {overrides!r}")
    try:
        config.update_from_string(overrides)
    except (TypeError, ValueError) as error:
        known = ", ".join(sorted(config.to_diff_dict()))
        raise ValueError(
            f"config_overrides must be FIELD=VALUE,FIELD=VALUE,... with fields of {type(config).__name__} ({known}), "
            f"got {overrides!r}: {error}"
        ) from error


def _prepare_folder(folder: Path, run: RunArguments, args: TrainingArguments) -> str | None:
    """The checkpoint to resume from, if any; refuses a folder that holds a run, unless told what to do with it."""
    if args.resume_from_checkpoint:
        return args.resume_from_checkpoint
    if run.resume:
        checkpoint = last_checkpoint(folder)
        if checkpoint is None:
            raise ValueError(f"{folder} must hold a checkpoint to resume from, and holds none; leave out --resume")
        return checkpoint
    if any(folder.glob("checkpoint-*")) or (folder / "report.json").exists():
        if not run.overwrite:
            raise FileExistsError(
                f"{folder} holds a run already; give --resume to go on, --overwrite to replace it, or --output_dir"
            )
        for path in folder.glob("checkpoint-*"):
            shutil.rmtree(path)
        for name in ("report.json", "report.md", RESIDUAL_FILE, PREDICTIONS_FILE):
            (folder / name).unlink(missing_ok=True)
    return None


def last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that is whole: the Trainer writes its state at the end of each."""
    whole = (str(state.parent) for state in folder.glob("checkpoint-*/trainer_state.json"))
    return max(whole, key=lambda path: int(path.rpartition("-")[2]), default=None)


def make_optimizer(model: PreTrainedModel, args: TrainingArguments) -> torch.optim.Optimizer | None:
    """The optimizer for FastText's large table under --optim adagrad; None, the Trainer's own, for all else.

    On a CPU the table's gradient is sparse. Elsewhere to sort its rows would wait for the queue.
    """
    if not isinstance(model, FastTextForSequenceClassification) or args.optim != OptimizerNames.ADAGRAD:
        return None
    model.embedding.sparse = args.device.type == "cpu"
    return RowwiseAdagrad(model.parameters(), lr=args.learning_rate)


class _Predictions(NamedTuple):
    logits: npt.NDArray[np.float64]  # (N, K)
    labels: npt.NDArray[np.int64]  # (N,)

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        return np.asarray(softmax(self.logits, axis=1))


def _predict(trainer: KRTrainer, rows: pa.Table, batches: Callable[[pa.Table], Batches]) -> _Predictions:
    """Logits and labels of encoded rows, in their order.

    The Trainer's own order would be that of its sampler: under "group_by_length" a shuffle that depends on the seed.
    """
    given = {name: getattr(trainer.args, name) for name in GROUP_BY_LENGTH}
    for name in given:
        setattr(trainer.args, name, getattr(TrainingArguments, name))  # the default: evaluation in order
    order = np.argsort(-rows["length"].to_numpy(), kind="stable")  # like lengths together
    prediction = trainer.predict(cast(Any, batches(rows.take(order))))
    for name, value in given.items():
        setattr(trainer.args, name, value)
    sorted_logits = cast(npt.NDArray[np.float32], prediction.predictions)  # (N, K)
    logits, labels = np.empty(sorted_logits.shape), np.empty(len(order), dtype=np.int64)
    logits[order] = sorted_logits
    labels[order] = cast(npt.NDArray[np.int64], prediction.label_ids)
    return _Predictions(logits, labels)


def _report(
    run: RunArguments,
    args: TrainingArguments,
    trainer: KRTrainer,
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
    model = trainer.accelerator.unwrap_model(trainer.model)
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
        "residual_labels": None if criterion is None else criterion.residual_labels().tolist(),
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


def hyper_parameters(args: TrainingArguments) -> dict[str, Any]:
    """The training arguments that differ from the Trainer's defaults."""
    defaults = TrainingArguments(output_dir="").to_dict()
    given = args.to_dict()
    return {name: value for name, value in given.items() if name not in PATHS and value != defaults[name]}
