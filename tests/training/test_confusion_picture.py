import importlib.util
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.image import imread

from kr_text.training.confusion_picture import draw_confusion_matrix
from kr_text.training.report import Report


def report_of(names: list[str], seed: int = 0) -> Report:
    generator = np.random.default_rng(seed)
    counts = generator.poisson(0.1, (len(names), len(names))) + np.diag(generator.poisson(60, len(names)))
    dataset = {"class_names": names, "num_test_rows": int(counts.sum())}
    return cast(Report, {"dataset": dataset, "confusion_matrix": counts.tolist()})


def drawn(folder: Path, report: Report) -> Any:
    """The picture, (height, width, 4)."""
    draw_confusion_matrix(report, folder)
    return imread(folder / "confusion_matrix.png")


@pytest.mark.parametrize(("num_classes", "pixels"), [(2, 42), (14, 42), (64, 16), (150, 16)])
def test_the_cells_of_every_class_have_room(tmp_path: Path, num_classes: int, pixels: int) -> None:
    height, width, _ = drawn(tmp_path, report_of([f"class {k}" for k in range(num_classes)])).shape
    assert num_classes * pixels < height < num_classes * pixels + 160
    assert width >= 450


def test_class_names_stay_inside_the_picture(tmp_path: Path) -> None:
    for name in ("x" * 28, "W" * 12, "经济新闻的分类", "short"):
        picture = drawn(tmp_path, report_of([name, "other", "third"]))
        edges = [picture[-1], picture[:, 0], picture[:, -1]]
        assert all((edge == 1).all() for edge in edges), name  # nothing but the white background


def test_of_more_than_150_classes_those_with_the_most_mistakes_are_drawn(tmp_path: Path) -> None:
    names = [f"c{k:03}" for k in range(400)]
    report = report_of(names)
    counts = np.diag([5] * 400)
    worst = list(range(100, 250))
    counts[worst, np.roll(worst, 1)] = 2
    report["confusion_matrix"] = counts.tolist()
    picture = drawn(tmp_path, report)
    only_worst = report_of(names[100:250])
    only_worst["confusion_matrix"] = counts[np.ix_(worst, worst)].tolist()
    other = drawn(tmp_path, only_worst)
    assert picture.shape == other.shape
    assert (picture[40:] == other[40:]).all()  # the titles differ


def test_any_class_name_can_be_drawn_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(tmp_path, report_of(["$x_1", "$\\frac{$", "a\nb", "经济", "हिन्दी", "<b>", "\\frac{", "x" * 500, ""]))


def test_a_class_without_rows_has_an_empty_row(tmp_path: Path) -> None:
    report = report_of(["a", "b"])
    report["confusion_matrix"] = [[0, 0], [3, 4]]
    drawn(tmp_path, report)


def test_equal_reports_give_equal_pictures(tmp_path: Path) -> None:
    names = [f"c{k}" for k in range(5)]
    assert (drawn(tmp_path, report_of(names)) == drawn(tmp_path, report_of(names))).all()
    assert (drawn(tmp_path, report_of(names)) != drawn(tmp_path, report_of(names, seed=1))).any()


def test_without_matplotlib_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    draw_confusion_matrix(report_of(["a", "b"]), tmp_path)
    assert not list(tmp_path.iterdir())
