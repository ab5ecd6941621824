"""Command `kr-text tune`."""

import argparse
import sys

from kr_text.cli.parser import CommandParser, check_flags
from kr_text.training.flags import training_flags

SUMMARY = "search the model and the settings for your data"
DESCRIPTION = (
    "Searches model, loss and settings by validation error within the time given, and prints each trial that is better "
    "than all before. Then trains the best settings once more, on the training and the validation rows, and reports on "
    "the test rows, which the search does not use. Leaves the model and recipe.yaml, which `kr-text train --config` "
    "takes. Flags of `kr-text train` set what is not searched. Ctrl-C ends the search and trains the best so far."
)


def add_flags(parser: CommandParser) -> None:
    """Adds the flags of `kr-text tune` that are not flags of a training run."""
    _add_own_flags(parser)
    parser.add_training_help_flags()
    parser.set_defaults(execute=_tune)


def _add_own_flags(parser: CommandParser) -> None:
    parser.add_argument(
        "--minutes", type=float, default=5.0, metavar="M", help="time for the whole command; default: %(default)g"
    )
    parser.add_argument(
        "--output_dir", default="runs/tuned", metavar="DIR", help="folder for the model; default: %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in output_dir")


def _tune(flags: argparse.Namespace) -> None:
    parser = CommandParser("kr-text tune", description=DESCRIPTION)
    _add_own_flags(parser)
    if not (flags.help or flags.help_all):
        check_flags(flags.training_flags, [*parser.flags, *training_flags()])

    from datasets import disable_progress_bars

    from kr_text.cli.help import print_training_help
    from kr_text.experiments.tuning import OWN_FLAGS, RECIPE_FILE, tune
    from kr_text.machine.process import prepare_for_training
    from kr_text.training.arguments import command_line
    from kr_text.training.confusion_picture import draw_confusion_matrix
    from kr_text.training.report_markdown import report_markdown

    if flags.help or flags.help_all:
        return print_training_help(parser, flags.training_flags, every_flag=flags.help_all, left_out=OWN_FLAGS)
    disable_progress_bars()  # each trial would show some
    prepare_for_training()
    report = tune(
        flags.training_flags,
        flags.output_dir,
        minutes=flags.minutes,
        overwrite=flags.overwrite,
        command=command_line(["kr-text", *flags.argv]),
        started=flags.started,
    )
    draw_confusion_matrix(report, flags.output_dir)
    print(report_markdown(report))
    print(f"Saved in {flags.output_dir}, with the settings in {RECIPE_FILE}", file=sys.stderr)
