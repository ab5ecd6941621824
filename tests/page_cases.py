"""Invented results for the tests of the report page, small enough to check the page's numbers by hand."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np

from kr_text.evaluation.label_matrices import LabelMatrices
from kr_text.evaluation.metrics import confusion_matrix
from kr_text.experiments.predictions import compact
from kr_text.experiments.results import add_result
from kr_text.experiments.run import Line, Run
from kr_text.training.report import Report

CLASSES = ["World", "Sports", "<i>Business</i>", "Sci|Tech"]
NUM_ROWS = 200
LABELS = np.arange(NUM_ROWS) % 4
ENVIRONMENT = {
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "platform": "Linux x86_64",
    "num_cores": 2,
    "num_threads": 1,
    "accelerator": None,
}
LEARNED = [[0.0, 0.5, 0.3, 0.2], [0.5, 0.0, 0.3, 0.2], [0.2, 0.3, 0.0, 0.5], [0.2, 0.3, 0.5, 0.0]]
FASTTEXT = ["ag_news", "fasttext", "5,000"]  # data set, model and training rows in a table
GRIDS = {  # blocks of runs by section; "extra" is a grid without a section
    "table3": ["{dataset: ag_news, model: [fasttext, textrnn], loss: [ce, ls, kr, kr-ls], seed: 1-3}"],
    "chosen": [
        "{dataset: [ag_news, yelp_review_full], model: fasttext, loss: kr-ls, seed: 1-2, "
        "loss_overrides: 'alpha=0.3,until=1'}"
    ],
    "readings": ["{dataset: ag_news, model: fasttext, loss: kr, seed: 1-2, loss_overrides: divergence=as_printed}"],
    "label_matrices": ["{dataset: ag_news, model: fasttext, loss: [ce, kr-ls], seed: 1-2, label_matrices: true}"],
    "divergence": ["{dataset: ag_news, model: fasttext, loss: [ce, kr-ls], seed: 1-2, label_matrices: true}"],
    "schedules": [
        "{dataset: ag_news, model: charcnn, loss: kr, seed: 1-2, "
        "loss_overrides: [gamma=0, gamma=0.9, gamma=0.99, until=1, alpha=0.1]}",
        "{dataset: ag_news, model: charcnn, loss: ce, seed: 1-2}",
    ],
    "table4": ["{dataset: ag_news, model: fasttext, loss: [ce, kr-ls, dml, kd], seed: 1-2, teacher: [null, hidden=2]}"],
    "softening": [
        "{dataset: ag_news, model: fasttext, loss: [ce, ls, kr, kr-ls, ols, cp, lcm], seed: 1-2}",
        "{dataset: yelp_review_full, model: fasttext, loss: [ce, ols], seed: 1-2}",
    ],
    "noise": [
        "{dataset: ag_news_noise0, model: fasttext, loss: [ce, kr], seed: 1-2, training: num_train_epochs=10}",
        "{dataset: ag_news_noise20, model: fasttext, loss: [ce, kr], seed: 1-2, training: num_train_epochs=8}",
    ],
    "cost": [
        "{dataset: ag_news, model: fasttext, loss: [ce, kr-ls], seed: 7-9, max_train_rows: 600, "
        "training: num_train_epochs=1}",
        "{dataset: ag_news, model: fasttext, loss: kd, seed: 7-9, max_train_rows: 600, "
        "training: num_train_epochs=1, teacher: hidden=2}",
    ],
    "extra": ["{dataset: ag_news, model: transformer, loss: [ce, kr], seed: 1}"],
}
ABOUT = "What <b>matters</b> & *why*, in `brief`."
Tables = dict[str, list[list[list[str]]]]  # tables of each section, as rows of cells, headings first


def add(folder: Path, run: Run, num_wrong: int, **changes: Any) -> None:
    """Adds a result with the first `num_wrong` of 200 rows misclassified; `changes` are fields of its line."""
    predicted = (LABELS + (np.arange(NUM_ROWS) < num_wrong)) % 4
    probabilities = np.full((NUM_ROWS, 4), 0.1)
    probabilities[np.arange(NUM_ROWS), predicted] = 0.7
    report = {**made_up_report(run, num_wrong), **changes.pop("report", {})}
    report["confusion_matrix"] = confusion_matrix(probabilities, LABELS, 4).tolist()
    line: dict[str, Any] = {"key": run.key, "run": run.given(), "commit": "abc123", "report": report}
    line |= {"wrong_labels": None, "teacher": None, "predictions": compact(probabilities, LABELS), **changes}
    add_result(folder, cast(Line, line))


def made_up_report(run: Run, num_wrong: int) -> Report:
    """A report with `num_wrong` misclassified test rows, one second of training and 500 MB."""
    error = 100 * num_wrong / NUM_ROWS
    metrics = {"error_rate": error, "macro_f1": 0.5, "nll": 0.6, "brier_score": 0.4, "ece": 0.2, "aurc": 0.1}
    report: dict[str, Any] = {
        "command": "kr-text train",
        "model": {"name": run.model, "num_parameters": 1000},
        "dataset": {
            "name": run.dataset,
            "class_names": CLASSES,
            "num_train_rows": run.max_train_rows or 5000,
            "num_validation_rows": 100,
            "num_test_rows": NUM_ROWS,
            "num_unlabelled_test_rows": 0,
            "left_out_rows": {},
            "duplicates": {},
        },
        "loss": {"name": run.loss, "settings": {}},
        "seed": run.seed,
        "device": "cpu",
        "hyper_parameters": {},
        "best_epoch": 2.0,
        "epochs": [_epoch(1.0, 40.0), _epoch(2.0, error)],
        "validation_metrics": metrics,
        "test_metrics": metrics,
        "temperature_scaling": {"temperature": 1.25, "test_metrics": metrics | {"nll": 0.5, "ece": 0.05}},
        "residual_labels": LEARNED if run.loss.startswith("kr") else None,
        "label_matrices": made_up_matrices(run.loss) if run.label_matrices else None,
        "wall_time_seconds": {"total": 3.0, "training": 1.0, "evaluation": 0.5},
        "peak_memory_mb": {"process": 500.0, "largest_child": 0.0},
        "environment": ENVIRONMENT,
    }
    return cast(Report, report)


def _epoch(epoch: float, error: float) -> dict[str, Any]:
    losses = {"training_loss": 0.5, "loss_terms": {}, "validation_loss": 0.8}
    return {"epoch": epoch, **losses, "validation_error_rate": error}


def made_up_matrices(loss: str) -> list[LabelMatrices]:
    """Matrices after two epochs; the order of the first row is reversed in between, the other rows stay."""
    reversed_first = [[0.0, 0.2, 0.3, 0.5], *LEARNED[1:]]
    soft = (np.eye(4) * 0.6 + 0.1).round(1).tolist()
    learned = (reversed_first, LEARNED) if loss.startswith("kr") else (None, None)
    divergence = 0.01 if loss.startswith("kr") else 0.03
    return [
        {"epoch": 1.0, "soft": soft, "residual": reversed_first, "learned": learned[0], "js_divergence": 0.05},
        {"epoch": 2.0, "soft": soft, "residual": LEARNED, "learned": learned[1], "js_divergence": divergence},
    ]


def write_grid(folder: Path, name: str, *blocks: str, section: str | None = None) -> Path:
    """Writes NAME.yaml with these blocks of runs; its title is "Section NAME"."""
    path = folder / f"{name}.yaml"
    key = [] if section is None else [f"section: {section}"]
    lines = [f'title: "Section {name}"', f'about: "{ABOUT}"', *key, "runs:", *(f"  - {block}" for block in blocks)]
    path.write_text("\n".join(lines))
    return path


def run(loss: str, seed: int, model: str = "fasttext", dataset: str = "ag_news", **more: Any) -> Run:
    return Run(dataset, model, loss, seed, **more)


def noisy_run(loss: str, seed: int, rate: int) -> Run:
    return run(loss, seed, dataset=f"ag_news_noise{rate}", training=f"num_train_epochs={10 - rate // 10}")


def make_results(folder: Path) -> None:
    """Adds results of most runs of `GRIDS`. CE misclassifies 60, 64 and 68 rows of 200, KR-LS 20, 24 and 28."""
    for seed in (1, 2, 3):
        add(folder, run("ce", seed), 56 + 4 * seed)
        add(folder, run("kr-ls", seed), 16 + 4 * seed)
    for seed in (1, 2):
        add(folder, run("kr-ls", seed, loss_overrides="alpha=0.3,until=1"), 56 + 4 * seed)
        add(folder, run("kr", seed), 59)
        add(folder, run("kr", seed, loss_overrides="divergence=as_printed"), 119)
        add(folder, run("ce", seed, label_matrices=True), 60)
        add(folder, run("kr-ls", seed, label_matrices=True), 20)
        for setting, num_wrong in (("gamma=0", 60), ("gamma=0.9", 40), ("until=1", 50), ("alpha=0.1", 70)):
            add(folder, run("kr", seed, "charcnn", loss_overrides=setting), num_wrong)
        add(folder, run("ce", seed, "charcnn"), 60)
        for rate in (0, 20):
            found = {"num_rows": 5000, "num_wrong": 50 * rate, "precision": 0.5 + seed / 10 if rate else None}
            for loss in ("ce", "kr"):
                add(folder, noisy_run(loss, seed, rate), 60 + rate, wrong_labels=found)
    add(folder, run("kr-ls", 1, "textrnn"), 30)
    teacher = made_up_report(run("ce", 1), 50) | {"model": {"name": "fasttext", "num_parameters": 4000}}
    for seed in (1, 2):
        add(folder, run("kd", seed, teacher="hidden=2"), 40, teacher=teacher)
        add(folder, run("dml", seed), 40)
        for loss, num_wrong in (("ols", 61), ("cp", 62), ("lcm", 63), ("ls", 64)):
            add(folder, run(loss, seed), num_wrong)
        for loss, num_wrong, settings in (("ols", 8, None), ("ce", 20, None), ("kr-ls", 15, "alpha=0.3,until=1")):
            add(folder, run(loss, seed, dataset="yelp_review_full", loss_overrides=settings), num_wrong)
    teacher["wall_time_seconds"] = {"total": 20.0, "training": 12.0, "evaluation": 1.0}
    for loss, seconds, memory in (
        ("ce", (10.0, 10.0, 10.0), 500.0),
        ("kr-ls", (10.5, 11.0, 15.0), 502.5),
        ("kd", (18.0, 18.0, 18.0), 508.0),
    ):
        for seed, time in zip((7, 8, 9), seconds, strict=True):
            measured = {
                "wall_time_seconds": {
                    "total": time + (6.0 if loss == "kd" else 2.0),
                    "training": time,
                    "evaluation": 1.0,
                },
                "peak_memory_mb": {"process": memory, "largest_child": 0.0},
            }
            overrides, trained = ("hidden=2", {"teacher": teacher}) if loss == "kd" else (None, {})
            short = run(loss, seed, max_train_rows=600, training="num_train_epochs=1", teacher=overrides)
            add(folder, short, 60, report=measured, **trained)
    add(folder, run("kr", 1, "transformer"), 10)
    add(folder, run("ce", 1, "transformer"), 11)


class PageParser(HTMLParser):
    """Reads the tables of each section and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.tables: Tables = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "section":
            self.tables[given["id"] or ""] = []
        elif tag == "table":
            list(self.tables.values())[-1].append([])
        elif tag == "tr":
            list(self.tables.values())[-1][-1].append([])
        elif tag in ("th", "td"):
            list(self.tables.values())[-1][-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("th", "td"):
            list(self.tables.values())[-1][-1][-1][-1] += data.replace("\u00a0", " ")


def markdown_tables(text: str) -> Tables:
    """Tables of each section of a Markdown page, unescaped."""
    tables: Tables = {}
    for section in text.split("\n## ")[1:]:
        blocks = [block for block in section.split("\n\n") if block.startswith("|")]
        rows = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
        name = "this-page" if section.startswith("This page") else section.partition("\n")[0]
        tables[name] = [
            [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in row] for k, row in enumerate(table) if k != 1]
            for table in rows
        ]
    return tables
