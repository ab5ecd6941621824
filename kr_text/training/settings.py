"""What a run was told, in a file of its folder: a run that goes on, an evaluation and a comparison must know it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from kr_text.formats.overrides import differences
from kr_text.formats.whole_files import write_json
from kr_text.training.arguments import RunArguments, default_training

SETTINGS_FILE = "settings.json"
PATHS = {"output_dir", "resume_from_checkpoint"}  # arguments of one machine, not of the method
WAYS_TO_START = {"resume", "overwrite"}
DATA = "data_fingerprint"  # of `kr_text.data.sources.fingerprint`


def run_settings(run: RunArguments, args: TrainingArguments) -> dict[str, Any]:
    """All that the flags, and the YAML file and the recipe behind them, set; as JSON can hold it."""
    told = {name: value for name, value in asdict(run).items() if name not in WAYS_TO_START}
    settings: dict[str, Any] = json.loads(json.dumps(told | hyper_parameters(args)))
    return settings


def hyper_parameters(args: TrainingArguments) -> dict[str, Any]:
    """The training arguments that differ from the Trainer's defaults."""
    defaults, given = default_training(), args.to_dict()
    return {name: value for name, value in given.items() if name not in PATHS and value != defaults[name]}


def save_settings(run: RunArguments, args: TrainingArguments, data_fingerprint: str, folder: Path) -> None:
    """Writes the settings of a run that is about to start, and which data it has."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json({**run_settings(run, args), DATA: data_fingerprint}, folder / SETTINGS_FILE)


def saved_settings(folder: Path) -> dict[str, Any] | None:
    """Those in a folder; None where there are none."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return None
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings


def check_same_run(run: RunArguments, folder: Path) -> None:
    """Refuses to go on in a folder with a run of another model, loss or data; how long and how fast may change.

    Raises:
        ValueError: it is another run.
    """
    there = saved_settings(folder)
    if there is None:
        return
    told = {name: value for name, value in asdict(run).items() if name not in WAYS_TO_START}
    told["dataset"], there["dataset"] = Path(run.dataset).name, Path(there["dataset"]).name  # wherever they are
    was, now = differences(there, told)
    if was:
        raise ValueError(f"{folder} must hold the same run to go on, got {now} where it has {was}")


def check_same_data(data_fingerprint: str, folder: Path) -> None:
    """Refuses to go on in a folder with a run on data of the same name that were others.

    Raises:
        ValueError: they were.
    """
    there = (saved_settings(folder) or {}).get(DATA, data_fingerprint)
    if there != data_fingerprint:
        raise ValueError(f"{folder} must hold a run on the same data to go on, and its texts or labels were others")
