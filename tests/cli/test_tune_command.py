from collections.abc import Callable
from pathlib import Path

import pytest

from kr_text.training.report import Report
from kr_text.training.report_markdown import report_markdown
from training_cases import report_of

Main = Callable[..., int]


def test_tune_passes_its_flags_on_and_prints_the_report(
    kr_text: Main,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run_folder: Path,
    tmp_path: Path,
) -> None:
    calls: list[tuple[object, ...]] = []
    report = report_of(run_folder)

    def called(*call: object, **named: object) -> Report:
        calls.append((*call, named))
        Path("out").mkdir()
        return report

    monkeypatch.setattr("kr_text.experiments.tuning.tune", called)
    monkeypatch.chdir(tmp_path)
    argv = ["tune", "--model", "textrnn", "--minutes", "0.5", "--seed=3", "--output_dir", "out", "--overwrite"]
    assert kr_text(*argv) == 0
    ((flags, folder, named),) = calls
    assert (flags, folder) == (["--model", "textrnn", "--seed=3"], "out")
    assert isinstance(named, dict)
    assert named.pop("started") > 0
    assert named == {"minutes": 0.5, "overwrite": True, "command": f"kr-text {' '.join(argv)}"}
    assert Path("out/confusion_matrix.png").is_file()
    captured = capsys.readouterr()
    assert captured.out == f"{report_markdown(report)}\n"
    assert captured.err == "Saved in out, with the settings in recipe.yaml\n"


def test_a_tune_of_a_file_ends_in_time_and_prints_the_trials_that_improve(
    kr_text: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str], news: Path
) -> None:
    argv = ["tune", "--dataset", str(news / "train.csv"), "--minutes", "0.1", "--disable_tqdm", "true"]
    assert kr_text(*argv, "--output_dir", str(tmp_path)) == 0
    captured = capsys.readouterr()
    assert " s, trial 0: validation error " in captured.err
    assert " s: training the best settings on the training and the validation rows\n" in captured.err
    assert report_markdown(report_of(tmp_path)) in captured.out


def test_the_help_says_what_is_searched_and_when_the_test_rows_are_used(
    kr_text: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kr_text("help", "tune") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "reports on the test rows, which the search does not use" in text
    assert "--minutes M" in text
    assert "--resume" not in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--minute", "5"], "unknown flag '--minute'; did you mean --minutes?"),
        (["--minutes", "soon"], "argument --minutes: invalid float value: 'soon'"),
        (["--minutes", "-1"], "minutes must be"),
        (["--resume"], "flags must leave --resume to the search, got --resume"),
    ],
)
def test_wrong_flags_are_one_line(
    kr_text: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], message: str
) -> None:
    assert kr_text("tune", *argv, "--output_dir", str(tmp_path / "new")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"kr-text tune: {message}")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "new").exists()
