"""Arguments of a training run: flags override the --config file, which overrides the recipe and the defaults.

`make_arguments` makes them from values by name. `parse_training` turns the text of flags and of the YAML file into
values, and calls `make_arguments`.
"""

import argparse
import difflib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, cast, get_args, get_origin, get_type_hints

import torch
from transformers import HfArgumentParser, IntervalStrategy, TrainingArguments

from kr_text.evaluation.metrics import METRICS
from kr_text.formats.yaml_files import read_yaml
from kr_text.models import MODELS
from kr_text.ranges import in_range, require_at_least
from kr_text.training.computed_recipes import computed_recipe, fixed_recipe_name
from kr_text.training.flags import ALIASES, add_short_flags, by_field, with_values
from kr_text.training.load_data import load_for, only_errors_logged
from kr_text.training.recipes import BENCHMARKS, recipe
from kr_text.training.run_arguments import RunArguments

# The argument that batches texts of similar length. transformers 5.0 and 5.1 have a flag for it.
GROUP_BY_LENGTH: dict[str, Any] = (
    {"train_sampling_strategy": "group_by_length"}
    if hasattr(TrainingArguments, "train_sampling_strategy")
    else {"group_by_length": True}
)
# Replace the Trainer's defaults for a run that keeps its best epoch and reports on it.
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
    "use_cpu": not torch.accelerator.is_available(),  # otherwise the Trainer refuses bf16 on a CPU
}

MIN_PATIENCE = 3  # evaluations without an improvement, in a computed recipe

RUN_FIELDS = {each.name: each for each in fields(RunArguments)}
FIELDS = RUN_FIELDS | {each.name: each for each in fields(TrainingArguments) if each.init}
TYPE_NAMES = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
}


def make_arguments(values: Mapping[str, Any], program: str) -> tuple[RunArguments, TrainingArguments]:
    """Arguments of a training run from values by field name; they override the recipe, which overrides the defaults.

    Args:
        values: Fields of `RunArguments` and `TrainingArguments`, such as
            `{"model": "fasttext", "loss": "kr-ls", "loss_overrides": "alpha=0.3", "seed": 3}`.
        program: Name of the command in messages.

    Raises:
        ValueError: A name is unknown, or a value has the wrong type or is out of its range.
    """
    check_names(values, program)
    given = {name: _checked(name, value) for name, value in values.items()}
    run = RunArguments(**{name: value for name, value in given.items() if name in RUN_FIELDS})
    _check_model(run.model)
    training = {name: value for name, value in given.items() if name not in RUN_FIELDS}
    default_training()
    args = _training_arguments(run, training)
    if args.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor must be 0, got {args.label_smoothing_factor}: give --loss ls --loss_overrides "
            f"label_smoothing={args.label_smoothing_factor}"
        )
    if run.class_sampling and any(training.get(name, value) != value for name, value in GROUP_BY_LENGTH.items()):
        raise ValueError(f"{next(iter(GROUP_BY_LENGTH))} must be left out with class_sampling, which orders the rows")
    if given.get("early_stopping_patience") and args.eval_strategy == IntervalStrategy.NO:
        raise ValueError("eval_strategy must be epoch or steps with early_stopping_patience, got no")
    return run, args


@cache
def default_training() -> dict[str, Any]:
    """Default values of `TrainingArguments`.

    Creating `TrainingArguments` resets accelerate's state, and the arguments of a run set it. So the first call, whose
    result is cached, must come before the Trainer is created.
    """
    defaults: dict[str, Any] = TrainingArguments(output_dir="").to_dict()
    return defaults


