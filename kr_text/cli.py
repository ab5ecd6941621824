"""The command line: kr-text train | evaluate | predict | compare.

Each command imports what it needs when it runs, so that `kr-text --help` answers at once.
"""

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Callable, Sequence

DESCRIPTION = """\
Text classifiers that learn how their classes relate while they train (Knowledge Refinery, AAAI 2021).

  kr-text train                                       FastText with KR-LS on a generated corpus, in seconds
  kr-text train --model textrnn --dataset my_folder   train.csv and test.csv with the columns text,label
  kr-text predict runs/MODEL texts.txt                a JSON line for each line, with all class probabilities
  kr-text evaluate runs/MODEL --dataset my_folder     error, F1, NLL, Brier score, ECE and AURC of a saved model
  kr-text compare --losses ce kr-ls --seeds 1 2 3     several losses over several seeds, with paired tests

`kr-text COMMAND --help` lists a command's flags.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 after a line on stderr that says what was wrong."""
    started = time.time()
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="kr-text", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=list(COMMANDS), help="what to do")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parsed = parser.parse_args(argv[:1])
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("kr_text").setLevel(logging.INFO)
    try:
        COMMANDS[parsed.command](argv[1:], started)
    except (ValueError, OSError) as error:
        print(f"kr-text {parsed.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _train(argv: Sequence[str], started: float) -> None:
    from kr_text.arguments import parse_training
    from kr_text.reports import report_markdown
    from kr_text.training import train

    run, args = parse_training(argv, "kr-text train")
    report = train(run, args, command=shlex.join(["kr-text", "train", *argv]), started=started)
    if args.process_index == 0:
        print(report_markdown(report))
        print(f"Saved in {args.output_dir}", file=sys.stderr)


def _evaluate(argv: Sequence[str], started: float) -> None:
    from kr_text.prediction import evaluate_command

    evaluate_command(argv)


def _predict(argv: Sequence[str], started: float) -> None:
    from kr_text.prediction import predict_command

    predict_command(argv)


def _compare(argv: Sequence[str], started: float) -> None:
    from kr_text.experiments import compare_command

    compare_command(argv, started)


COMMANDS: dict[str, Callable[[Sequence[str], float], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "compare": _compare,
}

if __name__ == "__main__":
    sys.exit(main())
