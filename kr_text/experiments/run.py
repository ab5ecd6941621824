"""One run: its settings, its training, and the line that is stored as its result."""

import hashlib
import inspect
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from filelock import FileLock, Timeout
from safetensors.numpy import load_file

from kr_text.experiments.predictions import StoredPredictions, compact
from kr_text.formats.overrides import Value, parse_overrides, sorted_overrides
from kr_text.losses.by_name import LOSSES
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.machine.process import reset_peak_memory
from kr_text.training.recipes import AUTO, Recipe, benchmark_recipe_name, recipe
from kr_text.training.report import Report

if TYPE_CHECKING:
    from kr_text.experiments.wrong_labels import WrongLabels

NAMED = ("dataset", "model", "loss", "seed")
NOT_FOR_TRAINING = ("training", "teacher", "settings_digest")  # fields that `kr-text train` does not have
KR_DEFAULTS: dict[str, Any] = {  # defaults of KRLoss
    name: parameter.default for name, parameter in inspect.signature(KRLoss).parameters.items() if name != "num_labels"
}


@dataclass(frozen=True)
class Run:
    """One training run: every setting that its result depends on, except the code. The recipe supplies the rest.

    Attributes:
        dataset: Name of a data set, or of a folder inside one of the data folders.
        model: As for `kr-text train`, like `loss`, `seed`, `max_train_rows`, `loss_overrides`,
            `residual_learning_rate`, `config_overrides` and `label_matrices`.
        training: Fields of `TrainingArguments`, for example "num_train_epochs=10,learning_rate=0.1".
        teacher: For the loss "kd", `config_overrides` of the teacher, which is trained first, with cross-entropy and
            the same `training`.
        recipe: As for `kr-text train`; None for the recipe of the benchmark that the data set or its folder is named
            after, or the one that all benchmarks share.
        settings_digest: Digest of the settings that `kr-text compare` takes from its command line; None in a grid.
        fold: Fold of a cross-validation of `kr-text compare`, such as "2/5"; None in a grid.
    """

    dataset: str
    model: str
    loss: str = "ce"
    seed: int = 1
    max_train_rows: int | None = None
    loss_overrides: str | None = None
    residual_learning_rate: float | None = None
    config_overrides: str | None = None
    training: str | None = None
    label_matrices: bool = False
    teacher: str | None = None
    settings_digest: str | None = None
    recipe: str | None = None
    fold: str | None = None

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that identify the run: a hash of its settings, with the recipe filled in.

        The key does not depend on whether a setting comes from the run or from the recipe. A changed recipe gives
        another key.
        """
        sizes = Recipe({}, {}, {}) if self.recipe == AUTO else self._fixed_recipe()
        resolved = {
            **self.given(),
            "tokenizer": sizes.tokenizer,
            "config_overrides": {**sizes.config, **parse_overrides(self.config_overrides, "config_overrides")},
            "training": {**sizes.training, **parse_overrides(self.training, "training")},
            "loss_overrides": self.changed_loss_settings(),
        }
        if self.teacher is not None:
            resolved["teacher"] = sorted_overrides(self.teacher)
        return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:16]

    def _fixed_recipe(self) -> Recipe:
        return recipe(self.model, self.recipe or self.dataset, any_hardware=True)

    @property
    def name(self) -> str:
        """Short description for messages: data set, model, loss, seed, and the other fields that are given."""
        hidden = (*NAMED, "settings_digest")
        extra = [f"{name}={value}" for name, value in self.given().items() if name not in hidden]
        return " ".join([self.dataset, self.model, self.loss, f"seed {self.seed}", *extra])

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    def changed_loss_settings(self) -> dict[str, Value]:
        """The settings in `loss_overrides` that differ from the defaults of the loss."""
        own = {**KR_DEFAULTS, **(LOSSES[self.loss] or {})} if self.loss in LOSSES else {}
        settings = parse_overrides(self.loss_overrides, "loss_overrides")
        return {name: value for name, value in settings.items() if own.get(name) != value}

    def arguments(self) -> dict[str, Any]:
        """Values of `RunArguments` and `TrainingArguments` by field name."""
        named = {name: getattr(self, name) for name in NAMED}
        given = {name: value for name, value in self.given().items() if name not in NOT_FOR_TRAINING}
        of_recipe = {"recipe": self.recipe or benchmark_recipe_name(self.dataset)}
        return {**named, **of_recipe, **given, **parse_overrides(self.training, "training")}


class Line(TypedDict):
    """The result of a run, as a line of JSON holds it.

    Attributes:
        key: `Run.key`.
        run: Fields of the run that differ from their defaults.
        commit: Commit of the code, with `+changes` if the code differed from it; None if unknown.
        report: What `kr-text train` reports.
        predictions: Predictions of the test rows.
        wrong_labels: Wrong training labels found; None if the true labels are unknown.
        teacher: Report of the teacher; None without one.
    """

    key: str
    run: dict[str, Any]
    commit: str | None
    report: Report
    wrong_labels: "WrongLabels | None"
    teacher: Report | None
    predictions: StoredPredictions


def execute(run: Run, data: Sequence[str], work: str, commit: str | None) -> Line:
    """Trains and measures a run. An interrupted run resumes from its last checkpoint.

    Args:
        run: The run.
        data: Folders to look for the data set in. If none has it, its name goes to `kr_text.data.load`.
        work: Folder for the model and its checkpoints until the result is stored.
        commit: Commit of the code.

    Raises:
        ValueError: Another process trains this run.
    """
    from kr_text.data.label_noise import TRUE_LABELS_FILE
    from kr_text.experiments.wrong_labels import find_wrong_labels

    dataset = next((str(found) for place in data if (found := Path(place) / run.dataset).exists()), run.dataset)
    has_true_labels = (Path(dataset) / TRUE_LABELS_FILE).exists()
    if has_true_labels and run.max_train_rows is not None:
        raise ValueError(
            f"max_train_rows must be left out for {run.dataset}, whose file of true labels covers all rows, "
            f"got {run.max_train_rows}"
        )
    with working_folder(run, work) as folder:
        values, teacher = {**run.arguments(), "dataset": dataset}, None
        if run.teacher is not None:
            teacher = _train(_teacher_arguments(run, dataset), folder / "teacher")
            values["teacher"] = str(folder / "teacher")
        report = _train(values, folder)
        wrong_labels = find_wrong_labels(dataset, folder) if has_true_labels else None
        return make_line(run, report, folder, commit, wrong_labels=wrong_labels, teacher=teacher)


@contextmanager
def working_folder(run: Run, work: str) -> Iterator[Path]:
    """The folder inside `work` for a run's checkpoints and model, locked against other processes.

    Raises:
        ValueError: Another process holds the lock.
    """
    folder = Path(work) / run.key
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{folder} must not be in use, but another process trains there") from None
    try:
        yield folder
    finally:
        lock.release()


def remove_work(run: Run, work: str) -> None:
    """Removes a run's working folder, unless another process trains there. Call it once the result is stored."""
    folder = Path(work) / run.key
    if folder.exists():
        try:
            with FileLock(f"{folder}.lock", timeout=0):
                shutil.rmtree(folder)
        except Timeout:
            return


