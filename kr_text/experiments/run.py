"""One run is one dataclass, and its result one line: what was run, and everything that was measured of it."""

import hashlib
import json
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import pyarrow as pa
from filelock import FileLock, Timeout
from safetensors.numpy import load_file

from kr_text.experiments.predictions import compact
from kr_text.formats.overrides import Value, parse_overrides
from kr_text.losses.by_name import LOSSES
from kr_text.machine.process import reset_peak_memory
from kr_text.training.recipes import recipe
from kr_text.training.report import Report

if TYPE_CHECKING:
    from kr_text.experiments.wrong_labels import WrongLabels


@dataclass(frozen=True)
class Run:
    """One training: all that its result depends on, beside the code. What is left out comes from the recipe.

    Attributes:
        dataset: name of a data set, or of a folder among those that hold the data.
        model: as for `kr-text train`, and so are `loss`, `seed`, `max_train_rows`, `loss_overrides`,
            `residual_learning_rate`, `config_overrides` and `label_matrices`.
        training: fields of `TrainingArguments`, as in "num_train_epochs=10,learning_rate=0.1".
        teacher: for the loss "kd", `config_overrides` of the teacher, which is trained first, with cross-entropy
            and the same `training`.
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

    @property
    def key(self) -> str:
        """Sixteen characters that stand for this run: all that it is told, and all that the recipe adds to it.

        So it does not matter which of the two says it, and with another recipe it is another run.
        """
        sizes = recipe(self.model, self.dataset, any_hardware=True)
        resolved = {
            **self.given(),
            "tokenizer": sizes.tokenizer,
            "config_overrides": {**sizes.config, **parse_overrides(self.config_overrides, "config_overrides")},
            "training": {**sizes.training, **parse_overrides(self.training, "training")},
            "loss_overrides": self.changed_loss_settings(),
        }
        return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """What tells it from others, in a few words."""
        extra = [f"{name}={value}" for name, value in self.given().items() if name not in NAMED]
        return " ".join([self.dataset, self.model, self.loss, f"seed {self.seed}", *extra])

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    def changed_loss_settings(self) -> dict[str, Value]:
        """Those of `loss_overrides` that are not the loss's own anyway."""
        own = {**SHARED_DEFAULTS, **(LOSSES.get(self.loss) or {})} if self.loss in LOSSES else {}
        settings = parse_overrides(self.loss_overrides, "loss_overrides")
        return {name: value for name, value in settings.items() if own.get(name) != value}

    def flags(self, dataset: str, output_dir: Path) -> list[str]:
        """The flags of `kr-text train`, with the place of the data set and that of the model to be."""
        flags = ["--model", self.model, "--dataset", dataset, "--loss", self.loss, "--seed", str(self.seed)]
        for name in ("max_train_rows", "loss_overrides", "residual_learning_rate", "config_overrides"):
            if (value := getattr(self, name)) is not None:
                flags += [f"--{name}", str(value)]
        flags += ["--label_matrices"] if self.label_matrices else []
        for name, value in parse_overrides(self.training, "training").items():
            flags += [f"--{name}", str(value)]
        return [*flags, "--output_dir", str(output_dir)]


NAMED = ("dataset", "model", "loss", "seed")
SHARED_DEFAULTS = {"alpha": 1.0, "gamma": 0.99, "label_smoothing": 0.0, "divergence": "label_first"}  # of KRLoss


class Line(TypedDict):
    """A result, as it stands in a line of JSON."""

    key: str
    run: dict[str, Any]
    commit: str | None
    report: Report
    wrong_labels: "WrongLabels | None"
    teacher: Report | None


class Outcome(NamedTuple):
    """What a run leaves: its line, and its predictions for the test rows."""

    line: Line
    predictions: pa.Table


def execute(run: Run, data: Sequence[str], work: str, commit: str | None) -> Outcome:
    """Trains, from its last checkpoint if it was cut off, and measures.

    Args:
        run: what to train.
        data: folders that may hold the data set; without one of that name there, it is a name for `kr_text.data.load`.
        work: where the model and its checkpoints are until the run is finished.
        commit: of the code.

    Raises:
        ValueError: another process is at this run.
    """
    folder = Path(work) / run.key
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=0):
            return _execute(run, data, folder, commit)
    except Timeout:
        raise ValueError(f"{folder} must be free, and another `kr-text run` trains there") from None


def _execute(run: Run, data: Sequence[str], folder: Path, commit: str | None) -> Outcome:
    from kr_text.data.label_noise import TRUE_LABELS_FILE
    from kr_text.experiments.wrong_labels import find_wrong_labels
    from kr_text.training.report import PREDICTIONS_FILE

    dataset = next((str(found) for place in data if (found := Path(place) / run.dataset).exists()), run.dataset)
    has_true_labels = (Path(dataset) / TRUE_LABELS_FILE).exists()
    if has_true_labels and run.max_train_rows is not None:
        raise ValueError(
            f"{run.dataset} has true labels of all its rows: max_train_rows must be left out, got {run.max_train_rows}"
        )
    teacher = None
    if run.teacher is not None:
        plain = replace(run, loss="ce", loss_overrides=None, teacher=None, label_matrices=False)
        of_teacher = replace(plain, config_overrides=run.teacher)
        teacher = _train(of_teacher.flags(dataset, folder / "teacher"), folder / "teacher")
    reset_peak_memory()
    extra = ["--teacher", str(folder / "teacher")] if teacher else []
    report = _train([*run.flags(dataset, folder), *extra], folder)
    saved = load_file(folder / PREDICTIONS_FILE)
    line: Line = {
        "key": run.key,
        "run": run.given(),
        "commit": commit,
        "report": report,
        "wrong_labels": find_wrong_labels(dataset, folder) if has_true_labels else None,
        "teacher": teacher,
    }
    return Outcome(line, compact(saved["probabilities"], saved["labels"]))


def remove_work(run: Run, work: str) -> None:
    """Removes what a run has left in `work`, once its outcome is stored; not while another process is at this run."""
    folder = Path(work) / run.key
    if folder.exists():
        try:
            with FileLock(f"{folder}.lock", timeout=0):
                shutil.rmtree(folder)
        except Timeout:
            return


def _train(flags: list[str], folder: Path) -> Report:
    from kr_text.training.arguments import parse_training
    from kr_text.training.resume import last_checkpoint
    from kr_text.training.train import train

    started = time.time()
    how = "--resume" if last_checkpoint(folder) else "--overwrite"
    run, args = parse_training([*flags, how, "--disable_tqdm", "true"], "kr-text run")
    return train(run, args, command=shlex.join(["kr-text", "train", *flags]), started=started)
