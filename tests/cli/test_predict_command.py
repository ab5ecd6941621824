import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from kr_text.classifier import Classifier

Main = Callable[..., int]
Shell = Callable[..., subprocess.CompletedProcess[str]]
Predict = Callable[..., list[dict[str, Any]]]
NAMES = ["business", "economy", "politics", "science", "sports", "technology"]


@pytest.fixture
def predict(kr_text: Main, capsys: pytest.CaptureFixture[str], run_folder: Path) -> Predict:
    """The lines that `kr-text predict` prints: predict("a text", "--top_k", "2")."""

    def predict(*argv: str) -> list[dict[str, Any]]:
        assert kr_text("predict", str(run_folder), *argv) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return predict


def labels_of(run_folder: Path, texts: list[str]) -> list[str]:
    return [prediction.label for prediction in Classifier(str(run_folder))(texts)]


# Input


def test_predict_writes_a_json_line_for_each_line_of_its_input(run_folder: Path, shell: Shell) -> None:
    texts = ["the team won the final", "", "caf\u00e9 \U0001f600"]
    done = shell("-m", "kr_text", "predict", str(run_folder), "-", input="\n".join(texts) + "\n")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["label"] for line in lines] == labels_of(run_folder, texts)
    for line in lines:
        assert set(line) == {"label", "probabilities"}
        assert list(line["probabilities"]) == NAMES
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)


@pytest.mark.parametrize("flags", [[], ["-"]])
def test_standard_input_may_be_a_file_with_any_line_ends(
    run_folder: Path, tmp_path: Path, shell_environment: dict[str, str], flags: list[str]
) -> None:
    """A byte order mark, carriage returns, an empty line, and no newline at the end."""
    (tmp_path / "texts").write_bytes("\ufeffthe team won\r\n\r\nthe bank".encode())
    command = [sys.executable, "-m", "kr_text", "predict", str(run_folder), *flags]
    with (tmp_path / "texts").open() as file:
        done = subprocess.run(command, stdin=file, capture_output=True, env=shell_environment, check=True)
    labels = [json.loads(line)["label"] for line in done.stdout.splitlines()]
    assert labels == labels_of(run_folder, ["the team won", "", "the bank"])


def test_each_line_of_a_pipe_is_answered_before_the_next_is_written(
    run_folder: Path, shell_environment: dict[str, str]
) -> None:
    texts = ["the team won the final", "the bank raised its rates"]
    command = [sys.executable, "-m", "kr_text", "predict", str(run_folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": shell_environment}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        answers = []
        for text in texts:
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline())["label"])
        process.stdin.write("no newline")
        rest, _ = process.communicate(timeout=60)
    assert answers == labels_of(run_folder, texts)
    assert len(rest.splitlines()) == 1
    assert process.returncode == 0


