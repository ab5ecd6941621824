"""Grids: runs that belong together, written as blocks in a YAML file.

    title: The four classifiers
    about: What the reader of the report page should know.
    section: table3
    runs:
      - {dataset: [ag_news, yahoo_answers], model: fasttext, loss: [ce, kr-ls], seed: 1-10}
      - {dataset: ag_news, model: textrnn, loss: [ce, kr-ls], seed: [1, 2, 3], max_train_rows: 24000}

A block has the fields of `kr_text.experiments.run.Run`. A list stands for one run per entry, and several lists for all
combinations; `1-10` is the list of the seeds 1 to 10. The optional `section` names the section of the report page that
shows the grid; without it the page shows plain tables of errors.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from kr_text.experiments.run import Run
from kr_text.formats.yaml_files import read_yaml

TYPES: dict[str, Any] = {
    name: kind for name, kind in get_type_hints(Run).items() if name not in ("settings_digest", "fold")
}
REQUIRED, OPTIONAL = {"title", "about", "runs"}, {"section"}


@dataclass(frozen=True)
class Grid:
    """A grid and its expanded runs.

    Attributes:
        name: Name of the file, without its extension.
        title: Heading on the report page.
        about: Paragraph below the heading.
        section: Section of the report page that shows the grid; None for plain tables of errors.
        runs: All runs, ordered by seed, so that an interrupted grid has some seeds of every setting.
    """

    name: str
    title: str
    about: str
    section: str | None
    runs: tuple[Run, ...]

    def with_training(self, training: str | None) -> "Grid":
        """A copy with further training arguments, for example "max_steps=2", which override those of the runs."""
        both = (",".join(filter(None, (run.training, training))) or None for run in self.runs)
        return replace(self, runs=tuple(replace(run, training=text) for run, text in zip(self.runs, both, strict=True)))

    def only(self, values: Mapping[str, object]) -> list[Run]:
        """The runs whose fields have these values.

        Raises:
            ValueError: Runs have no field of that name.
        """
        _check_names(values)
        return [run for run in self.runs if all(getattr(run, name) == value for name, value in values.items())]


def read_grid(path: Path) -> Grid:
    """Reads a grid from a YAML file.

    Raises:
        ValueError: The file is not a grid.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not REQUIRED <= content.keys() <= REQUIRED | OPTIONAL:
        raise ValueError(f"{path}: must have title, about and runs, and may have section, got {content!r:.60}")
    for name in sorted(content.keys() - {"runs"}):
        if not isinstance(content[name], str):
            raise ValueError(f"{path}: {name} must be text, got {content[name]!r:.60}")
    if not isinstance(content["runs"], list) or not content["runs"]:
        raise ValueError(f"{path}: runs must be a list of blocks, got {content['runs']!r:.60}")
    runs: list[Run] = []
    for number, block in enumerate(content["runs"], 1):
        try:
            runs += expand(block)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: block {number}: {error}") from error
    runs = sorted(dict.fromkeys(runs), key=lambda run: run.seed)
    return Grid(path.stem, content["title"], content["about"], content.get("section"), tuple(runs))


def expand(block: dict[str, Any]) -> Iterator[Run]:
    """All combinations of the values in a block, as runs."""
    if not isinstance(block, dict):
        raise ValueError(f"must have fields, got {block!r:.60}")
    _check_names(block)
    if missing := {"dataset", "model"} - block.keys():
        raise ValueError(f"must have {' and '.join(sorted(missing))}")
    values = [_values(name, value) for name, value in block.items()]
    return (Run(**dict(zip(block, each, strict=True))) for each in itertools.product(*values))


def _check_names(values: Mapping[str, object]) -> None:
    if unknown := values.keys() - TYPES.keys():
        raise ValueError(f"unknown field {sorted(map(str, unknown))[0]!r}; known are {', '.join(sorted(TYPES))}")


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
