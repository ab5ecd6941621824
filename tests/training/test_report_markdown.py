import json
import math
from pathlib import Path

import numpy as np
import pytest

from kr_text.data.duplicates import COUNTS
from kr_text.evaluation.classes import class_metrics
from kr_text.evaluation.metrics import classification_metrics, confusion_matrix
from kr_text.training.report import Report
from kr_text.training.report_markdown import report_markdown, write_report

PROBABILITIES = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]
LABELS = [0, 0, 1, 1]  # rows 1 and 3 are wrong; no row of class 2


@pytest.fixture
def report() -> Report:
    return {
        "command": "kr-text train --model fasttext --dataset news",
        "model": {"name": "fasttext", "num_parameters": 1_234_567},
        "dataset": {
            "name": "news",
            "class_names": ["World", "Sport", "Sci|Tech"],
            "num_train_rows": 8000,
            "num_validation_rows": 800,
            "num_test_rows": 4,
            "num_unlabelled_test_rows": 0,
            "left_out_rows": {"train": 0},
            "duplicates": dict.fromkeys(COUNTS, 0),
        },
        "long_texts": {"max_length": 256, "window_stride": None, "num_train": 0, "num_validation": 0, "num_test": 0},
        "loss": {"name": "kr", "settings": {"gamma": 0.995, "form": "label_first"}},
        "seed": 7,
        "device": "cpu",
        "hyper_parameters": {"learning_rate": 0.5, "optim": "sgd"},
        "class_sampling": None,
        "early_stopping": None,
        "best_epoch": 2.0,
        "epochs": [
            {
                "epoch": 1.0,
                "training_loss": 1.5,
                "loss_terms": {"alpha": 1.0},
                "validation_loss": 0.75,
                "validation_error_rate": 20.0,
                "metric_for_best_model": 0.75,
            },
            {
                "epoch": 2.0,
                "training_loss": 1.25,
                "loss_terms": {},
                "validation_loss": 0.5,
                "validation_error_rate": 12.5,
                "metric_for_best_model": 0.5,
            },
        ],
        "validation_metrics": dict(classification_metrics(PROBABILITIES, LABELS)),
        "test_metrics": dict(classification_metrics(PROBABILITIES, LABELS)),
        "class_metrics": class_metrics(confusion_matrix(PROBABILITIES, LABELS, 3), ["World", "Sport", "Sci|Tech"]),
        "mistakes": [
            {"text": "Who won\nthe | game?", "label": "Sport", "prediction": "Sci|Tech", "probability": 0.8},
            {"text": "<script>alert(1)</script>", "label": "World", "prediction": "Sport", "probability": 0.6},
        ],
        "temperature_scaling": {
            "temperature": 1.5,
            "test_metrics": {"nll": 0.125, "ece": 0.0625},
        },
        "confusion_matrix": confusion_matrix(PROBABILITIES, LABELS, 3).tolist(),
        "residual_labels": [[0.0, 0.25, 0.75], [0.5, 0.0, 0.5], [0.875, 0.125, 0.0]],
        "label_matrices": None,
        "wall_time_seconds": {"total": 12.5, "training": 10.0, "evaluation": 2.0},
        "peak_memory_mb": {"process": 512.0, "largest_child": 0.0},
        "environment": {
            "versions": {"python": "3.11.9", "torch": "2.13.0"},
            "platform": "Linux x86_64",
            "num_cores": 2,
            "num_threads": 1,
            "accelerator": None,
        },
    }


