"""Resuming a run, and output folders that already hold one.

`--resume` resumes from the last whole checkpoint in the output folder. Model, loss and data must be the same as before;
the number of epochs and other training arguments may change. `--resume_from_checkpoint` names a checkpoint. If it is in
another folder, the run starts from it in a new folder. fit.py passes the checkpoint to the Trainer, which restores its
state; kr_text/trainer/residual_checkpoint.py restores S.

A folder that holds a run is refused unless the run is resumed or `--overwrite` is given. Nothing is deleted before the
new run is ready to train.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple, cast

from transformers import TrainingArguments

from kr_text.formats.overrides import differences
from kr_text.trainer.residual_checkpoint import RESIDUAL_FILE
from kr_text.training.report import PICTURE_FILE, PREDICTIONS_FILE
from kr_text.training.run_arguments import RunArguments
from kr_text.training.settings import DATA, method_settings, saved_settings
from kr_text.training.unlabelled import UNLABELLED_FILE

REPORTS = ("report.json", "report.md", PICTURE_FILE)
REMOVED = (*REPORTS, "config.json", "model*.safetensors*", RESIDUAL_FILE, PREDICTIONS_FILE, UNLABELLED_FILE)


class Start(NamedTuple):
    """Where a run starts.

    Attributes:
        folder: Output folder.
        checkpoint: Checkpoint to resume from, or None.
    """

    folder: Path
    checkpoint: str | None

    @property
    def continues(self) -> bool:
        """Whether the run in the output folder is resumed."""
        return self.checkpoint is not None and Path(self.checkpoint).resolve().parent == self.folder.resolve()


def find_start(run: RunArguments, args: TrainingArguments) -> Start:
    """Finds the checkpoint to resume from, if any, and checks that the output folder may be used.

    Raises:
        ValueError: There is no checkpoint to resume from, or it belongs to a different run.
        FileExistsError: The folder holds a run, and neither --resume nor --overwrite is given.
    """
    folder = Path(cast(str, args.output_dir))
    checkpoint = args.resume_from_checkpoint or (last_checkpoint(folder) if run.resume else None)
    if run.resume and checkpoint is None:
        raise ValueError(f"{folder} must hold a checkpoint to resume from, got none; leave out --resume")
    start = Start(folder, checkpoint)
    if start.continues:
        check_same_run(run, folder)
    elif not run.overwrite and holds_run(folder):
        raise FileExistsError(
            f"{folder} holds a run already; give --resume to resume it, --overwrite to replace it, or --output_dir"
        )
    return start


def last_checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint in a folder. The Trainer writes trainer_state.json last, so it must be complete."""
    whole = (str(state.parent) for state in folder.glob("checkpoint-*/trainer_state.json") if _is_json(state))
    return max(whole, key=lambda path: int(path.rpartition("-")[2]), default=None)


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or interrupted."""
    return (folder / "report.json").exists() or any(folder.glob("checkpoint-*"))


def check_same_run(run: RunArguments, folder: Path) -> None:
    """Refuses to resume a run with a different model, loss or data set. Training arguments and the patience may differ.

    Raises:
        ValueError: The run in the folder is different.
    """
    saved = saved_settings(folder)
    if saved is None:
        return
    given = method_settings(run)
    given.pop("early_stopping_patience")
    given["dataset"], saved["dataset"] = Path(run.dataset).name, Path(saved["dataset"]).name  # data may have moved
    was, now = differences(saved, given)
    if was:
        raise ValueError(f"{folder} must hold the same run to resume it, got {now} where the run has {was}")


def check_same_data(start: Start, data_fingerprint: str) -> None:
    """Refuses to resume if the data have changed.

    Raises:
        ValueError: The texts or labels differ from those of the run in the folder.
    """
    if not start.continues:
        return
    saved = (saved_settings(start.folder) or {}).get(DATA, data_fingerprint)
    if saved != data_fingerprint:
        raise ValueError(f"{start.folder} must hold a run on the same data to resume it, got other texts or labels")


def delete_run(folder: Path) -> None:
    """Deletes the run in a folder; other files stay."""
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
    for pattern in REMOVED:
        for path in folder.glob(pattern):
            path.unlink()


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
