"""The command line: kr-text train | evaluate | predict | compare | run | report.

Each command imports what it needs when it runs, so that `kr-text --help` answers at once.
"""

import argparse
import json
import logging
import os
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
  kr-text run results/table3.yaml --data my_data      the runs of a grid of experiments that are not finished yet
  kr-text report results                              tables, tests and figures of all of them, on one page

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
    logger = logging.getLogger("kr_text")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # one line from us, not one for each try of its own
    try:
        COMMANDS[parsed.command](argv[1:], started)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough; Python flushes the rest of it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        if isinstance(error, OSError) and error.filename and error.strerror:
            message = f"{error.filename}: {error.strerror}"
        print(f"kr-text {parsed.command}: {message}", file=sys.stderr)
        return 2
    return 0


def _train(argv: Sequence[str], started: float) -> None:
    from kr_text.machine.process import prepare_for_training
    from kr_text.training.arguments import command_line, parse_training
    from kr_text.training.report_markdown import report_markdown
    from kr_text.training.train import train

    prepare_for_training()
    run, args = parse_training(argv, "kr-text train")
    report = train(run, args, command=command_line(["kr-text", "train", *argv]), started=started)
    if args.process_index == 0:
        print(report_markdown(report))
        print(f"Saved in {args.output_dir}", file=sys.stderr)
    args.distributed_state.wait_for_everyone()
    args.distributed_state.destroy_process_group()  # or a process of several may crash as it ends


def _hide_progress_of_loading() -> None:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def _evaluate(argv: Sequence[str], started: float) -> None:
    parser = argparse.ArgumentParser("kr-text evaluate", description="Measures a saved model on labelled rows.")
    parser.add_argument("model", help="a saved model's folder")
    parser.add_argument("--dataset", required=True, help="as for `kr-text train`")
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test"],
        help="of the data set; by default test, or all of one file that is not the one of the training",
    )
    parser.add_argument("--text_column", help="column with the text; several, comma-separated, are joined")
    parser.add_argument("--label_column", help="column with the class")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster where the hardware has it")
    flags = parser.parse_args(argv)

    from pathlib import Path

    from kr_text.classifier import Classifier, evaluate
    from kr_text.data.sources import load, load_rows
    from kr_text.training.report_markdown import metrics_table
    from kr_text.training.settings import saved_settings

    _hide_progress_of_loading()
    classifier = Classifier(flags.model, batch_size=flags.batch_size, bf16=flags.bf16)
    columns = {"text_column": flags.text_column, "label_column": flags.label_column}
    trained = saved_settings(Path(flags.model)) or {}
    known = Path(trained.get("dataset", "")).name == Path(flags.dataset).name
    if flags.split is None and Path(flags.dataset).is_file() and not known:
        rows = load_rows(flags.dataset, classifier.names, **columns)
        message = "%s: measured on all %d rows; --split test is for a file that the model was trained on"
        logging.getLogger("kr_text").warning(message, flags.dataset, rows.num_rows)
    else:  # a missing split is cut as it was for training
        data = load(flags.dataset, validation_size=trained.get("validation_size"), **columns)
        rows = data[flags.split or "test"]
    print(metrics_table(evaluate(classifier, rows)))


def _predict(argv: Sequence[str], started: float) -> None:
    parser = argparse.ArgumentParser(
        "kr-text predict",
        description="Classifies texts: a JSON line for each, with its label and the probability of every class.",
    )
    parser.add_argument("model", help="a saved model's folder")
    parser.add_argument(
        "file",
        help="texts: .csv, .tsv (with a header), .jsonl, each also as .gz; any other file has a text in each line; "
        "- for lines from standard input",
    )
    parser.add_argument("--text_column", help="column or key with the text; several, comma-separated, are joined")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster where the hardware has it")
    flags = parser.parse_args(argv)

    from kr_text.classifier import Classifier
    from kr_text.data import read_texts

    _hide_progress_of_loading()
    classifier = Classifier(flags.model, batch_size=flags.batch_size, bf16=flags.bf16)
    for label, probabilities in classifier(read_texts(flags.file, flags.text_column)):
        print(json.dumps({"label": label, "probabilities": probabilities}, ensure_ascii=False))


