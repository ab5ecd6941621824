import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kr_text.experiments.comparison
import kr_text.training.batches_trainer
from kr_text.experiments.comparison import Comparison, compare, comparison_markdown
from kr_text.experiments.significance import holm, paired_bootstrap
from kr_text.training.batches_trainer import ClassifierTrainer
from kr_text.training.report import PREDICTIONS_FILE
from kr_text.training.train import train

LOSSES, SEEDS = ["ce", "kr-ls"], [1, 2]
RUNS = ["ce-seed1", "kr-ls-seed1", "ce-seed2", "kr-ls-seed2"]  # in the order in which they are trained

Compare = Callable[..., Comparison]


@pytest.fixture(scope="module")
def flags(small_flags: list[str]) -> list[str]:
    return [*small_flags, "--num_train_epochs", "2"]


@pytest.fixture(scope="module")
def comparison_folder(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    """Two losses, two seeds. Tests read it and change nothing."""
    folder = tmp_path_factory.mktemp("comparison")
    compare(LOSSES, SEEDS, str(folder), flags, command="kr-text compare --some flags")
    return folder


@pytest.fixture
def copied(tmp_path: Path, comparison_folder: Path) -> Path:
    """The same comparison, moved and to be changed."""
    return Path(shutil.copytree(comparison_folder, tmp_path / "comparison"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the runs that are trained, as they are."""
    folders: list[str] = []

    def noted(run: Any, args: Any, **kwargs: Any) -> Any:
        folders.append(Path(args.output_dir).name + (" resumed" if run.resume else ""))
        return train(run, args, **kwargs)

    monkeypatch.setattr(kr_text.experiments.comparison, "train", noted)
    return folders


def result_of(folder: Path) -> Comparison:
    return cast(Comparison, json.loads((folder / "comparison.json").read_text()))


def wrong(folder: Path, run: str) -> list[bool]:
    saved = load_file(folder / run / PREDICTIONS_FILE)
    return [
        max(range(6), key=row.__getitem__) != label
        for row, label in zip(saved["probabilities"].tolist(), saved["labels"].tolist(), strict=True)
    ]


def test_a_comparison_leaves_a_folder_for_each_run_and_the_table(comparison_folder: Path) -> None:
    assert {path.name for path in comparison_folder.iterdir()} == {*RUNS, "comparison.json", "comparison.md"}
    for run in RUNS:
        names = {path.name for path in (comparison_folder / run).iterdir()}
        assert names >= {"model.safetensors", "report.json", "test_predictions.safetensors", "settings.json"}
        assert not any(name.startswith("checkpoint") for name in names)


def test_each_report_has_the_command_that_makes_the_run_alone(comparison_folder: Path, flags: list[str]) -> None:
    report = json.loads((comparison_folder / "kr-ls-seed2" / "report.json").read_text())
    folder = comparison_folder / "kr-ls-seed2"
    tail = f"--loss kr-ls --seed 2 --output_dir {folder}"
    assert report["command"] == f"kr-text train {' '.join(flags)} {tail}"
    assert (report["seed"], report["loss"]["name"]) == (2, "kr-ls")


def test_all_runs_are_measured_on_the_same_rows_in_the_same_order(comparison_folder: Path) -> None:
    labels = [load_file(comparison_folder / run / PREDICTIONS_FILE)["labels"].tolist() for run in RUNS]
    assert all(of_run == labels[0] for of_run in labels)


def test_the_numbers_are_those_of_the_predictions(comparison_folder: Path) -> None:
    result = result_of(comparison_folder)
    assert [compared["loss"] for compared in result["losses"]] == LOSSES
    for compared in result["losses"]:
        runs = [wrong(comparison_folder, f"{compared['loss']}-seed{seed}") for seed in SEEDS]
        assert compared["metrics"]["error_rate"] == pytest.approx([100 * sum(run) / 60 for run in runs])
        saved = [load_file(comparison_folder / f"{compared['loss']}-seed{s}" / PREDICTIONS_FILE) for s in SEEDS]
        nll = [-np.log(one["probabilities"][range(60), one["labels"]]).mean() for one in saved]
        assert compared["metrics"]["nll"] == pytest.approx(nll)
    assert (result["num_train_rows"], result["num_test_rows"], result["seeds"]) == (216, 60, SEEDS)
    assert (result["model"], result["dataset"], result["baseline"]) == ("fasttext", "tiny_news", "ce")


def test_the_difference_from_the_baseline_is_paired_by_row_and_seed(comparison_folder: Path) -> None:
    baseline, compared = result_of(comparison_folder)["losses"]
    assert (baseline["difference"], baseline["interval"], baseline["p_value"]) == (None, None, None)
    errors = {loss: [wrong(comparison_folder, f"{loss}-seed{seed}") for seed in SEEDS] for loss in LOSSES}
    by_hand = 100 * (sum(map(sum, errors["kr-ls"])) - sum(map(sum, errors["ce"]))) / 120
    assert compared["difference"] == pytest.approx(by_hand)
    test = paired_bootstrap(errors["kr-ls"], errors["ce"])
    assert compared["interval"] == pytest.approx([100 * test.low, 100 * test.high])
    assert compared["p_value"] == test.p_value  # of one test, Holm's correction is none


def test_the_table_has_mean_and_deviation_by_hand(comparison_folder: Path) -> None:
    table = (comparison_folder / "comparison.md").read_text()
    assert table == comparison_markdown(result_of(comparison_folder))
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    for loss in LOSSES:
        one, other = (100 * sum(wrong(comparison_folder, f"{loss}-seed{seed}")) / 60 for seed in SEEDS)
        assert f"{(one + other) / 2:.2f} ± {abs(one - other) / 2**0.5:.2f}" in rows[loss]
    assert "baseline" in rows["ce"]
    assert re.search(r"[+-]\d+\.\d\d \([+-]\d+\.\d\d to [+-]\d+\.\d\d\) +\| [01]\.\d{4}", rows["kr-ls"])
    assert "216 training rows, 60 test rows, seeds 1, 2" in table
    assert "kr-text compare --some flags" in table


def finished_run(folder: Path, wrong_rows: list[int], nll: float | None = 1.0) -> None:
    """A run on ten rows of two classes, as far as a comparison reads it."""
    folder.mkdir(parents=True)
    probabilities = np.tile([0.75, 0.25], (10, 1))
    probabilities[wrong_rows] = [0.25, 0.75]
    save_file({"probabilities": probabilities, "labels": np.zeros(10, dtype=np.int64)}, folder / PREDICTIONS_FILE)
    report = {
        "model": {"name": "fasttext"},
        "dataset": {"name": "tiny", "num_train_rows": 100, "num_test_rows": 10},
        "test_metrics": {"error_rate": 10.0 * len(wrong_rows), "nll": nll, "ece": 0.1},
    }
    (folder / "report.json").write_text(json.dumps(report))


def test_p_values_are_corrected_for_the_number_of_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_text.experiments.comparison, "_check_folder", lambda argv: None)
    wrong_rows = {"ce": [0, 1, 2, 3, 4, 5], "ls": [0, 1, 2, 3, 4], "kr": [0], "kr-ls": [6, 7, 8, 9, 0, 1]}
    for loss, rows in wrong_rows.items():
        finished_run(tmp_path / f"{loss}-seed1", rows)
    result = compare(list(wrong_rows), [1], str(tmp_path), [], command="")
    errors = {loss: [[row in rows for row in range(10)]] for loss, rows in wrong_rows.items()}
    tests = [paired_bootstrap(errors[loss], errors["ce"]) for loss in ("ls", "kr", "kr-ls")]
    assert [compared["p_value"] for compared in result["losses"][1:]] == holm([test.p_value for test in tests])
    assert [compared["difference"] for compared in result["losses"][1:]] == pytest.approx([-10, -50, 0])


def test_without_ce_the_first_loss_is_the_baseline_and_an_infinite_nll_has_no_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kr_text.experiments.comparison, "_check_folder", lambda argv: None)
    finished_run(tmp_path / "kr-seed1", [0, 1], nll=None)
    finished_run(tmp_path / "ls-seed1", [0])
    result = compare(["kr", "ls"], [1], str(tmp_path), [], command="")
    assert result["baseline"] == "kr"
    kr, ls = result_of(tmp_path)["losses"]
    assert kr["metrics"]["nll"] == [None]
    assert ls["metrics"]["nll"] == [1.0]
    lines = comparison_markdown(result).splitlines()
    assert "| n/a ± n/a " in next(line for line in lines if line.startswith("| kr "))
    assert "| 10.00 ± n/a | 1.0000 ± n/a " in next(line for line in lines if line.startswith("| ls "))


# Going on


def test_a_finished_comparison_trains_nothing_again(copied: Path, flags: list[str], trained: list[str]) -> None:
    before = result_of(copied)
    result = compare(LOSSES, SEEDS, str(copied), flags, command="kr-text compare --some flags")
    assert trained == []
    assert json.loads(json.dumps(result)) == before


def test_runs_on_other_test_rows_are_not_compared(copied: Path, flags: list[str], trained: list[str]) -> None:
    """As after a test file was sorted anew between two of them."""
    path = copied / RUNS[1] / PREDICTIONS_FILE
    save_file({name: np.ascontiguousarray(values[::-1]) for name, values in load_file(path).items()}, path)
    with pytest.raises(ValueError, match=f"{RUNS[1]} must have the test rows of the other runs, got others: remove it"):
        compare(LOSSES, SEEDS, str(copied), flags, command="")
    assert trained == []


def test_one_more_seed_trains_only_its_runs(copied: Path, flags: list[str], trained: list[str]) -> None:
    result = compare(["ce"], [1, 3, 2], str(copied), flags, command="")
    assert trained == ["ce-seed3"]
    assert result["seeds"] == [1, 3, 2]
    assert len(result["losses"][0]["metrics"]["error_rate"]) == 3


def test_the_same_settings_may_come_from_a_file(copied: Path, flags: list[str], trained: list[str]) -> None:
    config = copied / "run.yaml"
    config.write_text("num_train_epochs: 2")
    index = [place for place, flag in enumerate(flags) if flag == "--num_train_epochs"]
    without = [flag for place, flag in enumerate(flags) if not any(place - at in (0, 1) for at in index)]
    compare(LOSSES, SEEDS, str(copied), [*without, "--config", str(config)], command="")
    assert trained == []
    config.write_text("num_train_epochs: 3")
    with pytest.raises(FileExistsError, match="ce-seed1 holds a run with another num_train_epochs; choose another"):
        compare(LOSSES, SEEDS, str(copied), [*without, "--config", str(config)], command="")


def test_an_interrupted_comparison_goes_on_to_the_same_table(
    tmp_path: Path, comparison_folder: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    class InterruptedTrainer(ClassifierTrainer):
        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            super()._save_checkpoint(*args, **kwargs)
            if Path(self.args.output_dir or "").name == "ce-seed2":
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kr_text.training.batches_trainer, "ClassifierTrainer", InterruptedTrainer)
        with pytest.raises(KeyboardInterrupt):
            compare(LOSSES, SEEDS, str(tmp_path), flags, command="kr-text compare --some flags")
    assert [path.name for path in (tmp_path / "ce-seed2").glob("checkpoint-*")] == ["checkpoint-14"]
    assert not (tmp_path / "comparison.json").exists()
    with pytest.raises(FileExistsError, match="ce-seed2 holds a run with another learning_rate"):
        compare(["ce"], [3, 2], str(tmp_path), [*flags, "--learning_rate", "1"], command="")
    assert trained == RUNS[:3]
    compare(LOSSES, SEEDS, str(tmp_path), flags, command="kr-text compare --some flags")
    assert trained == [*RUNS[:3], "ce-seed2 resumed", "kr-ls-seed2"]
    assert result_of(tmp_path) == result_of(comparison_folder)


def test_a_run_cut_off_in_its_first_checkpoint_starts_anew(copied: Path, flags: list[str], trained: list[str]) -> None:
    before = result_of(copied)
    for path in (copied / "ce-seed1").iterdir():
        if path.name != "settings.json":
            path.unlink()
    (copied / "ce-seed1" / "checkpoint-14").mkdir()
    assert compare(LOSSES, SEEDS, str(copied), flags, command="")["losses"][0] == before["losses"][0]
    assert trained == ["ce-seed1"]


# What is refused, before the first run


@pytest.mark.parametrize(
    ("losses", "seeds", "more", "message"),
    [
        (["ce", "kr", "ce"], [1], [], "losses must be one or more, each once, got ce, kr, ce"),
        (["ce"], [1, 2, 1], [], "seeds must be one or more, each once, got 1, 2, 1"),
        (["ce"], [], [], "seeds must be one or more, each once, got none"),
        (["ce"], [1], ["--seed", "3"], "flags must be those that all runs share, got --seed; see losses and seeds"),
        (["ce"], [1], ["--loss=kr"], "got --loss; see"),
        (["ce"], [1], ["--output-dir", "x", "--resume"], "got --output_dir, --resume; see"),
        (["ce"], [1], ["--overwrite"], "got --overwrite; see"),
        (["ce"], [1], ["--max_length", "0"], "max_length must be at least 1"),
        (["ce"], [1], ["--config", "missing.yaml"], "missing.yaml: must be a YAML file"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path,
    flags: list[str],
    trained: list[str],
    losses: list[str],
    seeds: list[int],
    more: list[str],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(losses, seeds, str(tmp_path / "new"), [*flags, *more], command="")
    assert trained == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("losses", "more", "message"),
    [
        (["ce", "hinge"], [], "--loss: invalid choice: 'hinge'"),
        (["ce"], ["--learning_rat", "1"], "unrecognized arguments: --learning_rat 1"),
    ],
)
def test_wrong_flags_are_refused_as_by_train(
    tmp_path: Path, flags: list[str], trained: list[str], losses: list[str], more: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(losses, [1], str(tmp_path / "new"), [*flags, *more], command="")
    assert trained == []


def test_a_folder_with_other_settings_is_refused(copied: Path, flags: list[str], trained: list[str]) -> None:
    more = ["--learning_rate", "0.1", "--residual_learning_rate", "0.1"]
    message = "kr-ls-seed2 holds a run with another learning_rate, residual_learning_rate; choose another output_dir"
    with pytest.raises(FileExistsError, match=message):
        compare(["kr-ls"], [5, 2], str(copied), [*flags, *more], command="")
    assert trained == []  # not even seed 5, which is new


def test_a_run_that_never_got_to_train_is_no_hindrance(tmp_path: Path, flags: list[str], trained: list[str]) -> None:
    with pytest.raises(FileNotFoundError, match="missing must be a file or a folder that exists"):
        compare(["ce"], [1], str(tmp_path), [*flags, "--dataset", str(tmp_path / "missing")], command="")
    compare(["ce"], [1], str(tmp_path), flags, command="")
    assert trained == ["ce-seed1", "ce-seed1"]


@pytest.mark.parametrize("holds", ["report.json", "checkpoint-14"])
def test_a_folder_with_a_run_of_another_command_is_refused(
    tmp_path: Path, flags: list[str], trained: list[str], holds: str
) -> None:
    (tmp_path / "ce-seed1" / holds).mkdir(parents=True)
    with pytest.raises(FileExistsError, match="ce-seed1 holds a run that is not of this comparison; choose another"):
        compare(["ce"], [1], str(tmp_path), flags, command="")
    assert trained == []


def test_runs_on_data_that_have_changed_are_not_gone_on_with(
    tmp_path: Path, flags: list[str], news: Path, trained: list[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(news, data)
    flags = [*flags, "--dataset", str(data)]
    compare(["ce"], [1], str(tmp_path / "out"), flags, command="")
    (data / "train.csv").write_text((news / "train.csv").read_text().replace(" the ", " teh "))
    with pytest.raises(FileExistsError, match="ce-seed1 holds a run on data that have changed since; choose another"):
        compare(["ce", "ls"], [1], str(tmp_path / "out"), flags, command="")
    assert trained == ["ce-seed1"]


def test_settings_of_the_loss_are_not_for_cross_entropy(tmp_path: Path, flags: list[str]) -> None:
    flags = [*flags, "--num_train_epochs", "1"]
    compare(["kr", "ce"], [1], str(tmp_path), [*flags, "--loss_overrides", "alpha=0.5"], command="")
    ce, kr = (json.loads((tmp_path / f"{loss}-seed1" / "report.json").read_text()) for loss in ("ce", "kr"))
    assert ce["loss"]["settings"] == {}
    assert kr["loss"]["settings"]["alpha"] == "Exponential(alpha=0.5, gamma=0.99)"
