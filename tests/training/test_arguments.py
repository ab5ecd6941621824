import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

import kr_text.training.arguments
from kr_text.models import MODELS
from kr_text.training.arguments import (
    TRAINING_DEFAULTS,
    command_line,
    make_arguments,
    parse_training,
    training_parser,
)
from kr_text.training.flags import training_flags
from kr_text.training.recipes import Recipe, recipe
from kr_text.training.run_arguments import RunArguments

BATCH_SIZE = "per_device_train_batch_size"


def parse(*argv: str) -> tuple[RunArguments, TrainingArguments]:
    return parse_training(argv, "kr-text train")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def with_config(config: Path, text: str, *argv: str) -> tuple[RunArguments, TrainingArguments]:
    config.write_text(text)
    return parse("--config", str(config), *argv)


def test_without_flags_fasttext_trains_with_kr_ls_on_synthetic_news() -> None:
    run, args = parse()
    assert (run.model, run.dataset, run.loss) == ("fasttext", "synthetic_news", "kr-ls")
    assert Path(args.output_dir or "") == Path("runs/fasttext-synthetic_news-kr-ls")


def test_the_output_folder_is_named_after_model_data_set_and_loss() -> None:
    _, args = parse("--model", "google/bert", "--dataset", "some/folder/", "--loss", "ce", "--recipe", "benchmarks")
    assert Path(args.output_dir or "") == Path("runs/bert-folder-ce")


@pytest.mark.parametrize("model", [*MODELS, "some/bert"])
def test_arguments_that_are_not_given_come_from_the_recipe(model: str) -> None:
    _, args = parse("--model", model, "--dataset", "ag_news")
    expected = recipe(model, "ag_news").training
    assert expected
    assert {name: getattr(args, name) for name in expected} == expected


def test_arguments_outside_the_recipe_have_our_defaults_or_the_trainers() -> None:
    _, args = parse()
    assert {name: getattr(args, name) for name in TRAINING_DEFAULTS} == TRAINING_DEFAULTS
    assert args.adam_beta2 == TrainingArguments.adam_beta2


def test_the_recipe_overrides_our_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        kr_text.training.arguments, "recipe", lambda model, dataset: Recipe({}, {}, {"save_total_limit": 3})
    )
    _, args = parse("--recipe", "benchmarks")
    assert args.save_total_limit == 3 != TRAINING_DEFAULTS["save_total_limit"]


def test_a_flag_overrides_the_file_and_the_file_overrides_the_recipe(config: Path) -> None:
    text = "recipe: benchmarks\nlearning_rate: 0.5\nnum_train_epochs: 7\neval_strategy: steps\nsave_strategy: steps"
    _, args = with_config(config, text, "--learning_rate", "0.25", "--save_steps", "500")
    assert args.learning_rate == 0.25  # file 0.5
    of_recipe = recipe("fasttext", "synthetic_news").training
    assert args.num_train_epochs == 7 != of_recipe["num_train_epochs"]
    assert args.per_device_train_batch_size == of_recipe["per_device_train_batch_size"]
    assert args.eval_strategy == "steps"  # our default: epoch


def test_the_model_in_the_file_selects_the_recipe(config: Path) -> None:
    run, args = with_config(config, "model: transformer\ndataset: ag_news")
    assert run.model == "transformer"
    assert args.learning_rate == recipe("transformer", "ag_news").training["learning_rate"]
    assert Path(args.output_dir or "").name == "transformer-ag_news-kr-ls"


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("learning_rate: 1e-3", "learning_rate", 1e-3),  # text to YAML, which wants 1.0e-3
        ("learning_rate: 2", "learning_rate", 2.0),
        ("num_train_epochs: 3", "num_train_epochs", 3.0),
        ("seed: 11", "seed", 11),
        ("eval_strategy: no\nload_best_model_at_end: no", "eval_strategy", "no"),  # False to YAML
        ("bf16: true", "bf16", True),
        ("bf16: 'yes'", "bf16", True),
        ("load_best_model_at_end: false", "load_best_model_at_end", False),
        ("save_total_limit: null", "save_total_limit", None),
        ("lr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_cycles: 2}", "lr_scheduler_kwargs", {"num_cycles": 2}),
        ("label_names: [labels]", "label_names", ["labels"]),
        ("run_name: 007", "run_name", "007"),
    ],
)
def test_values_in_the_file_are_converted_as_flags_are(config: Path, line: str, field: str, value: Any) -> None:
    _, args = with_config(config, line)
    got = getattr(args, field)
    assert got == value
    assert type(got) is type(value) or isinstance(value, str)  # strategies are enums


