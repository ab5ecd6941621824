"""One training run, from the data to the report: prepare, fit, measure, report, save."""

from pathlib import Path

from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file
from transformers import TrainingArguments

from kr_text.machine.environment import environment
from kr_text.trainer.residual_checkpoint import RESIDUAL_FILE
from kr_text.training.arguments import default_training
from kr_text.training.batches_trainer import ClassifierTrainers
from kr_text.training.fit import fit
from kr_text.training.measure import Launch, Predictions, make_report, measure
from kr_text.training.prepare import Prepared, prepare
from kr_text.training.report import PREDICTIONS_FILE, Report
from kr_text.training.report_markdown import write_report
from kr_text.training.resume import find_start
from kr_text.training.run_arguments import RunArguments
from kr_text.training.unlabelled import predict_unlabelled


def train(run: RunArguments, args: TrainingArguments, *, command: str, started: float) -> Report:
    """Trains a classifier, keeps its best epoch by validation error, and writes the run to `args.output_dir`.

    The folder then holds the model and its tokenizer, the matrix that the loss learned, the probabilities of the test
    rows, settings.json, report.json, report.md and the Trainer's checkpoints. If the data have a test split without
    labels, `unlabelled_test_predictions.jsonl` holds the predictions for its rows.

    Args:
        run: Model, data and loss.
        args: Hyper-parameters and output folder.
        command: Command line, for the report.
        started: Time when the run started, as returned by `time.time()`.

    Raises:
        ValueError: The arguments or the data are wrong.
        FileExistsError: The folder already holds a run.
    """
    default_training()  # must come before the Trainer, if the arguments were not made by make_arguments
    launch = Launch(command, started, environment())  # fails before the training, so no trained model is lost
    with args.main_process_first(desc="data"):
        start = find_start(run, args)
        prepared = prepare(run, args, start)
    fitted = fit(run, args, prepared, start)
    measured = measure(fitted.trainer, prepared)
    report = make_report(run, launch, prepared, fitted, measured)
    if fitted.trainer.is_world_process_zero():
        save_classifier(prepared, fitted.trainer, start.folder)
        save_predictions(measured.test, start.folder)
        if prepared.findings.unlabelled is not None:
            predict_unlabelled(prepared.findings.unlabelled, start.folder, args.per_device_eval_batch_size)
        write_report(report, start.folder)
    return report


def save_classifier(prepared: Prepared, trainer: ClassifierTrainers, folder: Path) -> None:
    """Saves the model, its tokenizer, and the matrix that the loss learned if it learns one."""
    prepared.model.save_pretrained(folder)
    prepared.tokenizer.save_pretrained(folder)
    matrix = None if trainer.criterion is None else trainer.criterion.learned_matrix()
    if matrix is not None:
        save_file({"residual_matrix": matrix.cpu()}, folder / RESIDUAL_FILE)


def save_predictions(test: Predictions, folder: Path) -> None:
    """Saves the probabilities (N, K) and the labels (N,) of the test rows."""
    save_numpy({"probabilities": test.probabilities, "labels": test.labels}, folder / PREDICTIONS_FILE)
