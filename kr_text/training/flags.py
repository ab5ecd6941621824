"""Names of the flags of a training run, and the flags that set a field of another name.

This module imports neither torch nor transformers, which takes seconds, so that a misspelt flag is refused at once.
"""

import argparse
import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kr_text.machine.devices import device_named

ALIASES = {  # short flag, also a key of a --config file: the field that it sets
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
}
DEVICES = ("cpu", "cuda", "mps")
POSITIONAL = "DATASET"  # the data set without its flag
BOOLEANS = {"yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"}  # as HfArgumentParser reads them


def training_flags() -> list[str]:
    """The flags of `kr-text train`: fields of `RunArguments` and `TrainingArguments`, aliases, --device, --config.

    A name of several words is also a flag with hyphens, and a switch that is on by default also one with `--no_`.
    """
    transformers = find_spec("transformers")  # finds the package, and does not import it
    assert transformers is not None
    names = [
        *_fields(Path(__file__).with_name("run_arguments.py"), "RunArguments"),
        *_fields(Path(str(transformers.origin)).with_name("training_args.py"), "TrainingArguments"),
        *ALIASES,
    ]
    flags = [f"--{name}" for name in [*names, "device", "config"]]
    return flags + [f"--{name.replace('_', '-')}" for name in names if "_" in name]


def _fields(file: Path, class_name: str) -> Iterator[str]:
    """Public fields of a dataclass, read from its source file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id[0] != "_":
            yield node.target.id
            if any(keyword.arg == "default" and ast.unparse(keyword.value) == "True" for keyword in _keywords(node)):
                yield f"no_{node.target.id}"


def _keywords(node: ast.AnnAssign) -> list[ast.keyword]:
    return node.value.keywords if isinstance(node.value, ast.Call) else []


def add_short_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the aliases, --device, and the data set without its flag."""
    parser.add_argument(POSITIONAL, nargs="?", default=argparse.SUPPRESS, help="same as --dataset")
    parser.add_argument("--device", choices=DEVICES, help="device to train on; default: the accelerator, if any")
    for alias, name in ALIASES.items():
        hyphens = [f"--{alias.replace('_', '-')}"] if "_" in alias else []  # as HfArgumentParser has it
        kind = int if name.endswith("_size") else float
        parser.add_argument(f"--{alias}", *hyphens, type=kind, help=f"same as --{name}")


def with_values(argv: Sequence[str], switches: Collection[str]) -> list[str]:
    """Gives each switch a value if the next word is not one, as in `--overwrite my.csv`; argparse takes it for one.

    Args:
        argv: Flags.
        switches: Names of the fields that are true or false.
    """
    names = {f"--{name}" for name in switches}
    return [
        f"{flag}=true" if flag in names and not after.startswith("-") and after.lower() not in BOOLEANS else flag
        for flag, after in zip(argv, [*argv[1:], "-"], strict=False)
    ]


def by_field(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values by field name: aliases, the data set without its flag, and the device become the fields they set.

    Raises:
        ValueError: A field is given twice, or this machine has no such device.
    """
    values = dict(given)
    for other, name in {**ALIASES, POSITIONAL: "dataset", "device": "use_cpu"}.items():
        if other not in values:
            continue
        if name in values:
            raise ValueError(f"{name} must be given once, got {values[other]} as {other} and {values[name]}")
        value = values.pop(other)
        values[name] = device_named(value).type == "cpu" if other == "device" else value
    return values
