"""Command `kr-text train`."""

import argparse
import sys

from kr_text.cli.parser import CommandParser, check_flags
from kr_text.training.flags import training_flags

SUMMARY = "train a classifier and report on the test rows"
DESCRIPTION = (
    "Trains a text classifier, keeps the epoch with the lowest validation error, and reports on the test rows. "
    "Without flags, trains FastText with KR-LS on a generated corpus."
)


def add_flags(parser: CommandParser) -> None:
    """Adds the help flags only; `kr_text.training.arguments` parses the flags of a training run."""
    parser.add_training_help_flags()
    parser.set_defaults(execute=_train)


def _train(flags: argparse.Namespace) -> None:
    if flags.help or flags.help_all:
        from kr_text.cli.help import print_training_help

        parser = CommandParser("kr-text train", description=DESCRIPTION)
        return print_training_help(parser, flags.training_flags, every_flag=flags.help_all)
    check_flags(flags.training_flags, training_flags())

    from kr_text.machine.process import prepare_for_training
    from kr_text.training.arguments import command_line, parse_training
    from kr_text.training.confusion_picture import draw_confusion_matrix
    from kr_text.training.report_markdown import report_markdown
    from kr_text.training.train import train

    prepare_for_training()
    run, args = parse_training(flags.training_flags, "kr-text train")
    report = train(run, args, command=command_line(["kr-text", *flags.argv]), started=flags.started)
    if args.process_index == 0:
        draw_confusion_matrix(report, str(args.output_dir))
        print(report_markdown(report))
        print(f"Saved in {args.output_dir}", file=sys.stderr)
    args.distributed_state.wait_for_everyone()
    args.distributed_state.destroy_process_group()  # without this, one of several processes may crash at exit
