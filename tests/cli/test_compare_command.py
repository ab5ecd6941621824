from collections.abc import Callable
from pathlib import Path

import pytest


def test_compare_prints_the_table_it_saves(
    kr_text: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, small_flags: list[str]
) -> None:
    argv = ["compare", "--losses", "ce", "kr", "--seeds", "1", "--output_dir", str(tmp_path), *small_flags]
    assert kr_text(*argv, "--num_train_epochs", "1") == 0
    captured = capsys.readouterr()
    table = (tmp_path / "comparison.md").read_text()
    assert captured.out.endswith(f"{table}\n")
    assert captured.err.endswith(f"Saved in {tmp_path}\n")
    assert f"kr-text {' '.join(argv)}" in table


def test_compare_passes_the_training_flags_on_in_their_order(
    kr_text: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr("kr_text.experiments.comparison.compare", lambda *call, **named: calls.append((*call, named)))
    monkeypatch.setattr("kr_text.experiments.comparison.comparison_markdown", str)
    training = ["--model", "textrnn", "--learning_rate=1e-3", "--weight_decay", "-1", "--bf16", "no"]
    argv = ["compare", *training[:3], "--seeds", "4", "5", *training[3:], "--losses", "ce", "kr", "--folds", "4"]
    assert kr_text(*argv) == 0
    named = {"command": f"kr-text {' '.join(argv)}", "num_folds": 4}
    assert calls == [(["ce", "kr"], [4, 5], "runs/comparison", training, named)]
    assert capsys.readouterr().out == "None\n"