def _training_arguments(run: RunArguments, given: Mapping[str, Any]) -> TrainingArguments:
    """Training arguments of a run. Checks the given ones before it reads the data, which a computed recipe needs."""
    name = fixed_recipe_name(run.recipe, run.dataset)
    # In a recipe, bf16 is for the accelerator.
    last = {**({"bf16": False} if given.get("use_cpu") and torch.accelerator.is_available() else {}), **given}
    wanted = {**_defaults(run, given), **recipe(run.model, name or BENCHMARKS).training, **last}
    _check_ranges(wanted)
    args = TrainingArguments(**wanted)
    if name is not None:
        return args
    with args.main_process_first(desc="data"), only_errors_logged():  # the run loads the data again
        computed = computed_recipe(run.model, load_for(run)["train"]).training
    if run.early_stopping_patience is None and not run.train_on_validation and "num_train_epochs" not in given:
        run.early_stopping_patience = max(MIN_PATIENCE, int(computed["num_train_epochs"]) // 3)
    return TrainingArguments(**{**_defaults(run, given), **computed, **last})


def _defaults(run: RunArguments, given: Mapping[str, Any]) -> dict[str, Any]:
    """Training arguments of a run that neither the recipe nor the user sets."""
    output_dir = Path("runs") / "-".join(Path(part).name for part in (run.model, run.dataset, run.loss))
    defaults = {**TRAINING_DEFAULTS, "output_dir": str(output_dir)}
    if run.train_on_validation:  # no rows are left to choose an epoch by
        defaults |= {"eval_strategy": "no", "load_best_model_at_end": False}
    if metric := given.get("metric_for_best_model"):  # macro_f1 is the only metric that is better when greater
        defaults["greater_is_better"] = metric.removeprefix("eval_") == "macro_f1"
    return defaults


def _check_ranges(training: Mapping[str, Any]) -> None:
    """Refuses training arguments that would fail after the data are read, or leave an untrained model."""
    for name in ("num_train_epochs", "learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"):
        if training.get(name) is not None:
            in_range(name, training[name], 0, open_low=name == "num_train_epochs")
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        require_at_least(1, **{name: training.get(name, 1)})
    require_at_least(0, dataloader_num_workers=training.get("dataloader_num_workers", 0))
    in_range("seed", training.get("seed", 0), 0, 2**32 - 1)
    known = ["loss", *(metric.__name__ for metric in METRICS)]
    metric = training.get("metric_for_best_model")
    if metric is not None and metric.removeprefix("eval_") not in known:
        raise ValueError(f"metric_for_best_model must be one of {', '.join(known)}, got {metric!r}")


def _check_model(name: str) -> None:
    """Refuses a name that is nearly one of our classifiers' and cannot be a folder or an id OWNER/NAME on the Hub."""
    near = difflib.get_close_matches(name.lower(), MODELS, n=1)
    if near and name not in MODELS and "/" not in name and not Path(name).exists():
        raise ValueError(
            f"model must be one of {', '.join(MODELS)}, or a pretrained model's folder or id, got {name!r}; did you "
            f"mean {near[0]}?"
        )


def check_names(names: Iterable[str], source: str) -> None:
    """Checks that arguments of these names exist.

    Args:
        names: Names of fields.
        source: Where they come from, for the message: a file or a command.

    Raises:
        ValueError: A name is unknown; the message suggests the nearest.
    """
    for name in names:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            raise ValueError(f"{source}: unknown argument {name!r}" + (f"; did you mean {near[0]}?" if near else ""))


def _checked(name: str, value: Any) -> Any:
    """The value if it fits its field; a whole number as a float if the field is a float."""
    types = _types()[name]
    choices = FIELDS[name].metadata.get("choices") or [
        member.value for each in types if issubclass(each, Enum) for member in each
    ]
    if value is None:
        if FIELDS[name].default is not None:
            raise ValueError(f"{name} must have a value, got none")
    elif float in types and type(value) is int:
        return float(value)
    elif not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValueError(
            f"{name} must be {' or '.join(TYPE_NAMES[each] for each in types if each in TYPE_NAMES)}, got {value!r}"
        )
    elif choices and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


@cache
def _types() -> dict[str, tuple[type, ...]]:
    """Types that the value of each field may have."""
    hints = {**get_type_hints(RunArguments), **get_type_hints(TrainingArguments)}
    return {name: tuple(_members(hints[name])) for name in FIELDS}


def _members(hint: Any) -> Iterator[type]:
    """The types in a type hint, without their parameters."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        for member in get_args(hint):
            yield from _members(member)
    elif origin is Literal:
        yield from map(type, get_args(hint))
    else:
        yield origin or hint


class _Parser(HfArgumentParser):
    """Raises ValueError where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def training_parser(program: str) -> HfArgumentParser:
    """The parser of the flags of `kr-text train`: every field of `RunArguments` and `TrainingArguments`, and --config.

    It raises ValueError for a wrong flag. The defaults that it shows are those of the fields.
    """
    parser = _Parser(
        cast(Any, [RunArguments, TrainingArguments]),
        prog=program,
        usage="%(prog)s [flags]",
        allow_abbrev=False,
        description="Trains a text classifier, keeps its best epoch by validation error, and reports on the test rows. "
        "The flags are the fields of transformers.TrainingArguments. Flags that are not given come from the recipe of "
        "the model and the data set.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these flags; the command line wins")
    add_short_flags(parser)
    return parser


def parse_training(argv: Sequence[str], program: str) -> tuple[RunArguments, TrainingArguments]:
    """Parses the flags of `kr-text train`.

    Args:
        argv: Flags; `--config FILE` names a YAML file with more of them.
        program: Name of the command in messages.

    Raises:
        ValueError: A flag is wrong, or the YAML file cannot be read or has a key that is no flag.
    """
    return make_arguments(parse_values(argv, program), program)


def parse_values(argv: Sequence[str], program: str) -> dict[str, Any]:
    """Values by field name that the flags of `kr-text train` give, without defaults; raises as `parse_training`."""
    parser = training_parser(program)
    flags = by_field(_given(parser, argv))
    config = flags.pop("config", None)
    from_file = read_config(parser, Path(config)) if config else {}
    return {**from_file, **flags}


def _given(parser: argparse.ArgumentParser, argv: Sequence[str]) -> dict[str, Any]:
    """Values of the flags in `argv`, without defaults."""
    absent = object()  # argparse sets no default where the namespace has a value
    names = [*FIELDS, *ALIASES, "device", "config"]
    switches = [name for name, types in _types().items() if {*types} <= {bool, type(None)}]
    flags = parser.parse_args(with_values(argv, switches), argparse.Namespace(**dict.fromkeys(names, absent)))
    return {name: value for name, value in vars(flags).items() if value is not absent}


def read_config(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    """Values by field name in the YAML file of `--config`.

    Strings are converted as on the command line: `1e-3` is a number, `no` is false.

    Raises:
        ValueError: The file cannot be read, or has an unknown key or a wrong value.
    """
    values, as_text = read_yaml(path), read_yaml(path, as_text=True)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must be lines of `flag: value`, got {type(values).__name__}")
    try:
        values, as_text = by_field(values), by_field(as_text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    check_names(as_text, str(path))
    kept = {name: value for name, value in values.items() if isinstance(value, list | dict | None)}
    try:
        flags = _given(parser, [f"--{name}={text}" for name, text in as_text.items() if name not in kept])
        return {**flags, **{name: _checked(name, value) for name, value in kept.items()}}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def command_line(argv: Sequence[str]) -> str:
    """The command line for reports, without the values of flags that end in _token."""
    shown = list(argv)
    for place, flag in enumerate(argv):
        name, equals, _ = flag.partition("=")
        if name.startswith("--") and name.endswith("_token"):
            if equals:
                shown[place] = f"{name}=..."
            else:
                shown[place + 1 : place + 2] = ["..."]
    return shlex.join(shown)
