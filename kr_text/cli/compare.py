"""Command `kr-text compare`."""

import argparse
import sys

from kr_text.cli.parser import CommandParser, check_flags
from kr_text.training.flags import training_flags

SUMMARY = "train with several losses and seeds, and test the differences"
DESCRIPTION = (
    "Trains with several losses over several seeds. Prints the mean test error, NLL and ECE of each loss, and a paired "
    "test against cross-entropy. With --folds 5, each row is a test row once, for data that are too small for one test "
    "split. If interrupted, the same command continues where it stopped."
)


def add_flags(parser: CommandParser) -> None:
    """Adds the flags of `kr-text compare` that are not flags of a training run."""
    _add_own_flags(parser)
    parser.add_training_help_flags()
    parser.set_defaults(execute=_compare)


def _add_own_flags(parser: CommandParser) -> None:
    parser.add_argument(
        "--losses",
        nargs="+",
        default=["ce", "ls", "kr", "kr-ls"],
        metavar="LOSS",
        help="losses to compare; ce, or else the first, is the baseline; default: ce ls kr kr-ls",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED", help="a run for each; default: 1 2 3"
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="cross-validate: put all rows together, cut them into K stratified folds, and train K times for each loss "
        "and seed, with another fold as test rows each time; default: the test rows of the data set",
    )
    parser.add_argument(
        "--output_dir", default="runs/comparison", metavar="DIR", help="folder of all runs; default: %(default)s"
    )


def _compare(flags: argparse.Namespace) -> None:
    parser = CommandParser("kr-text compare", description=DESCRIPTION)
    _add_own_flags(parser)
    if not (flags.help or flags.help_all):
        check_flags(flags.training_flags, [*parser.flags, *training_flags()])

    from kr_text.cli.help import print_training_help
    from kr_text.experiments.comparison import OWN_FLAGS, compare, comparison_markdown
    from kr_text.machine.process import prepare_for_training
    from kr_text.training.arguments import command_line

    if flags.help or flags.help_all:
        return print_training_help(parser, flags.training_flags, every_flag=flags.help_all, left_out=OWN_FLAGS)
    prepare_for_training()
    command = command_line(["kr-text", *flags.argv])
    runs = (flags.losses, flags.seeds, flags.output_dir, flags.training_flags)
    result = compare(*runs, command=command, num_folds=flags.folds)
    print(comparison_markdown(result))
    print(f"Saved in {flags.output_dir}", file=sys.stderr)
