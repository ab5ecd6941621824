"""What a training run is told: flags, over a YAML file, over the recipe, over defaults."""

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from transformers import HfArgumentParser, TrainingArguments

from kr_text.formats.yaml_files import read_yaml
from kr_text.losses.by_name import NAMES
from kr_text.models import MODELS
from kr_text.trainer.epochs import RESIDUAL_LEARNING_RATE
from kr_text.training.recipes import recipe

# How the Trainer is told to batch texts of like length: transformers 5.0 and 5.1 have a flag for it.
GROUP_BY_LENGTH: dict[str, Any] = (
    {"train_sampling_strategy": "group_by_length"}
    if hasattr(TrainingArguments, "train_sampling_strategy")
    else {"group_by_length": True}
)
# The Trainer's defaults that do not fit a run that keeps its best epoch and reports on it.
TRAINING_DEFAULTS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "error_rate",
    "greater_is_better": False,
    "per_device_eval_batch_size": 256,
    **GROUP_BY_LENGTH,
    "dataloader_num_workers": 2 if torch.accelerator.is_available() else 0,
    "use_cpu": not torch.accelerator.is_available(),  # unless told so, the Trainer refuses bf16 there
}


def _flag(default: Any, help_text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help_text, **metadata})


@dataclass
class RunArguments:
    """What is trained, on what, with which loss. `TrainingArguments` says how."""

    _argument_group_name = "what to train"

    model: str = _flag("fasttext", f"{', '.join(MODELS)}, or a pretrained model: a folder or an id on the Hub")
    dataset: str = _flag(
        "synthetic_news",
        "ag_news, yahoo_answers, yelp_review_full, synthetic_news, another id on the Hub, a folder with train and test "
        "files, or one file",
    )
    loss: str = _flag("kr-ls", "the training loss", choices=NAMES)
    loss_overrides: str | None = _flag(
        None, "settings of the loss, as in alpha=0.3,until=2,label_smoothing=0.2,divergence=as_printed"
    )
    residual_learning_rate: float = _flag(
        RESIDUAL_LEARNING_RATE, "learning rate of the residual matrix, or of what else a loss learns"
    )
    teacher: str | None = _flag(None, "for loss kd: a saved classifier of any kind, a folder or an id on the Hub")
    text_column: str | None = _flag(None, "column with the text; several, comma-separated, are joined")
    label_column: str | None = _flag(None, "column with the class")
    validation_size: float | None = _flag(None, "rows to cut from train where there is no validation: share or count")
    max_train_rows: int | None = _flag(None, "train on this many rows, drawn by seed 0")
    max_length: int | None = _flag(None, "cut texts to this many tokens")
    word_vectors: str | None = _flag(None, "start the word embeddings from this file, in GloVe or word2vec text form")
    config_overrides: str | None = _flag(None, "fields of the model's config, as in hidden_size=256,dropout=0.2")
    label_matrices: bool = _flag(False, "report the class means of the predictions on validation rows, by epoch")
    resume: bool = _flag(False, "go on from the last checkpoint in the output folder")
    overwrite: bool = _flag(False, "replace the run that the output folder holds")

    def __post_init__(self) -> None:
        self.loss_overrides, self.teacher = self.loss_overrides or None, self.teacher or None
        if self.loss not in NAMES:  # argparse lets a default through, and a YAML file gives defaults
            raise ValueError(f"loss must be one of {', '.join(NAMES)}, got {self.loss!r}")
        if (self.loss == "kd") != (self.teacher is not None):
            raise ValueError(f"teacher must be given for loss kd, and for no other, got {self.teacher} for {self.loss}")
        if self.validation_size is not None and self.validation_size >= 1 and self.validation_size.is_integer():
            self.validation_size = int(self.validation_size)
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {self.max_length}")


class _Parser(HfArgumentParser):
    """Says what is wrong in one line, as all else here does."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


@cache
def default_training() -> dict[str, Any]:
    """The Trainer's own arguments. To make them resets accelerate's state: that must come before those of a run."""
    own: dict[str, Any] = TrainingArguments(output_dir="").to_dict()
    return own


def parse_training(argv: Sequence[str], prog: str) -> tuple[RunArguments, TrainingArguments]:
    """Reads the flags of `kr-text train`.

    Args:
        argv: the flags; `--config FILE` names a YAML file with more of them.
        prog: the command's name in messages.

    Raises:
        ValueError: a wrong flag, or a YAML file that cannot be read or has a key which is no flag.
    """
    parser = _Parser(
        cast(Any, [RunArguments, TrainingArguments]),
        prog=prog,
        usage="%(prog)s [flags]",
        allow_abbrev=False,
        description="Train a text classifier, keep its best epoch by validation error, and report on the test rows. "
        "The options are the fields of transformers.TrainingArguments; those you leave out come from the recipe of the "
        "model and the data set.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these flags; the command line wins")
    given = _read_yaml(parser, argv)
    parser.set_defaults(**given)
    flags = parser.parse_args(argv)
    output_dir = Path("runs") / "-".join(Path(part).name for part in (flags.model, flags.dataset, flags.loss))
    training = recipe(flags.model, flags.dataset).training
    defaults = {**TRAINING_DEFAULTS, "output_dir": str(output_dir), **training}
    if flags.metric_for_best_model:  # of the metrics of a run, the others are less where they are better
        defaults["greater_is_better"] = flags.metric_for_best_model.removeprefix("eval_") == "macro_f1"
    parser.set_defaults(**{**defaults, **given})
    default_training()
    run, args, _ = parser.parse_args_into_dataclasses(list(argv), look_for_args_file=False)
    if args.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor must be 0, got {args.label_smoothing_factor}: give --loss ls --loss_overrides "
            f"label_smoothing={args.label_smoothing_factor}"
        )
    return run, args


def _read_yaml(parser: HfArgumentParser, argv: Sequence[str]) -> dict[str, Any]:
    """The flags in the file that `--config` names, as text, for the parser to read as it reads flags: 1e-3, no."""
    path = parser.parse_args(argv).config
    if path is None:
        return {}
    given, as_text = read_yaml(Path(path)), read_yaml(Path(path), as_text=True)
    if not isinstance(given, dict):
        raise ValueError(f"{path}: must be lines of `flag: value`, got {type(given).__name__}")
    known = {action.dest for action in parser._actions} - {"help", "config"}
    for key in as_text:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ValueError(f"{path}: unknown key {key!r}" + (f"; did you mean {near[0]}?" if near else ""))
    ours = {each.name for each in fields(RunArguments)}
    for key, value in given.items():
        if value is None and parser.get_default(key) is not None:
            raise ValueError(f"{path}: {key} must have a value, got none")
        if key in ours and isinstance(value, list | dict):
            raise ValueError(f"{path}: {key} must be one value, or text such as a=1,b=2, got {value}")
    return {key: value if isinstance(value, list | dict | None) else as_text[key] for key, value in given.items()}


def command_line(argv: Sequence[str]) -> str:
    """The command line, for reports; the value of a flag that ends in _token is left out."""
    shown = list(argv)
    for place, flag in enumerate(argv):
        name, equals, _ = flag.partition("=")
        if name.startswith("--") and name.endswith("_token"):
            if equals:
                shown[place] = f"{name}=..."
            else:
                shown[place + 1 : place + 2] = ["..."]
    return shlex.join(shown)
