import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kr_text.classifier import Classifier, evaluate
from kr_text.cli import COMMANDS, main
from kr_text.data.sources import load
from kr_text.training.report_markdown import metrics_table

Main = Callable[..., int]


@pytest.fixture(scope="module")
def environment(datasets_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a user's shell, in which nothing is written to the real caches and the Hub is not asked."""
    home = str(tmp_path_factory.mktemp("home"))
    ours = {"HF_HOME": home, "HF_DATASETS_CACHE": str(datasets_cache), "HF_HUB_OFFLINE": "1"}
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | ours


def kr_text(*argv: str, environment: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kr_text", *argv]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment)


@pytest.fixture
def in_process() -> Iterator[Main]:
    """`main` here, for what needs no process of its own; undoes what it does to logging."""
    logger, hub = logging.getLogger("kr_text"), logging.getLogger("huggingface_hub")
    before = logger.handlers[:], logger.level, hub.level
    yield lambda *argv: main(argv)
    logger.handlers[:], logger.level, hub.level = before


# As a user does


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, small_flags: list[str], environment: dict[str, str]
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("cli") / "run"
    done = kr_text("train", *small_flags, "--output_dir", str(folder), environment=environment)
    return folder, done


def test_train_prints_the_report_and_where_it_is(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = trained
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    report = (folder / "report.md").read_text()
    assert "# fasttext on tiny_news, trained with kr-ls" in report
    assert done.stdout.endswith(f"{report}\n")
    assert done.stderr.endswith(f"Saved in {folder}\n")
    assert "Warning" not in done.stderr


def test_the_report_has_the_command_that_made_it(
    trained: tuple[Path, subprocess.CompletedProcess[str]], small_flags: list[str]
) -> None:
    folder, _ = trained
    report = json.loads((folder / "report.json").read_text())
    assert report["command"] == f"kr-text train {' '.join(small_flags)} --output_dir {folder}"
    assert 0 < report["wall_time_seconds"]["total"] < 300


def test_the_same_run_in_this_process_gives_the_same_numbers(
    trained: tuple[Path, subprocess.CompletedProcess[str]], run_folder: Path
) -> None:
    reports = [json.loads((folder / "report.json").read_text()) for folder in (trained[0], run_folder)]
    assert reports[0]["test_metrics"] == reports[1]["test_metrics"]


def test_predict_writes_a_json_line_for_each_line_of_its_input(
    trained: tuple[Path, subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    folder, _ = trained
    texts = ["the team won the final", "", "caf\u00e9 \U0001f600"]
    done = kr_text("predict", str(folder), "-", environment=environment, stdin="\n".join(texts) + "\n")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["label"] for line in lines] == [prediction.label for prediction in Classifier(str(folder))(texts)]
    for line in lines:
        assert set(line) == {"label", "probabilities"}
        assert list(line["probabilities"]) == ["business", "economy", "politics", "science", "sports", "technology"]
        assert sum(line["probabilities"].values()) == pytest.approx(1)
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)


@pytest.mark.parametrize("num_lines", [3, 3000])  # less, and more, than a pipe holds
def test_predict_ends_in_silence_when_its_reader_does(
    run_folder: Path, tmp_path: Path, environment: dict[str, str], num_lines: int
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("the team\n" * num_lines)
    command = [sys.executable, "-m", "kr_text", "predict", str(run_folder), str(texts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if num_lines > 3:
            assert json.loads(process.stdout.readline())["label"]
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 0
    assert "BrokenPipe" not in errors
    assert "Traceback" not in errors


def test_help_needs_nothing_heavy(environment: dict[str, str]) -> None:
    code = "import sys, kr_text.cli\ntry: kr_text.cli.main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert "kr-text predict runs/MODEL texts.txt" in done.stdout
    assert {"torch", "transformers", "numpy", "datasets"} & set(done.stdout.split()) == set()


# In this process


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_names_each_command(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert re.search(rf"\n  kr-text {command} .*  \w+", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("train", ["--model", "--dataset", "--loss", "--word_vectors", "--learning_rate", "--config"]),
        ("evaluate", ["model", "--dataset", "--split", "--batch_size", "--bf16"]),
        ("predict", ["model", "file", "--text_column", "--batch_size", "--bf16"]),
        ("compare", ["--losses", "--seeds", "--output_dir", "kr-text train"]),
        ("run", ["grids", "--data", "--work", "--workers", "--engine", "--fresh", "--only"]),
    ],
)
def test_each_command_has_its_own_help(
    in_process: Main, capsys: pytest.CaptureFixture[str], command: str, flags: list[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        in_process(command, "--help")
    out = capsys.readouterr().out
    assert f"usage: kr-text {command}" in out
    assert [flag for flag in flags if flag not in out] == []


@pytest.mark.parametrize(
    "argv", [[], ["serve"], ["--verbose"], ["predict"], ["evaluate", "x"], ["predict", "a", "b", "c"]]
)
def test_wrong_usage_exits_with_2(in_process: Main, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        in_process(*argv)
    assert "kr-text" in capsys.readouterr().err


def test_an_unknown_command_lists_the_known_ones(in_process: Main, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        in_process("serve")
    assert re.search("'serve' .*train.*evaluate.*predict.*compare", capsys.readouterr().err)


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
        (
            "train --dataset {news} --output_dir {run}",
            "{run} holds a run already; give --resume to resume it, --overwrite",
        ),
        (
            "predict {missing} -",
            "model must be a saved classifier's folder, or an id OWNER/NAME on the Hub, got '{missing}'",
        ),
        ("predict {run} {missing}", "{missing}: No such file or directory"),
        ("predict {run} {empty}", "{empty}: Is a directory"),
        ("predict {run} {bad}", "{bad}: row 2: must have 2 fields, got 3: a, b, c"),
        ("evaluate {missing} --dataset {news}", "model must be a saved classifier's folder, or an id OWNER/NAME"),
        ("evaluate {run} --dataset {bad}", "{bad}: row 2: must have 2 fields, got 3: a, b, c"),
        ("compare --output_dir {new} --seeds 1 1", "seeds must be one or more, each once, got 1, 1"),
        ("compare --output_dir {new} --dataset {empty}", "{empty} must hold train.csv"),
        ("run {missing}", "{missing}: No such file"),
        ("run {config}", "{config}: must have title, about and runs, got {{'learning_rat': 1}}"),
        ("run {grid} --only seed=2", "only must leave a run of {grid}, got seed=2"),
        ("run {grid} --fresh --workers 2", "fresh must have one worker and the engine local, got workers 2"),
        (
            "run {grid} --fresh --engine ray",
            "fresh must have one worker and the engine local, got workers None and engine",
        ),
        ("train --learning_rat 1", "unrecognized arguments: --learning_rat 1"),
        ("run {grid} --only seed", "only must be NAME=VALUE,NAME=VALUE,..., got 'seed'"),
    ],
)
def test_what_was_wrong_is_one_line_on_stderr(
    in_process: Main, capsys: pytest.CaptureFixture[str], paths: dict[str, Path], command: str, message: str
) -> None:
    argv = [part.format(**paths) for part in command.split()]
    assert in_process(*argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *before, last, end = re.split(r"[\r\n]", captured.err)
    assert last.startswith(f"kr-text {argv[0]}: {message.format(**{name: str(path) for name, path in paths.items()})}")
    assert end == ""
    assert not any("Traceback" in line or "Error" in line for line in before)


def test_a_run_that_fails_at_its_data_leaves_no_folder(in_process: Main, paths: dict[str, Path]) -> None:
    assert in_process("train", "--dataset", str(paths["bad"]), "--output_dir", str(paths["new"])) == 2
    assert not paths["new"].exists()


def test_evaluate_prints_the_metrics_of_the_split(
    in_process: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path
) -> None:
    classifier, data = Classifier(str(run_folder)), load(news)
    tables = {split: f"{metrics_table(evaluate(classifier, data[split]))}\n" for split in ("test", "validation")}
    assert in_process("evaluate", str(run_folder), "--dataset", str(news)) == 0
    assert capsys.readouterr().out == tables["test"]
    assert in_process("evaluate", str(run_folder), "--dataset", str(news), "--split", "validation") == 0
    assert capsys.readouterr().out == tables["validation"] != tables["test"]


def test_evaluate_agrees_with_the_report_of_the_run(
    in_process: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path
) -> None:
    assert in_process("evaluate", str(run_folder), "--dataset", str(news)) == 0
    table = capsys.readouterr().out
    metrics = json.loads((run_folder / "report.json").read_text())["test_metrics"]
    for name, value in metrics.items():
        (printed,) = re.findall(rf"\| {name} +\| ([\d.]+) ", table)
        assert float(printed) == pytest.approx(value, abs=1e-4)


def test_evaluate_cuts_a_missing_split_as_training_did(
    in_process: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_flags: list[str], news: Path
) -> None:
    """Or it would measure on rows that the model was trained on."""
    flags = [*small_flags, "--dataset", str(news / "train.csv"), "--output_dir", str(tmp_path / "run")]
    assert in_process("train", *flags, "--validation_size", "40") == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["dataset"]["num_test_rows"] == 40
    capsys.readouterr()
    assert in_process("evaluate", str(tmp_path / "run"), "--dataset", str(news / "train.csv")) == 0
    assert f"| error_rate | {report['test_metrics']['error_rate']:.4f}" in re.sub(" +", " ", capsys.readouterr().out)


def test_predict_reads_columns_of_csv_files(
    in_process: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,body\n1,the team\n2,the bank\n")
    assert in_process("predict", str(run_folder), str(path), "--text_column", "body", "--batch_size", "1") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Classifier(str(run_folder))(["the team", "the bank"])
    assert [line["label"] for line in lines] == [prediction.label for prediction in expected]


def test_predict_prints_nothing_for_an_empty_file(
    in_process: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    assert in_process("predict", str(run_folder), str(tmp_path / "empty.txt")) == 0
    assert capsys.readouterr().out == ""


def test_compare_prints_the_table_it_saves(
    in_process: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path, small_flags: list[str]
) -> None:
    argv = ["compare", "--losses", "ce", "kr", "--seeds", "1", "--output_dir", str(tmp_path), *small_flags]
    assert in_process(*argv, "--num_train_epochs", "1") == 0
    captured = capsys.readouterr()
    table = (tmp_path / "comparison.md").read_text()
    assert captured.out.endswith(f"{table}\n")
    assert captured.err.endswith(f"Saved in {tmp_path}\n")
    assert f"kr-text {' '.join(argv)}" in table


def test_evaluate_measures_all_rows_of_another_file(
    in_process: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path, tmp_path: Path
) -> None:
    """It need not have all classes, nor as many rows as a cut would take."""
    header, *rows = (news / "test.csv").read_text().splitlines()
    label = rows[0].rpartition(",")[2]
    chosen = [row for row in rows if row.endswith(f",{label}")]
    (tmp_path / "held.csv").write_text("\n".join([header, *chosen]))
    assert in_process("evaluate", str(run_folder), "--dataset", str(tmp_path / "held.csv")) == 0
    captured = capsys.readouterr()
    assert f"measured on all {len(chosen)} rows" in captured.err
    predicted = list(Classifier(str(run_folder))(row.rpartition(",")[0].strip('"') for row in chosen))
    error = 100 * sum(each.label != label for each in predicted) / len(chosen)
    assert f"| error_rate | {error:.4f}" in re.sub(" +", " ", captured.out)
