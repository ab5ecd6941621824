import dataclasses
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from safetensors.numpy import load_file

import kr_text.experiments.run
from kr_text.data.label_noise import TRUE_LABELS_FILE
from kr_text.experiments.predictions import compact, expand
from kr_text.experiments.run import Line, Run, execute, remove_work
from kr_text.training.arguments import make_arguments, parse_training
from kr_text.training.recipes import Recipe, recipe
from kr_text.training.report import PREDICTIONS_FILE, Report
from kr_text.training.train import train

Train = Callable[..., Report]

RUN = Run("ag_news", "fasttext", "kr-ls")
TINY = Run(
    "tiny_news",
    "fasttext",
    "kr-ls",
    config_overrides="num_buckets=1000",
    training="num_train_epochs=3,per_device_train_batch_size=16,learning_rate=0.05",
)  # the settings of `train_small`

# Keys


def changed(**fields: Any) -> Run:
    return dataclasses.replace(RUN, **fields)


OTHER_VALUES = {
    "dataset": "yahoo_answers",
    "model": "textrnn",
    "loss": "kr",
    "seed": 2,
    "max_train_rows": 100,
    "loss_overrides": "alpha=0.3",
    "residual_learning_rate": 0.1,
    "config_overrides": "embedding_dim=20",
    "training": "num_train_epochs=7",
    "label_matrices": True,
    "teacher": "embedding_dim=20",
    "settings_digest": "abc",
    "recipe": "benchmarks",
    "fold": "2/5",
}


def test_every_field_changes_the_key() -> None:
    assert list(OTHER_VALUES) == [field.name for field in dataclasses.fields(Run)]
    keys = {RUN.key, *(changed(**{name: value}).key for name, value in OTHER_VALUES.items())}
    assert len(keys) == 1 + len(OTHER_VALUES)
    assert all(len(key) == 16 and int(key, 16) for key in keys)


def test_a_setting_gives_the_same_key_in_the_recipe_and_in_the_run() -> None:
    training, config = recipe("fasttext", "ag_news").training, recipe("fasttext", "ag_news").config
    rate, size = f"learning_rate={training['learning_rate']}", f"embedding_dim={config['embedding_dim']}"
    assert changed(training=rate).key == changed(config_overrides=size).key == RUN.key
    assert changed(training="learning_rate=0.123").key != RUN.key


@pytest.mark.parametrize("section", ["tokenizer", "config", "training"])
def test_a_changed_recipe_changes_the_key(monkeypatch: pytest.MonkeyPatch, section: str) -> None:
    key = RUN.key
    sections = dataclasses.asdict(recipe("fasttext", "ag_news"))
    monkeypatch.setattr(
        kr_text.experiments.run,
        "recipe",
        lambda *_, **__: Recipe(**{**sections, section: {**sections[section], "x": 1}}),
    )
    assert RUN.key != key


def test_the_key_does_not_depend_on_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for has_bf16 in (True, False):
        monkeypatch.setattr("kr_text.training.recipes.has_bf16", lambda has_bf16=has_bf16: has_bf16)
        keys.add(changed(model="textrnn").key)
    assert len(keys) == 1


def test_every_default_of_krloss_leaves_the_key_unchanged() -> None:
    assert changed(loss_overrides="smoothing=uniform,ignore_index=-100,divergence=label_first").key == RUN.key


def test_default_settings_of_the_loss_do_not_change_the_key() -> None:
    assert changed(loss_overrides="alpha=1,label_smoothing=0.1,gamma=0.99").key == RUN.key
    assert changed(loss="kr", loss_overrides="label_smoothing=0.1").key != changed(loss="kr").key


@pytest.mark.parametrize("field", ["loss_overrides", "config_overrides", "training"])
def test_the_order_of_settings_does_not_change_the_key(field: str) -> None:
    assert changed(**{field: "a=1,b=2"}).key == changed(**{field: "b=2, a=1"}).key != changed(**{field: "a=2,b=1"}).key


def test_the_spelling_of_the_teacher_does_not_change_the_key() -> None:
    keys = {changed(loss="kd", teacher=teacher).key for teacher in ("a=1,b=2", "b = 2, a=1,")}
    assert len(keys) == 1
    assert changed(loss="kd", teacher="").key != changed(loss="kd").key


def test_the_key_of_a_run_read_back_is_the_same() -> None:
    run = changed(**{name: value for name, value in OTHER_VALUES.items() if name != "teacher"})
    assert Run(**run.given()) == run
    assert Run(**dict(reversed(run.given().items()))).key == run.key


def test_given_and_name_have_the_fields_that_differ_from_their_defaults() -> None:
    assert Run("a", "m").given() == {"dataset": "a", "model": "m"}
    run = Run("a", "m", "kr", 3, max_train_rows=10, label_matrices=True)
    assert run.given() == {
        "dataset": "a",
        "model": "m",
        "loss": "kr",
        "seed": 3,
        "max_train_rows": 10,
        "label_matrices": True,
    }
    assert run.name == "a m kr seed 3 max_train_rows=10 label_matrices=True"


