"""Grids: which runs belong together, written as a YAML file of blocks.

    title: The four classifiers
    about: What to know of it.
    runs:
      - {dataset: [ag_news, yahoo_answers], model: fasttext, loss: [ce, kr-ls], seed: 1-10}
      - {dataset: ag_news, model: textrnn, loss: [ce, kr-ls], seed: [1, 2, 3], max_train_rows: 24000}

A block has the fields of `kr_text.experiments.Run`. Where one is a list, the block stands for a run with each of its
entries; `1-10` is the list of these seeds.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from kr_text.experiments.run import Run
from kr_text.formats.yaml_files import read_yaml

TYPES: dict[str, Any] = get_type_hints(Run)


@dataclass(frozen=True)
class Grid:
    """Runs that belong together, seeds outermost: stopped half-way, it has something of everything."""

    name: str
    title: str
    about: str
    runs: tuple[Run, ...]

    def with_training(self, training: str | None) -> "Grid":
        """The same with further training arguments, as in "max_steps=2", which win over those there are."""
        both = (",".join(filter(None, (run.training, training))) or None for run in self.runs)
        return replace(self, runs=tuple(replace(run, training=text) for run, text in zip(self.runs, both, strict=True)))

    def only(self, values: Mapping[str, object]) -> list[Run]:
        """The runs with these values of their fields.

        Raises:
            ValueError: a field that runs do not have.
        """
        if unknown := values.keys() - TYPES.keys():
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}; known are {', '.join(sorted(TYPES))}")
        return [run for run in self.runs if all(getattr(run, name) == value for name, value in values.items())]


def read_grid(path: Path) -> Grid:
    """Reads a grid.

    Raises:
        ValueError: the file is no grid.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or set(content) != {"title", "about", "runs"}:
        raise ValueError(f"{path}: must have title, about and runs, got {content!r:.60}")
    for name in ("title", "about"):
        if not isinstance(content[name], str):
            raise ValueError(f"{path}: {name} must be a text, got {content[name]!r:.60}")
    if not isinstance(content["runs"], list) or not content["runs"]:
        raise ValueError(f"{path}: runs must be a list of blocks, got {content['runs']!r:.60}")
    runs: list[Run] = []
    for number, block in enumerate(content["runs"], 1):
        try:
            runs += expand(block)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: block {number}: {error}") from error
    runs = sorted(dict.fromkeys(runs), key=lambda run: run.seed)
    return Grid(path.stem, content["title"], content["about"], tuple(runs))


def expand(block: dict[str, Any]) -> Iterator[Run]:
    """The runs of a block."""
    if not isinstance(block, dict):
        raise ValueError(f"must have fields, got {block!r:.60}")
    if unknown := block.keys() - TYPES.keys():
        raise ValueError(f"unknown field {sorted(map(str, unknown))[0]!r}; known are {', '.join(sorted(TYPES))}")
    if missing := {"dataset", "model"} - block.keys():
        raise ValueError(f"must have {' and '.join(sorted(missing))}")
    values = [_values(name, value) for name, value in block.items()]
    return (Run(**dict(zip(block, each, strict=True))) for each in itertools.product(*values))


def _values(name: str, value: Any) -> list[Any]:
    if name == "seed" and isinstance(value, str) and (ends := re.fullmatch(r"(\d+)-(\d+)", value)):
        value = list(range(int(ends[1]), int(ends[2]) + 1))
    values, kind = value if isinstance(value, list) else [value], TYPES[name]
    if not values:
        raise ValueError(f"{name} must have a value, got none")
    if kind == float | None:
        values = [float(entry) if type(entry) is int else entry for entry in values]
    for entry in values:
        if not isinstance(entry, kind) or (isinstance(entry, bool) and kind is not bool):
            raise ValueError(f"{name} must be {kind.__name__ if isinstance(kind, type) else kind}, got {entry!r:.60}")
    return values
