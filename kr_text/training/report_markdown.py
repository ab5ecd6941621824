"""Renders the report of one run as Markdown, and writes report.json and report.md.

report.md is always `report_markdown` of the content of report.json. A number that is not finite is "n/a".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from kr_text.data.duplicates import COUNTS
from kr_text.formats.markdown import Number, escaped, format_number, markdown_table
from kr_text.formats.whole_files import finite, write_json, write_text
from kr_text.text.windows import long_texts_note
from kr_text.training.report import Report
from kr_text.training.report_classes import class_table, confusion_section, mistakes_section
from kr_text.training.unlabelled import UNLABELLED_FILE

NUM_RELATED = 3  # classes that are named for each class
METRICS = {  # name: (unit, what it means)
    "error_rate": ("%", "share of rows with a wrong prediction; lower is better"),
    "macro_f1": ("0 to 1", "F1, averaged over the classes with equal weight; higher is better"),
    "nll": (
        "nats",
        "-log of the probability of the true class; lower is better, n/a if one of these probabilities is 0",
    ),
    "brier_score": ("0 to 2", "squared distance of the probabilities from the one-hot label; lower is better"),
    "ece": ("0 to 1", "gap between confidence and accuracy in 15 bins; 0 is calibrated"),
    "aurc": ("0 to 1", "error rate of the most confident rows, averaged over all shares of rows; lower is better"),
}


def write_report(report: Report, folder: str | Path) -> None:
    """Writes report.json and report.md to a folder; writes neither if one of them cannot be made."""
    markdown = report_markdown(cast(Report, finite(report)))
    write_json(report, Path(folder) / "report.json")
    write_text(markdown, Path(folder) / "report.md")


def report_markdown(report: Report) -> str:
    """Renders a report as Markdown; the tables also line up as plain text."""
    sections = [
        _summary(report),
        _test_metrics(report),
        f"## Classes\n\n{class_table(report['class_metrics'])}",
        confusion_section(report["dataset"]["class_names"], report["confusion_matrix"]),
        mistakes_section(report["mistakes"]),
        _training_curve(report),
        _class_relations(report),
        _data(report),
        _settings(report),
        _environment(report),
        f"## Command\n\n```sh\n{report['command']}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _summary(report: Report) -> str:
    model, data = report["model"], report["dataset"]
    return (
        f"# {escaped(model['name'])} on {escaped(data['name'])}, trained with {report['loss']['name']}\n\n"
        f"Test error {format_number(report['test_metrics']['error_rate'])}% on {data['num_test_rows']:,} rows. "
        f"{model['num_parameters']:,} parameters, {len(data['class_names'])} classes, "
        f"{data['num_train_rows']:,} training and {data['num_validation_rows']:,} validation rows, "
        f"seed {report['seed']}; {format_number(report['wall_time_seconds']['total'], 1)} seconds on "
        f"{report['device']}." + _long_texts(report)
    )


def _long_texts(report: Report) -> str:
    data, long = report["dataset"], report["long_texts"]
    counts = {
        "training": (long["num_train"], data["num_train_rows"]),
        "validation": (long["num_validation"], data["num_validation_rows"]),
        "test": (long["num_test"], data["num_test_rows"]),
    }
    note = long_texts_note(counts, long["max_length"], long["window_stride"])
    return note and f"\n\n{note}."


def metrics_table(metrics: Mapping[str, Number]) -> str:
    """The result of `classification_metrics` as a Markdown table, with units and meanings."""
    rows = [[name, format_number(value, 4), *METRICS.get(name, ("", ""))] for name, value in metrics.items()]
    return markdown_table(["metric", "value", "unit or range", "meaning"], rows)


def _test_metrics(report: Report) -> str:
    scaling = report["temperature_scaling"]
    nll, ece = (format_number(scaling["test_metrics"][name], 4) for name in ("nll", "ece"))
    weighted = report["loss"]["settings"].get("class_weights") or report["class_sampling"]
    scaled = (
        f"With temperature scaling at {format_number(scaling['temperature'])}, the temperature with the lowest "
        f"NLL on the validation rows: NLL {nll}, ECE {ece}."
    )
    if scaling["temperature"] is None:
        scaled = "The model was trained on the validation rows too, so no rows are left for temperature scaling."
    if weighted:
        scaled += " Training weighs or samples the rows by class; in the metrics each row counts once."
    return "## Test metrics\n\n" + metrics_table(report["test_metrics"]) + f"\n\n{scaled}"


def _training_curve(report: Report) -> str:
    if not report["epochs"]:
        return f"## Training curve\n\nNo evaluations: the model is that of the last epoch, {report['best_epoch']:g}."
    metric = report["hyper_parameters"].get("metric_for_best_model", "loss").removeprefix("eval_")
    further = [] if metric in ("loss", "error_rate") else [metric]
    headings = ["epoch", "training loss, nats", "validation loss, nats", "validation error, %"]
    headings += [f"validation {name}" for name in further] + [""]
    rows = [
        [
            f"{epoch['epoch']:g}",
            format_number(epoch["training_loss"], 4),
            format_number(epoch["validation_loss"], 4),
            format_number(epoch["validation_error_rate"]),
            *(format_number(epoch["metric_for_best_model"], 4) for _ in further),
            "kept" if epoch["epoch"] == report["best_epoch"] else "",
        ]
        for epoch in report["epochs"]
    ]
    text = f"The training loss is {report['loss']['name']}, the validation loss is cross-entropy."
    stopping = report["early_stopping"]
    if stopping and stopping["stopped"]:
        text += f" Training stopped early, after {stopping['patience']} evaluations in a row without a better {metric}."
    return f"## Training curve\n\n{text}\n\n" + markdown_table(headings, rows)


def _class_relations(report: Report) -> str:
    heading = "## What the loss learned\n\n"
    residual_labels, names = report["residual_labels"], [escaped(name) for name in report["dataset"]["class_names"]]
    if residual_labels is None:
        return heading + "No residual labels."
    rows = []
    for k, row in enumerate(residual_labels):
        others = sorted((j for j in range(len(names)) if j != k), key=lambda j: row[j], reverse=True)
        rows.append([names[k], ", ".join(f"{names[j]} {100 * row[j]:.1f}%" for j in others[:NUM_RELATED])])
    text = (
        "The classes most related to each class by its learned residual label, a distribution over the other classes. "
        f"The uniform distribution would give each of them {100 / (len(names) - 1):.1f}%."
    )
    return f"{heading}{text}\n\n" + markdown_table(["class", "most related"], rows)


def _data(report: Report) -> str:
    data = report["dataset"]
    found = [
        (count, f"rows of {split} had no text or no known label, and were left out")
        for split, count in data["left_out_rows"].items()
    ]
    found += [(data["duplicates"][name], what) for name, what in COUNTS.items()]
    unlabelled = f"rows of test have no labels: `{UNLABELLED_FILE}` has predictions for them"
    found.append((data["num_unlabelled_test_rows"], unlabelled))
    rows = [[f"{count:,}", what] for count, what in found if count]
    text = "Texts count as equal if they differ only in case, ASCII punctuation and white space."
    table = markdown_table(["number", "what"], rows) if rows else "No row was left out, and no text occurs twice."
    return f"## Data\n\n{text}\n\n{table}"


def _settings(report: Report) -> str:
    settings = {f"loss: {name}": value for name, value in report["loss"]["settings"].items()} | report[
        "hyper_parameters"
    ]
    if report["class_sampling"]:
        settings["class_sampling"] = report["class_sampling"]
    if report["early_stopping"]:
        settings["early_stopping_patience"] = report["early_stopping"]["patience"]
    rows = [[name, json.dumps(value, ensure_ascii=False)] for name, value in settings.items()]
    text = "Training arguments that are not listed have the Trainer's default values."
    return f"## Settings\n\n{text}\n\n" + markdown_table(["setting", "value"], [["seed", str(report["seed"])], *rows])


def _environment(report: Report) -> str:
    seconds, memory, machine = report["wall_time_seconds"], report["peak_memory_mb"], report["environment"]
    rows = [
        ["time in total, s", format_number(seconds["total"], 1)],
        ["time in training, s", format_number(seconds["training"], 1)],
        ["time in evaluation, s", format_number(seconds["evaluation"], 1)],
        ["peak memory, MB", format_number(memory["process"], 0)],
        ["peak memory of the largest child process, MB", format_number(memory["largest_child"], 0)],
        ["device", report["device"]],
        ["accelerator present", machine["accelerator"] or "none"],
        ["platform", machine["platform"]],
        ["cores", str(machine["num_cores"])],
        ["torch threads", str(machine["num_threads"])],
        *([name, version] for name, version in machine["versions"].items()),
    ]
    return "## Environment\n\n" + markdown_table(["what", "value"], rows)
