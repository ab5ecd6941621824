"""Command line `kr-text`: parses the command and its flags, runs the command, and reports errors in one line.

Each command has a module with `add_flags(parser)`. The modules import torch and transformers only when their command
runs, so that `kr-text --help` and `kr-text --version` answer at once.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence

from kr_text import __version__
from kr_text.cli import compare, evaluate, predict, report, run, train, tune
from kr_text.cli.parser import CommandParser, check_flags, nearest

COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "tune": tune,
    "compare": compare,
    "run": run,
    "report": report,
}
DESCRIPTION = (
    "Text classifiers that learn how their classes relate while they train (Knowledge Refinery, KR, AAAI 2021)."
)
EXAMPLES = """\
examples:
  kr-text train                                       FastText with KR-LS on a generated corpus, in seconds
  kr-text train my_data.csv --epochs 10               the columns text,label; or a folder with train.csv and test.csv
  kr-text evaluate runs/MODEL my_data.csv             error, F1, NLL, Brier score, ECE and AURC
  kr-text predict runs/MODEL "some text"              label and class probabilities, as a JSON line
  kr-text predict runs/MODEL < texts.txt              the same for every line of a file or a pipe
  kr-text tune my_data.csv --minutes 5                model and settings with the lowest validation error
  kr-text compare --losses ce kr-ls --seeds 1 2 3     two losses, three seeds each, with a paired test
  kr-text run scripts/grids/table3.yaml               the runs of a grid that have no result yet
  kr-text report results --grids scripts/grids        tables, tests and figures of all results on one page

`kr-text help COMMAND` lists the flags of a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Command and flags; those of the process by default.

    Returns:
        Exit code: 0; 2 after an error, which is one line on stderr; 130 after Ctrl-C.
    """
    started = time.time()
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    program = f"kr-text {argv[0]}" if argv and argv[0] in COMMANDS else "kr-text"
    try:
        _run_command(argv, started)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout has closed it; Python would flush stdout again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"{program}: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _run_command(argv: list[str], started: float) -> None:
    parser, commands = _parsers()
    if not argv:
        parser.print_help()
        return
    if argv[0] not in commands and not argv[0].startswith("-"):
        hint = nearest(argv[0], [*commands, "help"]) or f"; the commands are {', '.join(commands)} and help"
        raise ValueError(f"unknown command {argv[0]!r}{hint}")
    command = commands.get(argv[0], parser)
    if not command.takes_training_flags:  # first, since argparse would report a misspelt required flag as missing
        check_flags(argv, command.flags)
    try:
        if command is parser:
            flags, unknown = parser.parse_known_args(argv)
        elif command.takes_training_flags:
            flags, unknown = command.parse_known_args(argv[1:])
        else:  # flags may stand between the positional arguments
            flags, unknown = command.parse_known_intermixed_args(argv[1:])
    except SystemExit:  # argparse has printed the help or the version; an error is a ValueError
        return
    if unknown and not command.takes_training_flags:
        raise ValueError(f"unexpected argument {unknown[0]!r}; see `{command.prog} --help`")
    logger = logging.getLogger("kr_text")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # no warning for each retry: a failed request is one line
    flags.argv, flags.training_flags, flags.started = argv, unknown, started
    flags.execute(flags)


def _parsers() -> tuple[CommandParser, dict[str, CommandParser]]:
    """The parser of `kr-text`, and the parser of each command."""
    parser = CommandParser(
        "kr-text",
        usage="kr-text COMMAND [FLAGS]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_help_flag()
    parser.add_argument("--version", action="version", version=f"kr-text {__version__}", help="print the version")
    subparsers = parser.add_subparsers(title="commands", prog="kr-text", metavar="COMMAND", required=True)
    commands = {}
    for name, module in COMMANDS.items():
        commands[name] = subparsers.add_parser(name, help=module.SUMMARY, description=module.DESCRIPTION)
        module.add_flags(commands[name])
        if not commands[name].takes_training_flags:
            commands[name].add_help_flag()
    return parser, commands


def _one_line(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
