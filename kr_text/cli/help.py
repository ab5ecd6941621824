"""Help of the flags of a training run, in groups, with the defaults that apply; `train` and `compare` print it."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import MISSING
from functools import partial
from typing import Any

from kr_text.cli.parser import HELP_FLAGS, CommandParser
from kr_text.training.arguments import FIELDS, TRAINING_DEFAULTS, training_parser
from kr_text.training.computed_recipes import fixed_recipe_name
from kr_text.training.flags import ALIASES, DEVICES, POSITIONAL
from kr_text.training.recipes import BENCHMARKS, recipe

GROUPS = {
    "data": [
        "dataset",
        "text_column",
        "label_column",
        "validation_size",
        "fold",
        "strict",
        "max_train_rows",
        "max_length",
        "long_texts",
        "stride",
    ],
    "model": ["model", "config_overrides", "alphabet", "word_vectors"],
    "loss": ["loss", "loss_overrides", "residual_learning_rate", "class_weights", "class_sampling", "teacher"],
    "training": [
        "recipe",
        "num_train_epochs",
        "per_device_train_batch_size",
        "learning_rate",
        "metric_for_best_model",
        "early_stopping_patience",
        "device",
        "bf16",
        "seed",
        "train_on_validation",
        "label_matrices",
        "output_dir",
        "resume",
        "overwrite",
        "config",
    ],
}
TEXTS = {  # instead of the texts of TrainingArguments; device and config are not fields
    "num_train_epochs": "number of epochs",
    "per_device_train_batch_size": "batch size on each device",
    "learning_rate": "peak learning rate",
    "device": f"device to train on, {', '.join(DEVICES)}; default: the accelerator if there is one",
    "bf16": "train in bfloat16",
    "metric_for_best_model": "metric on the validation rows that chooses the epoch to keep: error_rate, macro_f1, nll, "
    "brier_score, ece, aurc or loss",
    "seed": "seed of the initial weights, the order of the rows and dropout",
    "output_dir": "folder for the model and the report; default: runs/MODEL-DATASET-LOSS",
    "config": "YAML file with values of any of these flags; the command line wins",
}


def print_training_help(
    parser: CommandParser, argv: Sequence[str], *, every_flag: bool, left_out: Collection[str] = ()
) -> None:
    """Prints the help of a command that takes the flags of a training run.

    Args:
        parser: Empty parser of the command, or a parser with the flags that are the command's own.
        argv: Flags, which may choose the model and the data set; their recipe gives defaults.
        every_flag: Whether to list all fields of `TrainingArguments`.
        left_out: Names of fields that the command sets itself.
    """
    chosen, _ = training_parser("kr-text").parse_known_args(argv)
    model, dataset = chosen.model, getattr(chosen, POSITIONAL, chosen.dataset)
    defaults = _defaults(model, fixed_recipe_name(chosen.recipe, dataset))
    groups = {title: [name for name in names if name not in left_out] for title, names in GROUPS.items()}
    if every_flag:
        shown = {*left_out, *(name for names in groups.values() for name in names)}
        groups["other fields of TrainingArguments"] = [name for name in FIELDS if name not in shown]
    else:
        parser.epilog = f"All other fields of TrainingArguments are flags: `{parser.prog} --help-all`"
    parser.usage = "%(prog)s [DATASET] [FLAGS]"
    parser.description = f"{parser.description} Defaults marked (recipe) are for {model} on {dataset}."
    parser.formatter_class = partial(argparse.HelpFormatter, max_help_position=32)
    for title, names in groups.items():
        group = parser.add_argument_group(title)
        for name in names:
            aliases = [f"--{alias}" for alias, field in ALIASES.items() if field == name]
            group.add_argument(f"--{name}", *aliases, **_settings(name, defaults.get(name, "")))
    group = parser.add_argument_group("help")
    for flag, text in HELP_FLAGS.items():
        group.add_argument(flag, action="store_true", help=text)
    parser.print_help()


def _defaults(model: str, name: str | None) -> dict[str, str]:
    """Non-empty defaults as text. The recipe's value wins, then kr-text's, then the Trainer's.

    Args:
        model: Name of the model.
        name: Name of the recipe in recipes.yaml; None for a recipe that is computed from the data.
    """
    values = {name: each.default for name, each in FIELDS.items() if each.default is not MISSING} | TRAINING_DEFAULTS
    defaults = {name: str(getattr(value, "value", value)) for name, value in values.items() if value not in (None, "")}
    chosen = recipe(model, name or BENCHMARKS)
    of_recipe = {**chosen.tokenizer, **chosen.training}
    of_recipe["config_overrides"] = ", ".join(f"{name}={value}" for name, value in chosen.config.items())
    if name is None:
        return defaults | dict.fromkeys(of_recipe, "computed from the data")
    return defaults | {name: f"{value} (recipe)" for name, value in of_recipe.items() if value != ""}


def _settings(name: str, default: str) -> dict[str, Any]:
    """Arguments of `add_argument` for a flag in the help."""
    field = FIELDS.get(name)
    text = TEXTS.get(name) or (field.metadata["help"] if field else "")
    if field and field.metadata.get("choices"):
        text += f"; one of {', '.join(field.metadata['choices'])}"
    if default == "False":
        return {"help": text, "action": "store_true"}
    shown = f"{text.removesuffix('.')}; default: {default.replace('%', '%%')}" if default else text
    is_bool = field is not None and isinstance(field.default, bool)
    return {"help": shown, "metavar": "BOOL" if is_bool else name.rpartition("_")[2].upper()}