def way_to_start(folder: Path) -> str:
    """The flag of `kr-text train` that continues the run in a folder: "resume" if it has a checkpoint."""
    from kr_text.training.resume import last_checkpoint

    return "resume" if last_checkpoint(folder) else "overwrite"


def make_line(
    run: Run,
    report: Report,
    folder: Path,
    commit: str | None,
    *,
    wrong_labels: "WrongLabels | None" = None,
    teacher: Report | None = None,
) -> Line:
    """The result of a run whose training left its predictions in `folder`."""
    from kr_text.training.report import PREDICTIONS_FILE

    saved = load_file(folder / PREDICTIONS_FILE)
    return {
        "key": run.key,
        "run": run.given(),
        "commit": commit,
        "report": {**report, "mistakes": []},  # results hold no texts of the data
        "wrong_labels": wrong_labels,
        "teacher": teacher,
        "predictions": compact(saved["probabilities"], saved["labels"]),
    }


def _teacher_arguments(run: Run, dataset: str) -> dict[str, Any]:
    plain = replace(run, loss="ce", loss_overrides=None, label_matrices=False, config_overrides=run.teacher)
    return {**plain.arguments(), "dataset": dataset}


def _train(values: Mapping[str, Any], folder: Path) -> Report:
    from kr_text.training.arguments import command_line, make_arguments
    from kr_text.training.train import train

    started = time.time()
    shown = {**values, "output_dir": str(folder)}
    flags = (part for name, value in shown.items() for part in (f"--{name}", str(value)))
    run, args = make_arguments({**shown, way_to_start(folder): True, "disable_tqdm": True}, "kr-text run")
    reset_peak_memory()
    return train(run, args, command=command_line(["kr-text", "train", *flags]), started=started)