# Arguments


def test_the_arguments_hold_every_field_of_the_run() -> None:
    run = Run(
        "ag_news",
        "transformer",
        "kr",
        seed=7,
        max_train_rows=100,
        loss_overrides="alpha=0.3,until=2",
        residual_learning_rate=0.5,
        config_overrides="hidden_size=16",
        training="learning_rate=1e-3,num_train_epochs=2,bf16=false,eval_strategy=no,load_best_model_at_end=false",
        label_matrices=True,
    )
    told, args = make_arguments(run.arguments(), "kr-text run")
    same = (
        "dataset",
        "model",
        "loss",
        "max_train_rows",
        "loss_overrides",
        "residual_learning_rate",
        "config_overrides",
    )
    assert [getattr(told, name) for name in same] == [getattr(run, name) for name in same]
    assert args.seed == 7
    assert (args.learning_rate, args.num_train_epochs, args.bf16, args.eval_strategy) == (1e-3, 2, False, "no")


def test_fields_that_are_not_given_come_from_the_recipe() -> None:
    named = {"dataset": "ag_news", "model": "fasttext", "loss": "kr-ls", "seed": 1}
    assert RUN.arguments() == {**named, "recipe": "ag_news"}
    _, args = make_arguments(RUN.arguments(), "kr-text run")
    assert args.learning_rate == recipe("fasttext", "ag_news").training["learning_rate"]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("noisy/ag_news", "ag_news"), ("ag_news.csv", "ag_news"), ("ag_news_noisy", "benchmarks"), ("mine", "benchmarks")],
)
def test_a_run_has_the_recipe_of_the_benchmark_that_its_data_are_named_after(dataset: str, name: str) -> None:
    assert changed(dataset=dataset).arguments()["recipe"] == name
    assert changed(dataset=dataset, recipe="auto").arguments()["recipe"] == "auto"


def test_the_key_of_a_run_with_a_computed_recipe_holds_no_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    run = changed(recipe="auto")
    key = run.key
    monkeypatch.setattr(kr_text.experiments.run, "recipe", lambda *_, **__: Recipe({}, {}, {"learning_rate": 9}))
    assert run.key == key


# Running


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory, news: Path) -> tuple[Path, Line]:
    """The working folder and the result. The data set is in the second data folder."""
    work = tmp_path_factory.mktemp("work")
    return work, execute(TINY, [str(work), str(news.parent)], str(work), "abc")


def test_the_line_has_the_report_and_the_predictions(executed: tuple[Path, Line], run_folder: Path) -> None:
    """`run_folder` is made by `kr-text train` with the same settings, except for the seed."""
    _, line = executed
    assert (line["key"], line["run"], line["commit"]) == (TINY.key, TINY.given(), "abc")
    assert (line["wrong_labels"], line["teacher"]) == (None, None)
    assert line["report"]["seed"] == 1
    assert line["report"]["peak_memory_mb"]["process"] is not None
    assert line["report"]["mistakes"] == []  # results hold no texts of the data
    assert len(line["report"]["class_metrics"]) == 6
    predictions = expand(line["predictions"])
    other = load_file(run_folder / PREDICTIONS_FILE)
    assert predictions.labels_digest == compact(other["probabilities"], other["labels"])["labels"]
    assert len(predictions.correct) == sum(each.num_rows for each in predictions.bins) == 60
    assert predictions.correct.sum() == np.trace(np.asarray(line["report"]["confusion_matrix"]))


def test_the_command_in_the_report_makes_the_same_run(executed: tuple[Path, Line], tmp_path: Path) -> None:
    work, line = executed
    program, command, *flags = shlex.split(line["report"]["command"])
    assert (program, command) == ("kr-text", "train")
    told, args = parse_training(flags, "kr-text train")
    assert Path(args.output_dir or "") == work / TINY.key
    args.output_dir = str(tmp_path)
    report = train(told, args, command="", started=0.0)
    assert report["test_metrics"] == line["report"]["test_metrics"]
    assert report["hyper_parameters"] | {"disable_tqdm": True} == line["report"]["hyper_parameters"]


def test_the_same_run_in_another_folder_gives_the_same_numbers(
    executed: tuple[Path, Line], train_small: Train, tmp_path: Path
) -> None:
    report = train_small(tmp_path, "--seed", "1", "--recipe", "benchmarks")
    ours = executed[1]["report"]
    assert ours["test_metrics"] == report["test_metrics"]
    assert ours["epochs"] == report["epochs"]


