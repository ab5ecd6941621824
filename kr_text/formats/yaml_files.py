"""Reads YAML files that people write; an error is one line that names the file and the place in it."""

from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path, *, as_text: bool = False) -> Any:
    """Reads a YAML file.

    Args:
        path: File to read.
        as_text: Returns each value as the text that stands in the file, instead of numbers, booleans and dates.

    Raises:
        ValueError: The file cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader if as_text else yaml.SafeLoader)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: No such file") from error
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{path}: must be a YAML file, got: {where}{error.problem}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: must be a YAML file, got: {' '.join(str(error).split())}") from error
