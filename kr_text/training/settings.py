"""settings.json: the settings that a run was started with. Resuming, evaluating and comparing runs need it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from kr_text.formats.whole_files import write_json
from kr_text.training.arguments import default_training
from kr_text.training.run_arguments import RunArguments

SETTINGS_FILE = "settings.json"
PATHS = {"output_dir", "resume_from_checkpoint"}  # differ between machines
WAYS_TO_START = {"resume", "overwrite", "strict"}  # do not change what is trained
DATA = "data_fingerprint"  # key of the hash from `kr_text.data.sources.fingerprint`


def run_settings(run: RunArguments, args: TrainingArguments) -> dict[str, Any]:
    """Settings that define a run, as JSON values: model, loss, data and changed training arguments."""
    settings: dict[str, Any] = json.loads(json.dumps(method_settings(run) | hyper_parameters(args)))
    return settings


def method_settings(run: RunArguments) -> dict[str, Any]:
    """The run's arguments without those that say how to start it."""
    return {name: value for name, value in asdict(run).items() if name not in WAYS_TO_START}


def hyper_parameters(args: TrainingArguments) -> dict[str, Any]:
    """Training arguments that differ from the Trainer's defaults, without paths."""
    defaults, given = default_training(), args.to_dict()
    return {name: value for name, value in given.items() if name not in PATHS and value != defaults[name]}


def save_settings(run: RunArguments, args: TrainingArguments, data_fingerprint: str, folder: Path) -> None:
    """Writes the settings and the data's fingerprint of a run that is about to train."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json({**run_settings(run, args), DATA: data_fingerprint}, folder / SETTINGS_FILE)


def saved_settings(folder: Path) -> dict[str, Any] | None:
    """Settings of the run in a folder; None if it has none."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return None
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings
