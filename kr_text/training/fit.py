"""Fits the model of a run with the Trainer."""

from typing import Any, NamedTuple

from transformers import IntervalStrategy, TrainingArguments

from kr_text.evaluation.label_matrices import LabelMatrices
from kr_text.evaluation.metrics import compute_metrics
from kr_text.formats.overrides import parse_overrides
from kr_text.losses.by_name import make_loss
from kr_text.text.batches import whole_batch
from kr_text.training.batches_trainer import ClassifierTrainers, make_trainer
from kr_text.training.build import make_optimizer
from kr_text.training.checkpointed import EarlyStopping, TrainingClock
from kr_text.training.matrix_recorder import LabelMatrixRecorder
from kr_text.training.prepare import Prepared
from kr_text.training.resume import Start, delete_run
from kr_text.training.run_arguments import RunArguments
from kr_text.training.settings import save_settings


class Fitted(NamedTuple):
    """A finished training.

    Attributes:
        trainer: Trainer with the kept model and loss.
        seconds: Seconds of training, including those before the run was resumed.
        seconds_before: Seconds of training before the run was resumed.
        label_matrices: Label matrices by evaluation; None unless `label_matrices` was given.
    """

    trainer: ClassifierTrainers
    seconds: float
    seconds_before: float
    label_matrices: list[LabelMatrices] | None


def fit(run: RunArguments, args: TrainingArguments, prepared: Prepared, start: Start) -> Fitted:
    """Trains until the last epoch or the end of the patience, and keeps the best epoch.

    Just before the first step, deletes the run to overwrite.
    """
    clock, recorder = TrainingClock(), LabelMatrixRecorder() if run.label_matrices else None
    trainer = classifier_trainer(run, args, prepared, clock, recorder)
    if trainer.is_world_process_zero():
        if not start.continues:
            delete_run(start.folder)
        save_settings(run, args, prepared.data_fingerprint, start.folder)
    seconds = trainer.train(resume_from_checkpoint=start.checkpoint).metrics["train_runtime"]
    matrices = list(recorder.matrices) if recorder else None  # a copy: later predictions append to recorder.matrices
    return Fitted(trainer, seconds + clock.seconds_before, clock.seconds_before, matrices)


def classifier_trainer(
    run: RunArguments,
    args: TrainingArguments,
    prepared: Prepared,
    clock: TrainingClock,
    recorder: LabelMatrixRecorder | None,
) -> ClassifierTrainers:
    """The trainer of a run, with its loss, optimizer and callbacks."""
    settings: dict[str, Any] = dict(parse_overrides(run.loss_overrides, "loss_overrides"))
    if prepared.class_weights is not None:
        settings["class_weights"] = prepared.class_weights
    callbacks: list[Any] = [clock] if recorder is None else [clock, recorder]
    if run.early_stopping_patience and args.eval_strategy != IntervalStrategy.NO:
        callbacks.append(EarlyStopping(run.early_stopping_patience))
    trainer = make_trainer(
        run,
        make_loss(run.loss, prepared.model, len(prepared.class_names), settings),
        model=prepared.network,
        args=args,
        train_dataset=prepared.training_batches(),
        eval_dataset=None if run.train_on_validation else prepared.batches(prepared.rows("validation")),
        data_collator=whole_batch,
        processing_class=prepared.tokenizer,
        compute_metrics=recorder or compute_metrics,
        callbacks=callbacks,
        optimizers=(make_optimizer(prepared.network, args), None),
    )
    if recorder is not None:
        recorder.trainer = trainer
    return trainer
