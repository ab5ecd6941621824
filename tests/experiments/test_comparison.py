import json
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from filelock import FileLock

import kr_text.experiments.comparison
import kr_text.training.batches_trainer
from kr_text.experiments.comparison import Comparison, against_baseline, compare, comparison_markdown
from kr_text.experiments.results import RUNS_FILE, Result, add_result, read_results
from kr_text.experiments.run import Run
from kr_text.experiments.significance import corrected_t_test, holm, paired_bootstrap
from kr_text.training.arguments import parse_training
from kr_text.training.batches_trainer import ClassifierTrainer
from kr_text.training.train import train
from result_cases import line_of, result

LOSSES, SEEDS = ["ce", "kr-ls"], [1, 2]
RUNS = ["ce 1", "kr-ls 1", "ce 2", "kr-ls 2"]  # in the order of training


@pytest.fixture(scope="module")
def flags(small_flags: list[str]) -> list[str]:
    return [*small_flags, "--num_train_epochs", "2"]


@pytest.fixture(scope="module")
def comparison_folder(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    """A comparison of two losses with two seeds. Tests must not change it."""
    folder = tmp_path_factory.mktemp("comparison")
    compare(LOSSES, SEEDS, str(folder), flags, command="kr-text compare --some flags")
    return folder


@pytest.fixture
def copied(tmp_path: Path, comparison_folder: Path) -> Path:
    """A copy of the comparison that tests may change."""
    return Path(shutil.copytree(comparison_folder, tmp_path / "comparison"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Loss and seed of each run when its training starts."""
    runs: list[str] = []

    def noted(run: Any, args: Any, **kwargs: Any) -> Any:
        fold = f" {run.fold}" if run.fold else ""
        runs.append(f"{run.loss} {args.seed}{fold}" + (" resumed" if run.resume else ""))
        return train(run, args, **kwargs)

    monkeypatch.setattr(kr_text.experiments.comparison, "train", noted)
    return runs


def comparison_of(folder: Path) -> Comparison:
    return cast(Comparison, json.loads((folder / "comparison.json").read_text()))


def result_of(folder: Path, loss: str, seed: int) -> Result:
    (found,) = [each for each in read_results(folder).values() if (each.run.loss, each.run.seed) == (loss, seed)]
    return found


def wrong(folder: Path, loss: str, seed: int) -> list[bool]:
    return [not right for right in result_of(folder, loss, seed).predictions().correct.tolist()]


def test_a_comparison_leaves_its_results_and_the_table_and_no_models(comparison_folder: Path) -> None:
    names = {path.name for path in comparison_folder.iterdir()} - {f"{RUNS_FILE}.lock"}
    assert names == {RUNS_FILE, "comparison_settings.json", "comparison.json", "comparison.md", "work"}
    assert [path for path in (comparison_folder / "work").iterdir() if path.suffix != ".lock"] == []
    found = [f"{each.run.loss} {each.run.seed}" for each in read_results(comparison_folder).values()]
    assert found == RUNS


def test_each_result_has_the_command_that_trains_its_model(
    comparison_folder: Path, flags: list[str], tmp_path: Path
) -> None:
    report = result_of(comparison_folder, "kr-ls", 2).report
    argv = shlex.split(report["command"])
    assert argv[:2] == ["kr-text", "train"]
    assert argv[2 : 2 + len(flags)] == flags
    told, args = parse_training([*argv[2:], "--output_dir", str(tmp_path)], "kr-text train")
    assert (told.loss, args.seed) == ("kr-ls", 2)
    again = train(told, args, command="", started=0.0)
    assert again["test_metrics"] == report["test_metrics"]


def test_the_numbers_are_those_of_the_reports(comparison_folder: Path) -> None:
    comparison = comparison_of(comparison_folder)
    assert [compared["loss"] for compared in comparison["losses"]] == LOSSES
    for compared in comparison["losses"]:
        reports = [result_of(comparison_folder, compared["loss"], seed).report for seed in SEEDS]
        for metric, values in compared["metrics"].items():
            assert values == [report["test_metrics"][metric] for report in reports]
        errors = [100 * sum(wrong(comparison_folder, compared["loss"], seed)) / 60 for seed in SEEDS]
        assert compared["metrics"]["error_rate"] == pytest.approx(errors)
    assert (comparison["num_train_rows"], comparison["num_test_rows"], comparison["seeds"]) == (216, 60, SEEDS)
    assert (comparison["model"], comparison["dataset"], comparison["baseline"]) == ("fasttext", "tiny_news", "ce")


def test_the_difference_from_the_baseline_is_paired_by_row_and_seed(comparison_folder: Path) -> None:
    baseline, compared = comparison_of(comparison_folder)["losses"]
    assert (baseline["difference"], baseline["interval"], baseline["p_value"]) == (None, None, None)
    errors = {loss: [wrong(comparison_folder, loss, seed) for seed in SEEDS] for loss in LOSSES}
    by_hand = 100 * (sum(map(sum, errors["kr-ls"])) - sum(map(sum, errors["ce"]))) / 120
    assert compared["difference"] == pytest.approx(by_hand)
    test = paired_bootstrap(errors["kr-ls"], errors["ce"])
    assert compared["interval"] == pytest.approx([100 * test.low, 100 * test.high])
    assert compared["p_value"] == test.p_value  # Holm's correction does not change a single p-value


def test_the_table_has_mean_and_deviation_by_hand(comparison_folder: Path) -> None:
    table = (comparison_folder / "comparison.md").read_text()
    assert table == comparison_markdown(comparison_of(comparison_folder))
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    for loss in LOSSES:
        one, other = (100 * sum(wrong(comparison_folder, loss, seed)) / 60 for seed in SEEDS)
        assert f"{(one + other) / 2:.2f} ± {abs(one - other) / 2**0.5:.2f}" in rows[loss]
    assert "baseline" in rows["ce"]
    assert re.search(r"[+-]\d+\.\d\d \([+-]\d+\.\d\d to [+-]\d+\.\d\d\) +\| [01]\.\d{4}", rows["kr-ls"])
    assert "216 training rows, 60 test rows, seeds 1, 2" in table
    assert "kr-text compare --some flags" in table


def test_p_values_are_corrected_for_the_number_of_losses(tmp_path: Path) -> None:
    wrong_rows = {"ce": [0, 1, 2, 3, 4, 5], "ls": [0, 1, 2, 3, 4], "kr": [0], "kr-ls": [6, 7, 8, 9, 0, 1]}
    by_loss = {
        loss: [result(tmp_path, Run("a", "fasttext", loss), correct=[row not in rows for row in range(10)])]
        for loss, rows in wrong_rows.items()
    }
    compared = against_baseline(by_loss, "ce")
    errors = {loss: [[row in rows for row in range(10)]] for loss, rows in wrong_rows.items()}
    tests = [paired_bootstrap(errors[loss], errors["ce"]) for loss in ("ls", "kr", "kr-ls")]
    assert [each["p_value"] for each in compared[1:]] == holm([test.p_value for test in tests])
    assert [each["difference"] for each in compared[1:]] == pytest.approx([-10, -50, 0])


def test_an_infinite_nll_is_nan_and_has_no_mean(tmp_path: Path) -> None:
    by_loss = {
        "kr": [result(tmp_path, Run("a", "fasttext", "kr"), nll=math.inf)],
        "ls": [result(tmp_path, Run("a", "fasttext", "ls"))],
    }
    kr, ls = against_baseline(by_loss, "kr")
    assert math.isnan(kr["metrics"]["nll"][0])
    assert ls["metrics"]["nll"] == [1.0]
    comparison: Comparison = {
        "command": "",
        "model": "fasttext",
        "dataset": "a",
        "num_train_rows": 1,
        "num_test_rows": 3,
        "num_folds": None,
        "seeds": [1],
        "baseline": "kr",
        "losses": [kr, ls],
    }
    lines = comparison_markdown(comparison).splitlines()
    assert "| n/a ± n/a " in next(line for line in lines if line.startswith("| kr "))
    assert "| 33.33 ± n/a | 1.0000 ± n/a " in next(line for line in lines if line.startswith("| ls "))


def test_a_small_p_value_is_not_printed_as_zero(comparison_folder: Path) -> None:
    comparison = comparison_of(comparison_folder)
    comparison["losses"][1]["p_value"] = 0.00004
    assert "| <0.0001 |" in comparison_markdown(comparison)


# Continuing


def test_a_finished_comparison_trains_nothing_again(copied: Path, flags: list[str], trained: list[str]) -> None:
    before = comparison_of(copied)
    comparison = compare(LOSSES, SEEDS, str(copied), flags, command="kr-text compare --some flags")
    assert trained == []
    assert json.loads(json.dumps(comparison)) == before


def test_one_more_seed_trains_only_its_runs(copied: Path, flags: list[str], trained: list[str]) -> None:
    comparison = compare(["ce"], [1, 3, 2], str(copied), flags, command="")
    assert trained == ["ce 3"]
    assert comparison["seeds"] == [1, 3, 2]
    assert len(comparison["losses"][0]["metrics"]["error_rate"]) == 3


def test_without_ce_the_first_loss_is_the_baseline(copied: Path, flags: list[str], trained: list[str]) -> None:
    comparison = compare(["kr-ls", "ls"], [1], str(copied), flags, command="")
    assert trained == ["ls 1"]
    assert (comparison["baseline"], comparison["losses"][0]["p_value"]) == ("kr-ls", None)


def test_the_same_settings_may_come_from_a_file(copied: Path, flags: list[str], trained: list[str]) -> None:
    config = copied / "run.yaml"
    config.write_text("num_train_epochs: 2")
    index = [place for place, flag in enumerate(flags) if flag == "--num_train_epochs"]
    without = [flag for place, flag in enumerate(flags) if not any(place - at in (0, 1) for at in index)]
    compare(LOSSES, SEEDS, str(copied), [*without, "--config", str(config)], command="")
    assert trained == []
    config.write_text("num_train_epochs: 3")
    with pytest.raises(FileExistsError, match="holds runs of ce with another num_train_epochs; choose another"):
        compare(LOSSES, SEEDS, str(copied), [*without, "--config", str(config)], command="")


def test_an_interrupted_comparison_continues_to_the_same_table(
    tmp_path: Path, comparison_folder: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    class InterruptedTrainer(ClassifierTrainer):
        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            super()._save_checkpoint(*args, **kwargs)
            if trained[-1] == "ce 2":
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kr_text.training.batches_trainer, "ClassifierTrainer", InterruptedTrainer)
        with pytest.raises(KeyboardInterrupt):
            compare(LOSSES, SEEDS, str(tmp_path), flags, command="kr-text compare --some flags")
    assert [path.name for path in (tmp_path / "work").glob("*/checkpoint-*")] == ["checkpoint-14"]
    assert len(read_results(tmp_path)) == 2
    assert not (tmp_path / "comparison.json").exists()
    compare(LOSSES, SEEDS, str(tmp_path), flags, command="kr-text compare --some flags")
    assert trained == [*RUNS[:3], "ce 2 resumed", "kr-ls 2"]
    assert comparison_of(tmp_path) == comparison_of(comparison_folder)


def test_a_run_that_another_process_trains_is_refused(copied: Path, flags: list[str], trained: list[str]) -> None:
    key = result_of(copied, "ce", 1).line["key"]
    (copied / RUNS_FILE).unlink()
    with (
        FileLock(copied / "work" / f"{key}.lock"),
        pytest.raises(ValueError, match=f"{key} must not be in use, but another process trains there"),
    ):
        compare(LOSSES, SEEDS, str(copied), flags, command="")
    assert trained == []


# Refused before the first run


@pytest.mark.parametrize(
    ("losses", "seeds", "more", "message"),
    [
        (["ce", "kr", "ce"], [1], [], "losses must be one or more, each once, got ce, kr, ce"),
        (["ce"], [1, 2, 1], [], "seeds must be one or more, each once, got 1, 2, 1"),
        (["ce"], [], [], "seeds must be one or more, each once, got none"),
        (
            ["ce"],
            [1],
            ["--seed", "3"],
            "flags must be shared by all runs, got --seed: give losses, seeds and output_dir instead",
        ),
        (["ce"], [1], ["--loss=kr"], "got --loss: give"),
        (["ce"], [1], ["--output-dir", "x", "--resume"], "got --output_dir, --resume: give"),
        (["ce"], [1], ["--overwrite"], "got --overwrite: give"),
        (["ce"], [1], ["--fold", "1/2"], "got --fold: give"),
        (["ce"], [1], ["--max_length", "0"], "max_length must be at least 1"),
        (["ce"], [1], ["--config", "missing.yaml"], "missing.yaml: No such file"),
        (["ce", "hinge"], [1], [], "--loss: invalid choice: 'hinge'"),
        (["ce"], [1], ["--learning_rat", "1"], "unrecognized arguments: --learning_rat$"),
    ],
)
def test_invalid_arguments_are_refused(
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


def test_a_folder_with_other_settings_is_refused(copied: Path, flags: list[str], trained: list[str]) -> None:
    more = ["--learning_rate", "0.1", "--residual_learning_rate", "0.1"]
    message = "holds runs of kr-ls with another learning_rate, residual_learning_rate; choose another output_dir"
    with pytest.raises(FileExistsError, match=message):
        compare(["kr-ls"], [5, 2], str(copied), [*flags, *more], command="")
    assert trained == []


def test_a_folder_with_a_half_trained_run_with_other_settings_is_refused(
    copied: Path, flags: list[str], trained: list[str]
) -> None:
    (copied / RUNS_FILE).unlink()
    (copied / "work" / "some" / "checkpoint-14").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="holds runs of ce with another learning_rate; choose another output_dir"):
        compare(["ce"], [1], str(copied), [*flags, "--learning_rate", "0.1"], command="")
    assert trained == []


def test_settings_of_a_comparison_without_any_run_are_replaced(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "comparison_settings.json").write_text('{"ce": {"learning_rate": 9}}')
    compare(["ce"], [1], str(tmp_path), flags, command="")
    assert json.loads((tmp_path / "comparison_settings.json").read_text())["ce"]["learning_rate"] == 0.05


def test_missing_data_leave_the_folder_untouched(tmp_path: Path, flags: list[str], trained: list[str]) -> None:
    with pytest.raises(FileNotFoundError, match="missing must be a file or a folder that exists"):
        compare(["ce"], [1], str(tmp_path / "new"), [*flags, "--dataset", str(tmp_path / "missing")], command="")
    assert trained == []
    assert not (tmp_path / "new").exists()


def test_a_folder_with_the_results_of_a_grid_is_refused(tmp_path: Path, flags: list[str], trained: list[str]) -> None:
    add_result(tmp_path, line_of(Run("tiny_news", "fasttext")))
    with pytest.raises(FileExistsError, match="holds runs that are not of a comparison; choose another output_dir"):
        compare(["ce"], [1], str(tmp_path), flags, command="")
    assert trained == []


def test_a_comparison_has_other_keys_than_a_grid(comparison_folder: Path) -> None:
    run = result_of(comparison_folder, "ce", 1).run
    assert run.settings_digest is not None
    assert Run(run.dataset, run.model).key not in read_results(comparison_folder)
    assert "digest" not in run.name


def test_changed_data_are_refused(tmp_path: Path, flags: list[str], news: Path, trained: list[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(news, data)
    flags = [*flags, "--dataset", str(data)]
    compare(["ce"], [1], str(tmp_path / "out"), flags, command="")
    (data / "train.csv").write_text((news / "train.csv").read_text().replace(" the ", " teh "))
    with pytest.raises(FileExistsError, match="holds runs of ce with data that have changed since; choose another"):
        compare(["ce", "ls"], [1], str(tmp_path / "out"), flags, command="")
    assert trained == ["ce 1"]


def test_cross_entropy_ignores_the_settings_of_the_loss(tmp_path: Path, flags: list[str]) -> None:
    flags = [*flags, "--num_train_epochs", "1"]
    compare(["kr", "ce"], [1], str(tmp_path), [*flags, "--loss_overrides", "alpha=0.5"], command="")
    ce, kr = (result_of(tmp_path, loss, 1).report["loss"]["settings"] for loss in ("ce", "kr"))
    assert ce == {}
    assert kr["alpha"] == "Exponential(alpha=0.5, gamma=0.99)"


def test_flags_without_a_field_in_a_run_reach_the_training(
    tmp_path: Path, flags: list[str], trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def stop(run: Any, args: Any, **kwargs: Any) -> None:
        seen.extend((run, args))
        raise InterruptedError

    monkeypatch.setattr(kr_text.experiments.comparison, "train", stop)
    more = ["--max_length", "20", "--text_column", "text", "--adam_beta1", "0.8"]
    with pytest.raises(InterruptedError):
        compare(["ce"], [7], str(tmp_path), [*flags, *more], command="")
    run, args = seen
    assert (run.max_length, run.text_column, args.adam_beta1, args.seed) == (20, "text", 0.8, 7)


# Folds


@pytest.fixture(scope="module")
def two_folds(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    """A comparison of two losses in two folds with two seeds. Tests must not change it."""
    folder = tmp_path_factory.mktemp("folds")
    compare(LOSSES, SEEDS, str(folder), [*flags, "--num_train_epochs", "1"], command="kr-text compare", num_folds=2)
    return folder


def test_each_loss_and_seed_is_trained_once_in_each_fold(two_folds: Path) -> None:
    runs = [result.run for result in read_results(two_folds).values()]
    found = [(run.seed, run.fold, run.loss) for run in runs]
    assert found == [(seed, fold, loss) for seed in SEEDS for fold in ("1/2", "2/2") for loss in LOSSES]
    comparison = comparison_of(two_folds)
    assert (comparison["num_train_rows"], comparison["num_test_rows"], comparison["num_folds"]) == (135, 300, 2)


def test_with_folds_the_table_has_the_mean_over_all_runs_and_the_corrected_t_test(two_folds: Path) -> None:
    results = list(read_results(two_folds).values())
    errors = {
        loss: [r.report["test_metrics"]["error_rate"] or 0.0 for r in results if r.run.loss == loss] for loss in LOSSES
    }
    wrong_rows = {(r.run.loss, r.run.seed, r.run.fold): ~r.predictions().correct for r in results}
    test = corrected_t_test(
        [
            np.stack([wrong_rows["kr-ls", seed, fold] * 1.0 - wrong_rows["ce", seed, fold] for seed in SEEDS])
            for fold in ("1/2", "2/2")
        ]
    )
    ce, kr_ls = comparison_of(two_folds)["losses"]
    assert (ce["metrics"]["error_rate"], kr_ls["metrics"]["error_rate"]) == (errors["ce"], errors["kr-ls"])
    assert kr_ls["difference"] == pytest.approx(np.mean(errors["kr-ls"]) - np.mean(errors["ce"]))
    assert kr_ls["difference"] == 100 * test.difference
    assert kr_ls["interval"] == pytest.approx([100 * test.low, 100 * test.high])
    assert kr_ls["p_value"] == test.p_value
    table = (two_folds / "comparison.md").read_text()
    assert "2 folds: each of the 300 rows is a test row once for each seed. 135 training rows in a fold" in table
    assert "standard deviation over the 4 runs" in table
    assert "corrected resampled t-test over the folds (Nadeau & Bengio 2003)" in table


def test_the_result_of_a_fold_has_the_command_that_trains_its_model(two_folds: Path, tmp_path: Path) -> None:
    first, *_ = read_results(two_folds).values()
    argv = shlex.split(first.report["command"])[2:]
    assert argv[argv.index("--fold") + 1] == "1/2"
    told, args = parse_training([*argv, "--output_dir", str(tmp_path)], "kr-text train")
    assert train(told, args, command="", started=0.0)["test_metrics"] == first.report["test_metrics"]


def test_one_more_seed_trains_only_its_folds(
    two_folds: Path, tmp_path: Path, flags: list[str], trained: list[str]
) -> None:
    folder = shutil.copytree(two_folds, tmp_path / "folds")
    one_epoch = [*flags, "--num_train_epochs", "1"]
    compare(["ce"], [1, 3], str(folder), one_epoch, command="", num_folds=2)
    assert trained == ["ce 3 1/2", "ce 3 2/2"]


@pytest.mark.parametrize("num_folds", [None, 3])
def test_a_folder_with_another_number_of_folds_is_refused(
    two_folds: Path, flags: list[str], trained: list[str], num_folds: int | None
) -> None:
    one_epoch = [*flags, "--num_train_epochs", "1"]
    with pytest.raises(FileExistsError, match="holds runs of ce with another folds; choose another output_dir"):
        compare(LOSSES, SEEDS, str(two_folds), one_epoch, command="", num_folds=num_folds)
    assert trained == []


@pytest.mark.parametrize(
    ("num_folds", "message"),
    [(1, "folds must be at least 2, got 1"), (301, "folds must be at most the 300 rows of .*tiny_news, got 301")],
)
def test_a_wrong_number_of_folds_is_refused(
    tmp_path: Path, flags: list[str], trained: list[str], num_folds: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(["ce"], [1], str(tmp_path / "new"), flags, command="", num_folds=num_folds)
    assert trained == []
    assert not (tmp_path / "new").exists()