def test_a_trained_run_without_a_stored_result_is_measured_but_not_trained_again(
    executed: tuple[Path, Line], news: Path
) -> None:
    work, first = executed
    states = {path: path.stat().st_mtime_ns for path in (work / TINY.key).glob("checkpoint-*/trainer_state.json")}
    assert states
    again = execute(TINY, [str(news.parent)], str(work), "abc")
    assert again["report"]["test_metrics"] == first["report"]["test_metrics"]
    assert again["report"]["epochs"] == first["report"]["epochs"]
    assert again["predictions"] == first["predictions"]
    assert {path: path.stat().st_mtime_ns for path in states} == states


@pytest.mark.parametrize("state", ["whole", "half-written", "missing"])
def test_an_interrupted_run_resumes_from_its_last_whole_checkpoint(
    executed: tuple[Path, Line], train_small: Train, news: Path, tmp_path: Path, state: str
) -> None:
    """An interrupted run leaves checkpoints and no report."""
    folder = tmp_path / TINY.key
    train_small(folder, "--seed", "1", "--save_total_limit", "3", "--recipe", "benchmarks")
    (folder / "report.json").unlink()
    shutil.rmtree(folder / "checkpoint-42")
    of_last = folder / "checkpoint-28" / "trainer_state.json"
    if state == "half-written":
        of_last.write_text(of_last.read_text()[:-100])
    elif state == "missing":
        of_last.unlink()
    of_first = folder / "checkpoint-14" / "trainer_state.json"  # not read if the last one is whole
    of_first.write_text(of_first.read_text().replace('"eval_loss": 1', '"eval_loss": 12'))
    line = execute(TINY, [str(news.parent)], str(tmp_path), None)
    ours, whole = line["report"], executed[1]["report"]
    assert ours["test_metrics"] == whole["test_metrics"]
    losses = [[epoch["validation_loss"] for epoch in report["epochs"]] for report in (ours, whole)]
    assert losses[0][1:] == losses[1][1:]
    assert (losses[0][0] == losses[1][0]) == (state == "whole")  # otherwise it resumes from the first


def test_a_run_with_a_whole_checkpoint_is_resumed_and_another_is_overwritten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[dict[str, Any]] = []

    def make(values: dict[str, Any], program: str) -> None:
        calls.append(values)
        raise InterruptedError

    monkeypatch.setattr("kr_text.training.arguments.make_arguments", make)
    for number in range(2):
        with pytest.raises(InterruptedError):
            execute(TINY, [], str(tmp_path), None)
        state = tmp_path / TINY.key / "checkpoint-1" / "trainer_state.json"
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text("{}")
        assert ("resume" in calls[number], "overwrite" in calls[number]) == (number == 1, number == 0)


def test_wrong_labels_are_searched_for_if_the_true_labels_are_known(news: Path, tmp_path: Path) -> None:
    folder = tmp_path / "noisy"
    shutil.copytree(news, folder)
    rows = (news / "train.csv").read_text().splitlines()[1:]
    shutil.copy(folder / "test.csv", folder / "validation.csv")  # so that no row of train is split off
    true = [row.rpartition(",")[2] for row in rows]
    others = sorted(set(true) - {true[0]})
    (folder / TRUE_LABELS_FILE).write_text("\n".join(["label", others[0], *true[1:]]) + "\n")
    run = dataclasses.replace(TINY, dataset="noisy", training="num_train_epochs=1")
    wrong = execute(run, [str(tmp_path)], str(tmp_path / "work"), None)["wrong_labels"]
    assert wrong is not None
    assert (wrong["num_rows"], wrong["num_wrong"]) == (240, 1)
    fewer = dataclasses.replace(run, max_train_rows=100)
    with pytest.raises(
        ValueError, match=r"max_train_rows must be left out for noisy, whose file of true labels covers all rows, got 1"
    ):
        execute(fewer, [str(tmp_path)], str(tmp_path / "work"), None)


def test_a_teacher_is_trained_first_with_cross_entropy_on_the_same_rows(news: Path, tmp_path: Path) -> None:
    run = dataclasses.replace(TINY, loss="kd", seed=3, max_train_rows=150, teacher="embedding_dim=20,num_buckets=500")
    run = dataclasses.replace(run, training="num_train_epochs=1,learning_rate=0.125", loss_overrides="weight=0.5")
    line = execute(run, [str(news.parent)], str(tmp_path), None)
    teacher, student = line["teacher"], line["report"]
    assert teacher is not None
    assert (teacher["loss"]["name"], student["loss"]["name"]) == ("ce", "kd")
    assert teacher["model"]["num_parameters"] != student["model"]["num_parameters"]
    assert (teacher["seed"], teacher["dataset"]) == (student["seed"], student["dataset"])
    assert teacher["hyper_parameters"] == student["hyper_parameters"]
    assert teacher["hyper_parameters"]["learning_rate"] == 0.125
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".lock"]
    remove_work(run, str(tmp_path))
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_run_that_another_process_trains_is_refused(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / f"{RUN.key}.lock"),
        pytest.raises(ValueError, match="must not be in use, but another process trains there"),
    ):
        execute(RUN, (), str(tmp_path), None)
