import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Shell = Callable[..., subprocess.CompletedProcess[str]]
Trained = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small_flags: list[str], shell: Shell) -> Trained:
    folder = tmp_path_factory.mktemp("cli") / "run"
    return folder, shell("-m", "kr_text", "train", *small_flags, "--output_dir", str(folder))


def test_train_prints_the_report_and_its_folder(trained: Trained) -> None:
    folder, done = trained
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    report = (folder / "report.md").read_text()
    assert "# fasttext on tiny_news, trained with kr-ls" in report
    assert done.stdout.endswith(f"{report}\n")
    assert done.stderr.endswith(f"Saved in {folder}\n")
    assert "Warning" not in done.stderr


def test_the_folder_has_a_picture_of_the_confusion_matrix(trained: Trained) -> None:
    assert (trained[0] / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_has_the_command_line(trained: Trained, small_flags: list[str]) -> None:
    folder, _ = trained
    report = json.loads((folder / "report.json").read_text())
    assert report["command"] == f"kr-text train {' '.join(small_flags)} --output_dir {folder}"
    assert 0 < report["wall_time_seconds"]["total"] < 300


def test_the_same_run_in_this_process_gives_the_same_metrics(trained: Trained, run_folder: Path) -> None:
    reports = [json.loads((folder / "report.json").read_text()) for folder in (trained[0], run_folder)]
    assert reports[0]["test_metrics"] == reports[1]["test_metrics"]


def test_an_error_in_the_data_leaves_no_output_folder(kr_text: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("text,label\na,b,c\n")
    assert kr_text("train", "--dataset", str(tmp_path / "bad.csv"), "--output_dir", str(tmp_path / "new")) == 2
    assert not (tmp_path / "new").exists()