def test_the_lines_before_a_wrong_one_in_a_pipe_are_answered(
    run_folder: Path, shell_environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "kr_text", "predict", str(run_folder)]
    done = subprocess.run(command, input=b"one\ntwo\n\xff\n", capture_output=True, env=shell_environment, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (2, 2)
    assert done.stderr.decode().splitlines()[-1].startswith("kr-text predict: standard input: row 3: must be UTF-8")


@pytest.mark.parametrize(
    "text",
    ["the team won the final", "team", "and / or", "-- 3 goals", "-5 degrees", "", "the team\nwon"],
    ids=repr,
)
def test_an_argument_that_names_no_file_is_a_text(predict: Predict, run_folder: Path, text: str) -> None:
    (line,) = predict(text)
    assert line["label"] == Classifier(str(run_folder))(text).label
    assert line["probabilities"] == pytest.approx(Classifier(str(run_folder))(text).probabilities, rel=1e-5)


def test_an_argument_that_names_a_file_is_the_file(
    predict: Predict, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "the team").write_text("the bank\nthe team\n")
    monkeypatch.chdir(tmp_path)
    assert [line["label"] for line in predict("the team")] == labels_of(run_folder, ["the bank", "the team"])


def test_flags_may_stand_between_the_model_and_the_input(predict: Predict) -> None:
    (line,) = predict("--top_k", "2", "the team won")
    assert len(line["probabilities"]) == 2


def test_on_a_terminal_without_input_predict_says_what_to_do(
    kr_text: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert kr_text("predict", "model") == 2
    message = 'input must be a text, a file or -, got none; for example: kr-text predict MODEL "some text"'
    assert capsys.readouterr() == ("", f"kr-text predict: {message}\n")


def test_predict_reads_columns_of_csv_files(predict: Predict, run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,body\n1,the team\n2,the bank\n")
    lines = predict(str(path), "--text_column", "body", "--batch_size", "1", "--device", "cpu")
    assert [line["label"] for line in lines] == labels_of(run_folder, ["the team", "the bank"])


def test_predict_reads_parquet_files(predict: Predict, run_folder: Path, tmp_path: Path) -> None:
    texts = ["the team", "", "the bank"]
    pyarrow.parquet.write_table(pa.table({"id": [1, 2, 3], "text": texts}), tmp_path / "rows.parquet")
    assert [line["label"] for line in predict(str(tmp_path / "rows.parquet"))] == labels_of(run_folder, texts)


def test_predict_prints_nothing_for_an_empty_file(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert predict(str(tmp_path / "empty.txt")) == []


# Output


@pytest.mark.parametrize("num_lines", [3, 3000])  # less, and more, than a pipe holds
def test_predict_ends_silently_if_the_reader_closes_the_pipe(
    run_folder: Path, tmp_path: Path, shell_environment: dict[str, str], num_lines: int
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("the team\n" * num_lines)
    command = [sys.executable, "-m", "kr_text", "predict", str(run_folder), str(texts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=shell_environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if num_lines > 3:
            assert json.loads(process.stdout.readline())["label"]
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 0
    assert "BrokenPipe" not in errors
    assert "Traceback" not in errors


def test_predict_ends_silently_if_the_reader_closes_the_pipe_and_the_writer_does_not(
    run_folder: Path, shell_environment: dict[str, str]
) -> None:
    """Standard input is still open, and read by a thread, when the process ends."""
    code = "import sys; from kr_text.cli import main; sys.exit(main(['predict', sys.argv[1]]))"
    command = [sys.executable, "-c", code, str(run_folder)]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with subprocess.Popen(command, env=shell_environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write("the team\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["label"]
        process.stdout.close()
        process.stdin.write("the team\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def test_probabilities_have_at_most_6_significant_digits(predict: Predict, run_folder: Path) -> None:
    text = "the team won the final"
    (line,) = predict(text)
    exact = Classifier(str(run_folder))(text).probabilities
    assert line["probabilities"] == {name: float(f"{value:.5e}") for name, value in exact.items()}
    assert line["probabilities"] != exact


def test_top_k_keeps_the_most_probable_classes_in_their_order(predict: Predict) -> None:
    (every,), (first,), (more,) = (predict("the team", *flags) for flags in ([], ["--top_k", "3"], ["--top_k", "99"]))
    ranked = sorted(every["probabilities"].items(), key=lambda pair: -pair[1])
    assert list(first["probabilities"].items()) == ranked[:3]
    assert list(more["probabilities"].items()) == ranked


def test_the_label_is_null_below_the_threshold(predict: Predict) -> None:
    (line,) = predict("the team won")
    top = max(line["probabilities"].values())
    assert predict("the team won", "--threshold", f"{top - 1e-4}") == [line]
    assert predict("the team won", "--threshold", f"{top + 1e-4}") == [{**line, "label": None}]


def test_an_output_file_gets_the_lines_instead_of_the_screen(
    predict: Predict, tmp_path: Path, kr_text: Main, capsys: pytest.CaptureFixture[str], run_folder: Path
) -> None:
    (tmp_path / "texts.txt").write_text("the team\nthe bank\n")
    printed = predict(str(tmp_path / "texts.txt"))
    output = tmp_path / "labels.jsonl"
    output.write_text("old\n")
    assert kr_text("predict", str(run_folder), str(tmp_path / "texts.txt"), "--output_file", str(output)) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(f"Saved in {output}\n")
    assert [json.loads(line) for line in output.read_text().splitlines()] == printed


def test_an_output_file_stays_as_it_is_after_an_error(
    kr_text: Main, tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kr_text.classifier.CHUNK", 2)
    (tmp_path / "texts.txt").write_bytes(b"one\n" * 5 + b"\xff\n")
    (tmp_path / "labels.jsonl").write_text("old\n")
    argv = ["predict", str(run_folder), str(tmp_path / "texts.txt"), "--output_file", str(tmp_path / "labels.jsonl")]
    assert kr_text(*argv) == 2
    assert (tmp_path / "labels.jsonl").read_text() == "old\n"
    assert {path.name for path in tmp_path.iterdir()} == {"texts.txt", "labels.jsonl"}
