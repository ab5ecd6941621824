"""Parser of a command: its errors are ValueErrors, and a misspelt flag is reported with the nearest flag."""

import argparse
import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

HELP_FLAGS = {"--help": "show the most important flags, and exit", "--help-all": "show all flags, and exit"}


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that raises ValueError where argparse would print its usage and exit.

    Attributes:
        flags: Names of the flags, such as --dataset.
        takes_training_flags: Whether the command also takes the flags of a training run. This parser does not know
            them; `parse_known_args` returns them.
    """

    def __init__(self, prog: str | None = None, **settings: Any) -> None:
        self.flags: list[str] = []
        self.takes_training_flags = False
        super().__init__(prog, add_help=False, allow_abbrev=False, **settings)

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """Adds an argument, and records its names if it is a flag."""
        self.flags += [name for name in names if name.startswith("-")]
        return super().add_argument(*names, **settings)

    def error(self, message: str) -> NoReturn:
        """Raises a ValueError with the message."""
        raise ValueError(f"{message}; see `{self.prog} --help`")

    def add_help_flag(self) -> None:
        """Adds -h and --help."""
        self.add_argument("-h", "--help", action="help", help="show this text, and exit")

    def add_training_help_flags(self) -> None:
        """Adds -h, --help and --help-all, for a command that takes the flags of a training run.

        Such a command prints its own help.
        """
        self.takes_training_flags = True
        self.add_argument("-h", "--help", action="store_true")
        self.add_argument("--help-all", action="store_true")


def check_flags(argv: Iterable[str], known: Sequence[str]) -> None:
    """Raises ValueError for the first flag in `argv` that is not known; the message suggests the nearest."""
    for argument in argv:
        flag = argument.partition("=")[0]
        if argument == "--":
            return
        if re.fullmatch(r"--?[A-Za-z][\w-]*", flag) and flag not in known:
            raise ValueError(f"unknown flag {flag!r}{nearest(flag, known)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: a suggestion, or nothing if no known word is near."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def positive(text: str) -> int:
    """Type of a flag whose value is a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Type of a flag whose value is a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value
