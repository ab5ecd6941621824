import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kr_text.classifier import Classifier

Main = Callable[..., int]
Shell = Callable[..., subprocess.CompletedProcess[str]]


def test_predict_writes_a_json_line_for_each_line_of_its_input(run_folder: Path, shell: Shell) -> None:
    texts = ["the team won the final", "", "caf\u00e9 \U0001f600"]
    done = shell("-m", "kr_text", "predict", str(run_folder), "-", input="\n".join(texts) + "\n")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["label"] for line in lines] == [prediction.label for prediction in Classifier(str(run_folder))(texts)]
    for line in lines:
        assert set(line) == {"label", "probabilities"}
        assert list(line["probabilities"]) == ["business", "economy", "politics", "science", "sports", "technology"]
        assert sum(line["probabilities"].values()) == pytest.approx(1)
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)


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


def test_predict_reads_columns_of_csv_files(
    kr_text: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, news: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,body\n1,the team\n2,the bank\n")
    assert kr_text("predict", str(run_folder), str(path), "--text_column", "body", "--batch_size", "1") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Classifier(str(run_folder))(["the team", "the bank"])
    assert [line["label"] for line in lines] == [prediction.label for prediction in expected]


def test_predict_prints_nothing_for_an_empty_file(
    kr_text: Main, capsys: pytest.CaptureFixture[str], run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    assert kr_text("predict", str(run_folder), str(tmp_path / "empty.txt")) == 0
    assert capsys.readouterr().out == ""