def cells(markdown: str, heading: str) -> list[list[str]]:
    """Cells of the table in a section, without padding."""
    section = markdown.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [line.strip("| ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split(" | ")] for line in table]


def test_the_report_starts_with_model_data_loss_and_test_error(report: Report) -> None:
    title, _, summary = report_markdown(report).splitlines()[:3]
    assert title == "# fasttext on news, trained with kr"
    assert summary == (
        "Test error 50.00% on 4 rows. 1,234,567 parameters, 3 classes, 8,000 training and 800 validation rows, seed 7; "
        "12.5 seconds on cpu."
    )


@pytest.mark.parametrize(("stride", "how"), [(None, "truncated"), (64, "read in windows that share 64 tokens")])
def test_long_texts_are_counted_for_each_split_that_has_some(report: Report, stride: int | None, how: str) -> None:
    assert "longer than" not in report_markdown(report)
    report["long_texts"] |= {"num_train": 1234, "num_test": 3, "window_stride": stride}
    line = f"1,234 of 8,000 training, 3 of 4 test texts are longer than 256 tokens: {how}."
    assert line in report_markdown(report).splitlines()


def test_each_test_metric_has_a_unit_and_a_meaning(report: Report) -> None:
    _, _, *rows = cells(report_markdown(report), "Test metrics")
    assert (
        "With temperature scaling at 1.50, the temperature with the lowest NLL on the validation rows: NLL 0.1250, "
        "ECE 0.0625." in report_markdown(report)
    )
    assert [row[0] for row in rows] == ["error_rate", "macro_f1", "nll", "brier_score", "ece", "aurc"]
    assert [row[2] for row in rows] == ["%", "0 to 1", "nats", "0 to 2", "0 to 1", "0 to 1"]
    assert all(len(row[3]) > 20 for row in rows)
    assert rows[0][1] == "50.0000"


def test_the_confusion_matrix_has_class_names_and_the_error_of_each_class(report: Report) -> None:
    header, _, *rows = cells(report_markdown(report), "Confusion matrix")
    assert header == ["true class", "World", "Sport", "Sci\\|Tech", "error, %"]
    assert rows == [
        ["World", "1", "1", "0", "50.00"],
        ["Sport", "0", "1", "1", "50.00"],
        ["Sci\\|Tech", "0", "0", "0", "n/a"],
    ]


def test_each_class_has_precision_recall_f1_and_support(report: Report) -> None:
    header, _, *rows = cells(report_markdown(report), "Classes")
    assert header == ["class", "precision", "recall", "F1", "rows"]
    assert rows == [
        ["World", "1.0000", "0.5000", "0.6667", "2"],
        ["Sport", "0.5000", "0.5000", "0.5000", "2"],
        ["Sci\\|Tech", "0.0000", "n/a", "0.0000", "0"],
    ]


@pytest.mark.parametrize(("num_classes", "num_shown"), [(30, 30), (31, 20)])
def test_of_more_than_30_classes_the_20_with_the_lowest_f1_are_listed(
    report: Report, num_classes: int, num_shown: int
) -> None:
    counts = np.diag([0, *range(1, num_classes)])  # the first class has neither rows nor predictions
    counts[:, 5] += np.arange(num_classes)  # class k has k mistakes among 2 k rows
    counts[7, 7], counts[7, 5] = 0, 7
    report["class_metrics"] = class_metrics(counts, [f"c{k}" for k in range(num_classes)])
    markdown = report_markdown(report)
    _, _, *rows = cells(markdown, "Classes")
    assert len(rows) == num_shown
    assert ("The 20 of 31 classes with the lowest F1, the worst first." in markdown) == (num_shown == 20)
    if num_shown == 20:
        assert [row[0] for row in rows[:2]] == ["c7", "c5"]
        assert "c0" not in [row[0] for row in rows]


def test_the_most_confident_mistakes_are_shown_with_their_escaped_texts(report: Report) -> None:
    markdown = report_markdown(report)
    assert cells(markdown, "Most confident mistakes")[2:] == [
        ["0.8000", "Sci\\|Tech", "Sport", "Who won the \\| game?"],
        ["0.6000", "Sport", "World", "\\<script>alert(1)\\</script>"],
    ]
    report["mistakes"] = []
    assert "## Most confident mistakes\n\nNone.\n" in report_markdown(report)


def test_the_report_says_that_the_metrics_are_unweighted_if_training_was_weighted(report: Report) -> None:
    sentence = "in the metrics each row counts once"
    assert sentence not in report_markdown(report)
    report["loss"]["settings"]["class_weights"] = [1.0, 2.0, 1.0]
    assert sentence in report_markdown(report)


def test_class_names_with_markup_are_escaped_everywhere(report: Report) -> None:
    name = "<b>*x*[y](z)"
    report["dataset"]["class_names"][0] = report["class_metrics"][0]["name"] = name
    report["mistakes"][0]["label"] = report["mistakes"][1]["prediction"] = name
    markdown = report_markdown(report)
    assert name not in markdown
    assert markdown.count("\\<b>\\*x\\*[y\\](z)") == 2 + 1 + 2 + 3  # matrix, classes, mistakes, related classes


def test_of_more_than_20_classes_the_most_frequent_confusions_are_listed(report: Report) -> None:
    counts = [[0] * 21 for _ in range(21)]
    counts[0][0], counts[0][3], counts[0][5] = 6, 1, 3
    counts[1][1] = 4
    report["dataset"]["class_names"] = [f"c{k}" for k in range(21)]
    report["confusion_matrix"] = counts
    report["residual_labels"] = None
    header, _, *rows = cells(report_markdown(report), "Confusion matrix")
    assert header == ["true class", "predicted as", "test rows", "share of the true class, %"]
    assert rows == [["c0", "c5", "3", "30.00"], ["c0", "c3", "1", "10.00"]]


def test_the_training_curve_marks_the_kept_epoch(report: Report) -> None:
    _, _, *rows = cells(report_markdown(report), "Training curve")
    assert rows == [["1", "1.5000", "0.7500", "20.00"], ["2", "1.2500", "0.5000", "12.50", "kept"]]


def test_the_training_curve_shows_the_metric_that_chooses_the_best_epoch(report: Report) -> None:
    report["hyper_parameters"]["metric_for_best_model"] = "eval_macro_f1"
    headings, _, *rows = cells(report_markdown(report), "Training curve")
    assert headings[4] == "validation macro_f1"
    assert [row[4] for row in rows] == ["0.7500", "0.5000"]


def test_the_report_says_that_training_stopped_early(report: Report) -> None:
    report["early_stopping"] = {"patience": 3, "stopped": False}
    assert "stopped early" not in report_markdown(report)
    assert ["early_stopping_patience", "3"] in cells(report_markdown(report), "Settings")
    report["early_stopping"] = {"patience": 3, "stopped": True}
    sentence = "Training stopped early, after 3 evaluations in a row without a better loss."
    assert sentence in report_markdown(report)


def test_sampling_by_class_is_a_setting(report: Report) -> None:
    report["class_sampling"] = "balanced"
    assert ["class_sampling", '"balanced"'] in cells(report_markdown(report), "Settings")


def test_related_classes_are_sorted_and_exclude_the_class_itself(report: Report) -> None:
    _, _, *rows = cells(report_markdown(report), "What the loss learned")
    assert rows == [
        ["World", "Sci\\|Tech 75.0%, Sport 25.0%"],
        ["Sport", "World 50.0%, Sci\\|Tech 50.0%"],
        ["Sci\\|Tech", "World 87.5%, Sport 12.5%"],
    ]


def test_at_most_three_related_classes_are_named(report: Report) -> None:
    report["dataset"]["class_names"] = list("abcde")
    report["confusion_matrix"] = [[0] * 5] * 5
    report["residual_labels"] = [[0.0, 0.1, 0.2, 0.3, 0.4]] * 5
    assert cells(report_markdown(report), "What the loss learned")[2] == ["a", "e 40.0%, d 30.0%, c 20.0%"]


def test_a_loss_without_residual_labels_is_reported_as_such(report: Report) -> None:
    report["residual_labels"] = None
    assert "## What the loss learned\n\nNo residual labels.\n" in report_markdown(report)


def test_settings_environment_and_command_are_reported(report: Report) -> None:
    markdown = report_markdown(report)
    assert cells(markdown, "Settings")[2:] == [
        ["seed", "7"],
        ["loss: gamma", "0.995"],
        ["loss: form", '"label_first"'],
        ["learning_rate", "0.5"],
        ["optim", '"sgd"'],
    ]
    machine = dict(row for row in cells(markdown, "Environment")[2:])
    assert machine["time in training, s"] == "10.0"
    assert machine["peak memory, MB"] == "512"
    assert machine["torch"] == "2.13.0"
    assert markdown.endswith("```sh\nkr-text train --model fasttext --dataset news\n```\n")


def test_tables_align_as_plain_text(report: Report) -> None:
    for section in report_markdown(report).split("\n## ")[1:]:
        widths = {len(line) for line in section.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_a_line_break_in_a_class_name_becomes_a_space(report: Report) -> None:
    report["dataset"]["class_names"][0] = "World\nnews"
    assert cells(report_markdown(report), "Confusion matrix")[2][0] == "World news"


def test_report_json_is_the_report_and_report_md_its_rendering(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written == report
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == report_markdown(written)


def test_nonfinite_numbers_become_null_and_na(report: Report, tmp_path: Path) -> None:
    report["test_metrics"]["nll"] = math.inf
    report["epochs"][0]["training_loss"] = math.nan
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    written = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert written["test_metrics"]["nll"] is None
    assert written["epochs"][0]["training_loss"] is None
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert cells(markdown, "Test metrics")[4][:2] == ["nll", "n/a"]
    assert markdown == report_markdown(written)
    assert markdown == report_markdown(report)


def test_class_names_are_written_as_unicode(report: Report, tmp_path: Path) -> None:
    report["dataset"]["class_names"][0] = "Übersee"
    write_report(report, tmp_path)
    assert "Übersee" in (tmp_path / "report.json").read_text(encoding="utf-8")
    assert "Übersee" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_leaves_the_old_one_intact(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    report["hyper_parameters"]["learning_rate"] = object()
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        write_report(report, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
