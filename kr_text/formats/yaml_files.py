"""YAML files that people write, and one clear line where one of them is wrong."""

from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path, *, as_text: bool = False) -> Any:
    """What a YAML file holds.

    Args:
        path: of the file.
        as_text: every value as it is written, in place of numbers, booleans and dates.

    Raises:
        ValueError: the file cannot be read, or is no YAML; the message says where.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader if as_text else yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{path}: must be a YAML file, got: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{path}: must be a YAML file, got: {where}{error.problem}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: must be a YAML file, got: {' '.join(str(error).split())}") from error
