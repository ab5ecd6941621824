import xml.etree.ElementTree as ET

import numpy as np
from readme_picture import PICTURE, ROOT, picture, stored_result

from kr_text.report.matrix_agreement import without_diagonal


def texts(svg: str) -> list[str]:
    found = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()).strip() for element in found]


def test_the_picture_has_the_numbers_of_the_stored_run() -> None:
    """If it fails, run scripts/readme_picture.py."""
    report = stored_result(ROOT / "results").report
    labels = np.array(report["residual_labels"])
    shown = texts(PICTURE.read_text(encoding="utf-8"))
    assert [int(text) for text in shown if text.isdigit()] == [round(100 * share) for share in labels[labels > 0]]
    assert all(shown.count(name) == 2 for name in report["dataset"]["class_names"])
    assert PICTURE.stat().st_size < 60_000


def test_the_diagonal_of_the_picture_is_empty() -> None:
    svg = picture(without_diagonal([[0, 1.0, 0.0], [0.25, 0, 0.75], [0.5, 0.5, 0]]), ["a", "b", "c"])
    assert [text for text in texts(svg) if text.isdigit()] == ["100", "0", "25", "75", "50", "50"]