def test_the_error_for_an_unknown_key_suggests_the_nearest(config: Path) -> None:
    with pytest.raises(ValueError, match=r"run.yaml: unknown argument 'learning_rat'; did you mean learning_rate\?"):
        with_config(config, "learning_rat: 0.1")


@pytest.mark.parametrize("line", ["qqqq: 1", "config: other.yaml", "help: true", "1: 2", "true: 2"])
def test_keys_that_are_not_flags_are_refused(config: Path, line: str) -> None:
    with pytest.raises(ValueError, match=f"run.yaml: unknown argument '{line.partition(':')[0]}'"):
        with_config(config, line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "run.yaml: must be a YAML file, got: line 1, column 5: expected"),
        ("a: b: c", "run.yaml: must be a YAML file, got: line 1, column 5: mapping values"),
        ("- model\n- fasttext", "run.yaml: must be lines of `flag: value`, got list"),
        ("fasttext", "run.yaml: must be lines of `flag: value`, got str"),
        ("", "run.yaml: must be lines of `flag: value`, got NoneType"),
    ],
)
def test_a_file_that_is_not_a_mapping_is_refused(config: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        with_config(config, text)
    assert "\n" not in str(caught.value)


def test_the_error_for_an_unreadable_file_names_it(config: Path) -> None:
    with pytest.raises(ValueError, match=r"run\.yaml: No such file$"):
        parse("--config", str(config))
    config.write_bytes(b"model: \xff")
    with pytest.raises(ValueError, match=r"run.yaml: must be a YAML file, got: 'utf-8' codec can't decode byte 0xff"):
        parse("--config", str(config))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--learning_rat", "1"], "unrecognized arguments: --learning_rat"),  # no abbreviations either
        (["word", "another"], "unrecognized arguments: another"),
        (["--loss", "hinge"], r"--loss: invalid choice: 'hinge' \(choose from"),
        (["--num_train_epochs", "many"], "num_train_epochs.*: invalid float value: 'many'"),
    ],
)
def test_a_wrong_flag_is_refused(flags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(*flags)


ALIASED = [("epochs", "num_train_epochs", 7), ("lr", "learning_rate", 0.25), ("batch_size", BATCH_SIZE, 48)]


@pytest.mark.parametrize(("alias", "field", "value"), ALIASED)
def test_an_alias_sets_its_field_as_a_flag_and_in_the_file(config: Path, alias: str, field: str, value: float) -> None:
    for _, args in (parse(f"--{alias}", str(value)), with_config(config, f"{alias}: {value}")):
        assert getattr(args, field) == value
    _, args = with_config(config, f"{alias}: 1", f"--{field}", str(value))
    assert getattr(args, field) == value  # the command line wins, whichever name it uses


@pytest.mark.parametrize(("alias", "field", "value"), ALIASED)
def test_a_field_and_its_alias_together_are_refused(config: Path, alias: str, field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be given once, got {value}(\.0)? as {alias} and 1"):
        parse(f"--{alias}", str(value), f"--{field}", "1")
    with pytest.raises(ValueError, match=rf"run\.yaml: {field} must be given once, got {value} as {alias} and 1$"):
        with_config(config, f"{alias}: {value}\n{field}: 1")


@pytest.mark.parametrize(
    "argv", ["my.csv --lr 1", "--lr 1 my.csv", "--lr 1 my.csv --epochs 2", "--overwrite my.csv --lr 1"]
)
def test_the_data_set_needs_no_flag(argv: str) -> None:
    run, args = parse(*argv.split(), "--recipe", "benchmarks")
    assert (run.dataset, args.output_dir) == ("my.csv", str(Path("runs/fasttext-my.csv-kr-ls")))


@pytest.mark.parametrize(("argv", "dataset", "bf16"), [("--bf16 no", "synthetic_news", False), ("--bf16 a", "a", True)])
def test_a_switch_takes_the_next_word_only_if_it_is_true_or_false(argv: str, dataset: str, bf16: bool) -> None:
    run, args = parse("--recipe", "benchmarks", *argv.split())
    assert (run.dataset, args.bf16) == (dataset, bf16)


def test_the_data_set_with_and_without_its_flag_is_refused(config: Path) -> None:
    with pytest.raises(ValueError, match=r"^dataset must be given once, got a\.csv as DATASET and b\.csv$"):
        parse("a.csv", "--dataset", "b.csv")
    run, _ = with_config(config, "recipe: benchmarks\ndataset: b.csv", "a.csv")  # the command line wins
    assert run.dataset == "a.csv"


def test_the_device_cpu_is_the_trainers_use_cpu(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAINING_DEFAULTS, "use_cpu", False)
    for _, args in (parse("--device", "cpu"), with_config(config, "device: cpu")):
        assert args.use_cpu
        assert args.device.type == "cpu"
    with pytest.raises(ValueError, match=r"^use_cpu must be given once, got cpu as device and False$"):
        parse("--device", "cpu", "--use_cpu", "no")


def test_the_device_of_an_accelerator_leaves_the_cpu_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setitem(TRAINING_DEFAULTS, "use_cpu", True)
    _, args = parse("--device", "cuda")
    assert not args.use_cpu


def test_bf16_of_the_recipe_is_for_the_accelerator_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Recipe({}, {}, {"bf16": True})
    monkeypatch.setattr("kr_text.training.arguments.recipe", lambda *_: chosen)
    flags = ("--device", "cpu", "--recipe", "benchmarks")
    assert parse(*flags)[1].bf16
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert not parse(*flags)[1].bf16
    assert parse(*flags, "--bf16")[1].bf16


@pytest.mark.parametrize("device", ["mps", "gpu"])
def test_a_device_that_is_not_there_is_refused(config: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    message = f"device must be one that torch finds on this machine, cpu, got '{device}'$"
    with pytest.raises(ValueError, match=rf"run\.yaml: {message}"):
        with_config(config, f"device: {device}")


@pytest.mark.parametrize(("name", "near"), [("fastext", "fasttext"), ("CharCNN", "charcnn"), ("rnn", "textrnn")])
def test_a_name_that_is_nearly_a_classifier_is_refused_unless_it_is_a_folder(
    name: str, near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^model must be one of .*, got '{name}'; did you mean {near}\?$"):
        parse("--model", name)
    for other in (f"someone/{name}", f"./{name}", "bert-base-cased", "transfo-xl-wt103"):
        assert parse("--model", other)[0].model == other
    (tmp_path / name).mkdir()
    assert parse("--model", name)[0].model == name


def test_the_names_of_the_flags_are_known_without_the_parser() -> None:
    of_parser = {flag for action in training_parser("kr-text train")._actions for flag in action.option_strings}
    assert len(of_parser) > 150
    assert set(training_flags()) == of_parser - {"-h", "--help"}


def test_an_unknown_loss_in_the_file_is_refused(config: Path) -> None:
    with pytest.raises(ValueError, match=r"run\.yaml: argument --loss: invalid choice: 'hinge'"):
        with_config(config, "loss: hinge")


def test_every_field_of_training_arguments_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    flags = set(capsys.readouterr().out.replace(",", " ").split())
    fields = {f"--{field.name}" for field in dataclasses.fields(TrainingArguments) if field.init}
    assert len(fields) > 80
    assert fields - flags == set()
    assert {f"--{field.name}" for field in dataclasses.fields(RunArguments)} - flags == set()


@pytest.mark.parametrize(
    ("given", "size"), [("500", 500), ("500.0", 500), ("1", 1), ("0.2", 0.2), ("0.5", 0.5), ("500.5", 500.5)]
)
def test_a_whole_validation_size_is_a_count(given: str, size: float) -> None:
    run, _ = parse("--validation_size", given, "--recipe", "benchmarks")
    assert run.validation_size == size
    assert type(run.validation_size) is type(size)


def test_an_infinite_validation_size_passes_the_arguments() -> None:
    run, _ = parse("--validation_size", "inf", "--recipe", "benchmarks")
    assert run.validation_size == float("inf")


@pytest.mark.parametrize("length", ["0", "-5"])
def test_max_length_is_at_least_1(length: str) -> None:
    with pytest.raises(ValueError, match=f"max_length must be at least 1, got {length}"):
        parse("--max_length", length)


def test_loss_overrides_stay_text_and_label_matrices_is_a_switch(config: Path) -> None:
    run, _ = parse("--loss_overrides", "alpha=1e-1,until=2", "--label_matrices")
    assert (run.loss_overrides, run.label_matrices) == ("alpha=1e-1,until=2", True)
    run, _ = parse()
    assert (run.loss_overrides, run.label_matrices) == (None, False)
    run, _ = with_config(config, "loss_overrides: alpha=0.5\nlabel_matrices: true")
    assert (run.loss_overrides, run.label_matrices) == ("alpha=0.5", True)


@pytest.mark.parametrize("flags", [["--loss", "kd"], ["--loss", "kr", "--teacher", "some/folder"]])
def test_a_teacher_is_for_distillation_only(flags: list[str]) -> None:
    with pytest.raises(ValueError, match="teacher must be "):
        parse(*flags)


@pytest.mark.parametrize(
    ("flags", "greater"),
    [
        ([], False),
        (["--metric_for_best_model", "macro_f1"], True),
        (["--metric_for_best_model", "eval_macro_f1"], True),
        (["--metric_for_best_model", "nll"], False),
        (["--metric_for_best_model", "nll", "--greater_is_better", "true"], True),
    ],
)
def test_only_macro_f1_is_better_when_greater(flags: list[str], greater: bool) -> None:
    _, args = parse_training(flags, "kr-text train")
    assert args.greater_is_better is greater


def test_the_error_for_label_smoothing_factor_names_the_loss_ls() -> None:
    with pytest.raises(ValueError, match=r"must be 0, got 0\.1: give --loss ls --loss_overrides label_smoothing=0\.1"):
        parse_training(["--loss", "ce", "--label_smoothing_factor", "0.1"], "kr-text train")


def test_the_command_line_in_a_report_hides_tokens() -> None:
    argv = ["kr-text", "train", "--hub_token", "hf_1", "--push_to_hub_token=hf_2", "--dataset", "my data"]
    assert command_line(argv) == "kr-text train --hub_token ... --push_to_hub_token=... --dataset 'my data'"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "loss_overrides: {alpha: 0.3}",
            r"loss_overrides must be text, got {'alpha': 0\.3}",
        ),
        ("text_column: [title, body]", r"text_column must be text, got \['title', 'body'\]"),
        ("dataset:", "dataset must have a value, got none"),
        ("seed:", "seed must have a value, got none"),
    ],
)
def test_values_of_the_wrong_type_in_the_file_are_refused(config: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"run\.yaml: {message}"):
        with_config(config, line)


# The same values as flags and as Python values: each line has the flags, then the values.
SAME = [
    ("", {}),
    ("--model transformer --dataset ag_news", {"model": "transformer", "dataset": "ag_news"}),
    ("--model some/bert --loss ce --seed 3", {"model": "some/bert", "loss": "ce", "seed": 3}),
    ("--learning_rate 0.1 --num_train_epochs 2", {"learning_rate": 0.1, "num_train_epochs": 2}),
    ("--loss_overrides alpha=0.3", {"loss_overrides": "alpha=0.3"}),
    ("--validation_size 30", {"validation_size": 30}),
    ("--validation_size 0.25 --max_length 5", {"validation_size": 0.25, "max_length": 5}),
    ("--loss kd --teacher some/folder", {"loss": "kd", "teacher": "some/folder"}),
    ("--label_matrices --resume --overwrite no", {"label_matrices": True, "resume": True, "overwrite": False}),
    ("--output_dir runs/mine", {"output_dir": "runs/mine"}),
    ("--metric_for_best_model macro_f1", {"metric_for_best_model": "macro_f1"}),
    (
        "--metric_for_best_model nll --greater_is_better true",
        {"metric_for_best_model": "nll", "greater_is_better": True},
    ),
    ("--no_skip_memory_metrics", {"skip_memory_metrics": False}),
    ("--optim sgd --lr_scheduler_type cosine", {"optim": "sgd", "lr_scheduler_type": "cosine"}),
    ("--load_best_model_at_end no --eval_strategy no", {"load_best_model_at_end": False, "eval_strategy": "no"}),
    ("--save_steps 500 --eval_steps 500", {"save_steps": 500, "eval_steps": 500}),
    ("--report_to none --label_names labels", {"report_to": ["none"], "label_names": ["labels"]}),
    ('--lr_scheduler_kwargs {"num_cycles":2}', {"lr_scheduler_kwargs": {"num_cycles": 2}}),
    ("--lr_scheduler_kwargs {}", {"lr_scheduler_kwargs": "{}"}),
    ("--run_name 007 --hub_token=", {"run_name": "007", "hub_token": ""}),
]


@pytest.mark.parametrize(("flags", "values"), SAME)
def test_flags_and_values_give_equal_arguments(flags: str, values: dict[str, Any]) -> None:
    (run, args), (same_run, same_args) = parse(*flags.split()), make_arguments(values, "kr-text train")
    assert same_run == run
    assert same_args.to_dict() == args.to_dict()
    assert repr(same_args.to_dict()) == repr(args.to_dict())  # 2.0 is not 2 in a report


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 0.1}, r"^kr-text run: unknown argument 'learning_rat'; did you mean learning_rate\?$"),
        ({"config": "run.yaml"}, "^kr-text run: unknown argument 'config'"),
        ({"qqqq": 1}, "^kr-text run: unknown argument 'qqqq'$"),
        ({"learning_rate": "0.1"}, "^learning_rate must be a number, got '0.1'$"),
        ({"num_train_epochs": True}, "^num_train_epochs must be a number, got True$"),
        ({"seed": 1.0}, r"^seed must be a whole number, got 1\.0$"),
        ({"seed": True}, "^seed must be a whole number, got True$"),
        ({"seed": None}, "^seed must have a value, got none$"),
        ({"bf16": 1}, "^bf16 must be true or false, got 1$"),
        ({"run_name": 7}, "^run_name must be text, got 7$"),
        ({"loss": "hinge"}, "^loss must be one of ce, ls, kr, kr-ls, .*, got 'hinge'$"),
        ({"label_names": "labels"}, "^label_names must be a list, got 'labels'$"),
        ({"loss": "kd"}, "^teacher must be given for loss kd, got none: a trained classifier"),
        ({"max_length": 0}, "^max_length must be at least 1, got 0$"),
        ({"num_train_epochs": 0}, r"^num_train_epochs must be above 0 and finite, got 0\.0$"),
        ({"num_train_epochs": math.inf}, "^num_train_epochs must be above 0 and finite, got inf$"),
        ({"learning_rate": math.nan}, "^learning_rate must be at least 0 and finite, got nan$"),
        ({"learning_rate": -1}, r"^learning_rate must be at least 0 and finite, got -1\.0$"),
        ({"per_device_train_batch_size": 0}, "^per_device_train_batch_size must be at least 1, got 0$"),
        ({"gradient_accumulation_steps": -1}, "^gradient_accumulation_steps must be at least 1, got -1$"),
        ({"dataloader_num_workers": -1}, "^dataloader_num_workers must be at least 0, got -1$"),
        ({"seed": -1}, r"^seed must be in \[0, 4294967295\], got -1$"),
        (
            {"metric_for_best_model": "nosuch"},
            "^metric_for_best_model must be one of loss, error_rate, .*, got 'nosuch'$",
        ),
        ({"eval_strategy": "never"}, "^eval_strategy must be one of no, steps, epoch, got 'never'$"),
        ({"label_smoothing_factor": 0.1}, r"must be 0, got 0\.1: give --loss ls --loss_overrides label_smoothing=0\.1"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_arguments(values, "kr-text run")


def test_a_parser_shows_the_defaults_of_the_fields_and_raises_errors() -> None:
    parser = training_parser("kr-text train")
    assert parser.get_default("model") == "fasttext"
    assert parser.get_default("num_train_epochs") == TrainingArguments.num_train_epochs
    with pytest.raises(ValueError, match="unrecognized arguments: --modle"):
        parser.parse_args(["--modle", "fasttext"])


def test_only_charcnn_takes_an_alphabet() -> None:
    assert parse("--model", "charcnn", "--alphabet", "data")[0].alphabet == "data"
    with pytest.raises(ValueError, match=r"^alphabet must be left out for fasttext, got zhang; charcnn takes one$"):
        parse("--alphabet", "zhang")
