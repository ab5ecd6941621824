"""Parts of a run's report about its classes: metrics of each class, the confusion matrix, confident mistakes."""

from collections.abc import Sequence

from kr_text.evaluation.classes import ClassMetrics
from kr_text.formats.markdown import escaped, format_number, markdown_table
from kr_text.training.report import Mistake

MAX_CLASSES, NUM_WORST = 30, 20  # up to 30 classes are all listed, of more the worst 20
MAX_CONFUSION_CLASSES = 20  # a larger table is unreadable
NUM_CONFUSIONS = 20


def class_table(classes: Sequence[ClassMetrics]) -> str:
    """Precision, recall and F1 as a Markdown table: all classes, or of more than 30 the 20 with the lowest F1."""
    shown, text = list(classes), ""
    if len(classes) > MAX_CLASSES:
        measured = [each for each in classes if each["f1"] is not None]
        shown = sorted(measured, key=lambda each: each["f1"] or 0.0)[:NUM_WORST]
        text = f"The {len(shown)} of {len(classes):,} classes with the lowest F1, the worst first.\n\n"
    rows = [
        [
            escaped(each["name"]),
            *(format_number(value, 4) for value in (each["precision"], each["recall"], each["f1"])),
            f"{each['support']:,}",
        ]
        for each in shown
    ]
    return text + markdown_table(["class", "precision", "recall", "F1", "rows"], rows)


def confusion_section(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """The confusion matrix of the test rows; of more than 20 classes the most frequent confusions."""
    if len(names) > MAX_CONFUSION_CLASSES:
        return f"## Confusion matrix\n\n{_frequent_confusions(names, counts)}"
    text = "Test rows by true class (down) and predicted class (across)."
    errors = [_percent(sum(row) - row[k], sum(row)) for k, row in enumerate(counts)]
    shown = [escaped(name) for name in names]
    rows = [[shown[k], *map(str, row), errors[k]] for k, row in enumerate(counts)]
    return f"## Confusion matrix\n\n{text}\n\n" + markdown_table(["true class", *shown, "error, %"], rows)


def _frequent_confusions(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    pairs = [(count, k, j) for k, row in enumerate(counts) for j, count in enumerate(row) if count and j != k]
    pairs = sorted(pairs, key=lambda pair: -pair[0])[:NUM_CONFUSIONS]
    rows = [
        [escaped(names[k]), escaped(names[j]), str(count), _percent(count, sum(counts[k]))] for count, k, j in pairs
    ]
    text = (
        f"The most frequent confusions. The matrix of all {len(names):,} classes is in report.json, and in "
        "confusion_matrix.png if matplotlib is installed."
    )
    headings = ["true class", "predicted as", "test rows", "share of the true class, %"]
    return f"{text}\n\n" + markdown_table(headings, rows)


def mistakes_section(mistakes: Sequence[Mistake]) -> str:
    """The most confident mistakes as a Markdown table."""
    heading = "## Most confident mistakes\n\n"
    if not mistakes:
        return heading + "None."
    rows = [
        [
            format_number(each["probability"], 4),
            escaped(each["prediction"]),
            escaped(each["label"]),
            escaped(each["text"]),
        ]
        for each in mistakes
    ]
    text = "Wrong predictions on the test rows, with the highest probability first. Some of the labels may be wrong."
    return f"{heading}{text}\n\n" + markdown_table(["probability", "prediction", "label", "text"], rows)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else "n/a"
