import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Main = Callable[..., int]


@pytest.fixture
def paths(tmp_path: Path, run_folder: Path, news: Path) -> dict[str, Path]:
    names = ("config", "empty", "bad.csv", "missing", "new", "grid.yaml")
    paths = {name.partition(".")[0]: tmp_path / name for name in names}
    paths["config"].write_text("learning_rat: 1")
    paths["empty"].mkdir()
    paths["bad"].write_text("text,label\na,b,c\n")
    paths["grid"].write_text("title: A\nabout: B\nruns: [{dataset: a, model: fasttext}]")
    return {**paths, "run": run_folder, "news": news}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --config {config}", "{config}: unknown argument 'learning_rat'; did you mean learning_rate?"),
        ("train --config {missing}", "{missing}: No such file"),
        ("train --eval_strategy steps --output_dir {new}", "--load_best_model_at_end requires the save and eval strat"),
        ("train --dataset {empty} --output_dir {new}", "{empty} must hold train.csv"),
        ("train --dataset {missing} --output_dir {new}", "{missing} must be a file or a folder that exists"),
        ("train --dataset {bad} --output_dir {new}", "{bad}: row 2: must have 2 fields, got 3: a, b, c"),
        (
            "train --dataset {news} --output_dir {new} --validation_size inf",
            "validation_size must be a share in (0, 1)",
        ),
        ("train --dataset {news} --output_dir {new} --resume", "{new} must hold a checkpoint to resume from"),
        ("train --dataset {news} --output_dir {run}", "{run} holds a run already; give --resume to resume it"),
        (
            "predict {missing} -",
            "model must be a saved classifier's folder, or an id OWNER/NAME on the Hub, got '{missing}'",
        ),
        ("predict {run} {missing}", "input must be a file that exists, or a text, got '{missing}'; pass a text that"),
        ("predict {run} missing.csv", "input must be a file that exists, or a text, got 'missing.csv'; pass a text"),
        ("predict {run} missing.txt", "input must be a file that exists, or a text, got 'missing.txt'; pass a text"),
        ("predict {run} text --text_column a", "text_column must be left out where the input has no columns, got a"),
        ("predict {run} {bad} --output_file {bad}", "output_file must not be the input, got {bad} for both"),
        ("predict {run} {bad} --output_file {empty}", "output_file must be a file, got {empty}"),
        ("predict {run} {bad} --output_file {new}/a", "output_file must be in a folder that exists, got {new}/a"),
        ("predict {run} {bad} --output_file {new}", "{bad}: row 2: must have 2 fields, got 3: a, b, c"),
        ("predict {run} {empty}", "{empty}: Is a directory"),
        ("predict {run} {bad}", "{bad}: row 2: must have 2 fields, got 3: a, b, c"),
        ("evaluate {missing} --dataset {news}", "model must be a saved classifier's folder, or an id OWNER/NAME"),
        ("evaluate {run} --dataset {bad}", "{bad}: row 2: must have 2 fields, got 3: a, b, c"),
        ("compare --output_dir {new} --seeds 1 1", "seeds must be one or more, each once, got 1, 1"),
        ("compare --output_dir {new} --dataset {empty}", "{empty} must hold train.csv"),
        ("run {missing}", "{missing}: No such file"),
        ("run {config}", "{config}: must have title, about and runs, and may have section, got"),
        ("run {grid} --only seed=2", "only must match a run of {grid}, got seed=2"),
        ("run {grid} --fresh --workers 2", "fresh must have one worker and the engine local, got --workers 2"),
        (
            "run {grid} --fresh --engine ray",
            "fresh must have one worker and the engine local, got --engine ray",
        ),
        ("train {news} word", "unrecognized arguments: word"),
        ("train {news} --dataset x", "dataset must be given once, got {news} as DATASET and x"),
        ("train --model fastext", "model must be one of fasttext, textrnn, charcnn, transformer, or a pretrained"),
        ("train agnews --output_dir {new}", "agnews must be a file or a folder that exists; did you mean ag_news? Hub"),
        ("train --device gpu", "argument --device: invalid choice: 'gpu' (choose from"),
        ("evaluate x", "the following arguments are required: DATASET; see `kr-text evaluate --help`"),
        ("evaluate x {news} --dataset y", "dataset must be given once, got {news} as DATASET and y"),
        ("evaluate x {news} z", "unexpected argument 'z'; see `kr-text evaluate --help`"),
        ("predict", "the following arguments are required: MODEL; see `kr-text predict --help`"),
        ("predict a b c", "input must be one text or file, got 2; a text with blanks needs quotes"),
        ("predict a b --top_k 0", "argument --top_k: must be a whole number of at least 1, got '0'"),
        ("predict a b --threshold 50", "argument --threshold: must be a number from 0 to 1, got '50'"),
        ("predict a b --threshold nan", "argument --threshold: must be a number from 0 to 1, got 'nan'"),
        ("predict a b --device gpu", "argument --device: invalid choice: 'gpu' (choose from"),
        ("predict a b --batch_size 0", "argument --batch_size: must be a whole number of at least 1, got '0'"),
        ("evaluate a --dataset b --split dev", "argument --split: invalid choice: 'dev' (choose from"),
        ("run {grid} --workers -1", "argument --workers: must be a whole number of at least 1, got '-1'"),
        ("compare --seeds one", "argument --seeds: invalid int value: 'one'"),
        ("run {grid} --only seed", "only must be NAME=VALUE,NAME=VALUE,..., got 'seed'"),
    ],
)
def test_an_error_is_one_line_on_stderr(
    kr_text: Main, capsys: pytest.CaptureFixture[str], paths: dict[str, Path], command: str, message: str
) -> None:
    argv = [part.format(**paths) for part in command.split()]
    assert kr_text(*argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *before, last, end = re.split(r"[\r\n]", captured.err)
    assert last.startswith(f"kr-text {argv[0]}: {message.format(**{name: str(path) for name, path in paths.items()})}")
    assert end == ""
    assert not any("Traceback" in line or "Error" in line for line in before)
    assert not paths["new"].exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --learning_rte 1", "unknown flag '--learning_rte'; did you mean --learning_rate?"),
        ("train --datset=x", "unknown flag '--datset'; did you mean --dataset?"),
        ("train --epoch 3", "unknown flag '--epoch'; did you mean --epochs?"),
        ("train -lr 3", "unknown flag '-lr'; did you mean --lr?"),
        ("train x --batchsize 3", "unknown flag '--batchsize'; did you mean --batch_size?"),
        ("compare x --devise cpu", "unknown flag '--devise'; did you mean --device?"),
        ("train --confg x.yaml", "unknown flag '--confg'; did you mean --config?"),
        ("compare --num_train_epoch 1", "unknown flag '--num_train_epoch'; did you mean --num_train_epochs?"),
        ("compare --sedes 1", "unknown flag '--sedes'; did you mean --seeds?"),
        ("evaluate x --datset y", "unknown flag '--datset'; did you mean --dataset?"),
        ("predict x y --batchsize 3", "unknown flag '--batchsize'; did you mean --batch_size?"),
        ("run x --result y", "unknown flag '--result'; did you mean --results?"),
        ("report --grid x", "unknown flag '--grid'; did you mean --grids?"),
        ("report x --zzz", "unknown flag '--zzz'"),
    ],
)
def test_an_unknown_flag_is_one_line_with_the_nearest_flag(
    kr_text: Main, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    assert kr_text(*command.split()) == 2
    assert capsys.readouterr() == ("", f"kr-text {command.split()[0]}: {message}\n")


@pytest.mark.parametrize("argv", [["train", "--epoch", "3"], ["compare", "--learning_rte", "1"], ["predict", "-x"]])
def test_an_unknown_flag_is_found_before_anything_heavy_is_imported(
    shell_environment: dict[str, str], argv: list[str]
) -> None:
    code = f"import sys, kr_text.cli; print(kr_text.cli.main({argv}), *sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=shell_environment, check=True)
    code, *modules = done.stdout.split()
    assert code == "2"
    assert {"torch", "transformers", "numpy", "datasets"} & set(modules) == set()


def test_ctrl_c_is_one_line_and_code_130(
    kr_text: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kr_text.classifier.Classifier", interrupt)
    assert kr_text("predict", "model", "file") == 130
    assert capsys.readouterr() == ("", "kr-text predict: interrupted\n")


def test_a_closed_pipe_ends_the_help_silently(shell_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "kr_text", "help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=shell_environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")
