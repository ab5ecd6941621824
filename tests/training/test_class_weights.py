import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kr_text.training.arguments import make_arguments, parse_training
from kr_text.training.class_weights import read_class_weights, weights_of_classes
from training_cases import Train, report_of

PROGRAM = "kr-text train"
NAMES = ["Arts", "Sports", "a=b", "no", "1"]
LABELS = np.array([0] * 6 + [1] * 3 + [2] * 1)  # N = 10, three of five classes have rows


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    # compute_class_weight("balanced", classes=[0, 1, 2], y=LABELS) is 10 / (3 * [6, 3, 1])
    weights = weights_of_classes("balanced", NAMES, LABELS)
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3, 1, 1])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("w.csv", "name,weight\nSports,2\nno,0.5\n1,3\n"),
        ("w.CSV", '\ufeffSports,2\n\n"no",0.5\n1,3'),
        ("w.yaml", "Sports: 2\nno: 0.5\n1: 3\n"),
        ("w.yml", "{Sports: 2, no: 0.5, 1: 3}"),
        ("w.json", '{"Sports": 2, "no": 0.5, "1": 3}'),
    ],
)
def test_weights_come_from_csv_yaml_and_json(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    read = read_class_weights(str(tmp_path / file))
    assert read == {"Sports": 2, "no": 0.5, "1": 3}
    assert weights_of_classes(read, NAMES, LABELS) == [1, 2, 1, 0.5, 3]


def test_weights_on_one_line_split_at_the_last_equals_sign() -> None:
    assert read_class_weights("Sports=2, a=b=0.5,1=1e1") == {"Sports": 2, "a=b": 0.5, "1": 10}
    assert read_class_weights("balanced") == "balanced"


def test_a_config_file_may_have_a_mapping_of_weights(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("class_weights: {Sports: 2, 1: 3}\n")
    run, _ = parse_training(["--config", str(config)], PROGRAM)
    assert run.class_weights == {"Sports": 2, "1": 3}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "Balanced",
            r"must be balanced, NAME=WEIGHT,.* or a \.csv, \.json or \.yaml file, got 'Balanced'",
        ),
        ("", r"class_weights must be balanced, .* got ''"),
        ("a=2,b", r"class_weights must be balanced, .* got 'a=2,b'"),
        ("a=two", r"class_weights: the weight of a must be a number, got 'two'"),
        ("a=-1", r"class_weights: the weight of a must be at least 0 and finite, got -1\.0"),
        ("a=inf", r"class_weights: the weight of a must be at least 0 and finite, got inf"),
        ("a=nan", r"class_weights: the weight of a must be at least 0 and finite, got nan"),
        ("a=1,a=2", r"class_weights: must name each class once, got a twice"),
        ({"a": True}, r"class_weights: the weight of a must be a number, got True"),
        ({}, r"class_weights: must have a weight for at least one class, got none"),
        ("missing.csv", r"missing\.csv: No such file"),
        ("missing.yaml", r"missing\.yaml: No such file"),
    ],
)
def test_wrong_weights_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_class_weights(value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("w.csv", b"", r"w\.csv: must have a weight for at least one class, got none"),
        ("w.csv", b"name,weight\n", r"w\.csv: must have a weight for at least one class"),
        ("w.csv", b"a,1\nb,2,3\n", r"w\.csv: row 2 must have a name and a weight, got 3 fields"),
        ("w.csv", b"a,1\nb,x\n", r"w\.csv: the weight of b must be a number, got 'x'"),
        ("w.csv", b"a\xff,1\n", r"w\.csv: must be a CSV file in UTF-8"),
        ("w.yaml", b"", r"w\.yaml: must be lines of `name: weight`, got NoneType"),
        ("w.json", b"[1, 2]", r"w\.json: must be lines of `name: weight`, got list"),
        ("w.json", b'{"a": [1]}', r"w\.json: the weight of a must be a number, got \['1'\]"),
    ],
)
def test_wrong_files_of_weights_are_refused(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_class_weights(str(tmp_path / file))


def test_an_unknown_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"must name classes of the data, got 'sprots'; did you mean 'Sports'\?"):
        weights_of_classes({"sprots": 2.0}, NAMES, LABELS)


def test_weights_of_0_for_all_training_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="class_weights must be above 0 for a class with training rows, got 0 for all"):
        weights_of_classes({"Arts": 0.0, "Sports": 0.0, "a=b": 0.0}, NAMES, LABELS)


def test_two_corrections_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="class_sampling must be left out with class_weights balanced"):
        make_arguments({"class_weights": "balanced", "class_sampling": "balanced"}, PROGRAM)


def test_weights_in_loss_overrides_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss_overrides must not have class_weights, .* give --class_weights"):
        make_arguments({"loss_overrides": "class_weights=balanced"}, PROGRAM)


@pytest.mark.parametrize("loss", ["ce", "kr-ls", "cp"])
def test_the_weights_of_a_run_reach_its_loss(tmp_path: Path, train_small: Train, loss: str) -> None:
    flags = ["--loss", loss, "--class_weights", "business=2,sports=0.5"]
    report = train_small(tmp_path, *flags)
    names = report["dataset"]["class_names"]
    expected = {"business": 2.0, "sports": 0.5}
    assert report["loss"]["settings"]["class_weights"] == [expected.get(name, 1.0) for name in names]
    assert json.loads((tmp_path / "settings.json").read_text())["class_weights"] == expected


def test_a_run_is_not_resumed_with_other_weights(tmp_path: Path, train_small: Train) -> None:
    file = tmp_path / "w.yaml"
    flags = ["--class_weights", str(file)]
    file.write_text("sports: 2")
    train_small(tmp_path / "run", *flags)
    file.write_text("sports: 3")
    with pytest.raises(ValueError, match=r"same run to resume it, got class_weights=\{'sports\': 3\.0\} where"):
        train_small(tmp_path / "run", *flags, "--resume")


def test_ones_as_weights_change_nothing(tmp_path: Path, run_folder: Path, train_small: Train) -> None:
    train_small(tmp_path, "--class_weights", "sports=1")
    ours, theirs = report_of(tmp_path), report_of(run_folder)
    assert ours["test_metrics"] == pytest.approx(theirs["test_metrics"], rel=1e-4)
