"""Names of the flags of a training run, known without torch and transformers, whose import takes seconds."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ALIASES = {  # short flag, also a key of a --config file: the field that it sets
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
}
DEVICES = ("cpu", "cuda", "mps")


def training_flags() -> list[str]:
    """The flags of `kr-text train`: fields of `RunArguments` and `TrainingArguments`, aliases, --device, --config.

    A name of several words is also a flag with hyphens, and a switch that is on by default also one with `--no_`.
    """
    transformers = find_spec("transformers")  # finds the package, and does not import it
    assert transformers is not None
    names = [
        *_fields(Path(__file__).with_name("arguments.py"), "RunArguments"),
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