def _compare(argv: Sequence[str], started: float) -> None:
    parser = argparse.ArgumentParser(
        "kr-text compare",
        description="Trains with several losses over several seeds and prints their mean test error, NLL and ECE, and "
        "a paired test against cross-entropy. Stopped and started again, it goes on where it was.",
        epilog="All other flags are those of `kr-text train`, and the same for every run.",
        allow_abbrev=False,
    )
    parser.add_argument("--losses", nargs="+", default=["ce", "ls", "kr", "kr-ls"], metavar="LOSS", help="%(default)s")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED", help="%(default)s")
    parser.add_argument("--output_dir", default="runs/comparison", help="%(default)s")
    own, flags = parser.parse_known_args(argv)

    from kr_text.experiments.comparison import compare, comparison_markdown
    from kr_text.machine.process import prepare_for_training
    from kr_text.training.arguments import command_line

    prepare_for_training()
    command = command_line(["kr-text", "compare", *argv])
    result = compare(own.losses, own.seeds, own.output_dir, flags, command=command)
    print(comparison_markdown(result))
    print(f"Saved in {own.output_dir}", file=sys.stderr)


def _run(argv: Sequence[str], started: float) -> None:
    parser = argparse.ArgumentParser(
        "kr-text run",
        description="Runs what is missing of a grid of experiments (see kr_text/grids.py). Stopped at any moment and "
        "started again, it goes on where it was.",
        allow_abbrev=False,
    )
    parser.add_argument("grids", nargs="+", help="YAML files")
    parser.add_argument("--results", metavar="FOLDER", help="for the results; by default that of the grid")
    parser.add_argument(
        "--data", nargs="*", default=["data"], metavar="FOLDER", help="hold the data sets; others are the Hub's: data"
    )
    parser.add_argument("--work", default="runs/experiments", help="for models on the way: %(default)s")
    parser.add_argument(
        "--workers", type=int, help="runs at a time; by default one a core, or one with an accelerator or --fresh"
    )
    parser.add_argument("--engine", default="local", choices=["local", "ray"], help="processes here, or a Ray cluster")
    parser.add_argument("--fresh", action="store_true", help="a new process for each run, to measure its memory")
    parser.add_argument("--only", metavar="FIELD=VALUE,...", help="runs with these values, as in model=fasttext,seed=1")
    parser.add_argument(
        "--training", metavar="FIELD=VALUE,...", help="training arguments that all runs get beside theirs"
    )
    flags = parser.parse_args(argv)

    from pathlib import Path

    from kr_text.experiments.code_version import commit_of_code
    from kr_text.experiments.engines import ENGINES, Setting, default_workers, run_missing
    from kr_text.experiments.grids import read_grid
    from kr_text.formats.overrides import parse_overrides

    if flags.fresh and (flags.engine != "local" or (flags.workers or 1) > 1):
        raise ValueError(
            f"fresh must have one worker and the engine local, got workers {flags.workers} and engine {flags.engine}"
        )
    workers = flags.workers or (1 if flags.fresh else default_workers())
    setting = Setting(tuple(flags.data), flags.work, workers, flags.fresh, commit_of_code())
    only = parse_overrides(flags.only, "only")
    grids = {path: read_grid(path).with_training(flags.training) for path in map(Path, flags.grids)}
    chosen = {path: grid.only(only) for path, grid in grids.items()}
    if not any(chosen.values()):
        raise ValueError(f"only must leave a run of {', '.join(flags.grids)}, got {flags.only}")
    failures: list[str] = []
    for path, runs in chosen.items():
        folder = Path(flags.results) if flags.results else path.parent
        print(f"{grids[path].title} ({path})", flush=True)
        failures += run_missing(runs, folder, setting, ENGINES[flags.engine], lambda line: print(line, flush=True))
    if failures:
        total = sum(map(len, chosen.values()))
        raise ValueError(f"{len(failures)} of {total} runs failed, see above; the same command tries them again")


def _report(argv: Sequence[str], started: float) -> None:
    parser = argparse.ArgumentParser(
        "kr-text report",
        description="Writes report.html, in one file, and report.md, of a folder of results: tables with paired tests, "
        "and figures.",
    )
    parser.add_argument("folder", help="with the grids and what `kr-text run` left there")
    flags = parser.parse_args(argv)

    from pathlib import Path

    try:
        import jinja2  # noqa: F401  only whether it is there
        import matplotlib  # noqa: F401  the same
    except ImportError as error:
        raise ValueError(f"a report needs {error.name}: pip install 'kr-text[report]'") from error
    from kr_text.report.page import write_page

    write_page(Path(flags.folder))
    print(f"Saved in {flags.folder}/report.html and report.md", file=sys.stderr)


COMMANDS: dict[str, Callable[[Sequence[str], float], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "compare": _compare,
    "run": _run,
    "report": _report,
}
