import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest

from kr_text.report import colours
from kr_text.report.figures import Curve, Floats, Panel, curves, heat_maps, reliability_diagrams

SVG = "{http://www.w3.org/2000/svg}"
LINES = [Curve(name, [1, 2, 3], [3, 2, k], [2, 1, k - 1], [4, 3, k + 1]) for k, name in enumerate(("CE", "KR-LS"))]
PANELS = [Panel("fasttext", "epoch", "error, %", LINES), Panel("textrnn", "epoch", "loss, nats", LINES)]
POINTS = Curve("KR", [0, 1], [8.0, 9.0], [7.5, 8.5], [8.5, 9.5], "points")
LEVEL = Curve("CE", [0], [8.5], [8.25], [8.75], "level")
MATRIX = np.array([[np.nan, 0.25, 0.75], [0.5, np.nan, 0.5], [0.125, 0.875, np.nan]])
DIAGRAM = ("fasttext", [("CE", [(0.5, 0.6), (0.9, 0.7)]), ("KR-LS", [(0.4, 0.6), (0.8, 0.9)])])


def draw_curves() -> str:
    return curves(PANELS, "lines")


def draw_points() -> str:
    return curves([Panel("", "gamma", "error, %", [LEVEL, POINTS], ["0", "0.9"])], "points")


def draw_diagram() -> str:
    return reliability_diagrams([DIAGRAM], "diagram")


def draw_matrices() -> str:
    rows: list[tuple[str, list[Floats | None]]] = [("soft label", [MATRIX, MATRIX]), ("learned", [None, MATRIX])]
    return heat_maps(rows, ["epoch 1", "epoch 2"], ["World", "Sports", "$ci & Tech$"], "matrices")


DRAWINGS: list[Callable[[], str]] = [draw_curves, draw_points, draw_diagram, draw_matrices]


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()).strip() for element in ET.fromstring(svg).iter(f"{SVG}text")]


def style(svg: str) -> str:
    return "".join(element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}style"))


@pytest.mark.parametrize("draw", DRAWINGS)
def test_equal_numbers_give_equal_svg_whatever_the_users_settings(draw: Callable[[], str]) -> None:
    first = draw()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        assert draw() == first
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("draw", DRAWINGS)
def test_ids_and_classes_of_a_figure_start_with_its_name(draw: Callable[[], str]) -> None:
    svg = draw()
    root = ET.fromstring(svg)
    scope = root.attrib["class"]
    assert scope.startswith("figure-")
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert ids
    assert all(each.startswith(f"{scope}-") for each in ids)
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) == set(ids)
    selectors = re.findall(r"([^{}]+)\{", style(svg))
    assert selectors
    assert all(selector.startswith(f".{scope}") for selector in selectors)


def test_titles_axes_and_key_are_text() -> None:
    found = texts(draw_curves())
    assert {"fasttext", "textrnn", "error, %", "loss, nats"} <= set(found)
    assert found.count("CE") == found.count("KR-LS") == 1  # one key for both panels


def test_lines_differ_in_dashes() -> None:
    rules = [rule for rule in style(curves(PANELS[:1], "lines")).split("}") if "stroke-width: 1.3" in rule]
    dashed = {rule.partition("stroke: ")[2][:7]: "dasharray" in rule for rule in rules}
    assert dashed == {colours.CURVES[0]: False, colours.CURVES[1]: True}


def test_ticks_are_the_given_names() -> None:
    found = texts(draw_points())
    assert {"0", "0.9", "gamma", "KR", "CE"} <= set(found)
    assert "1" not in found


def test_panels_can_share_the_y_axis() -> None:
    low, high = (Panel("", "x", "y", [Curve("a", [0, 1], [y, y], [y, y], [y, y])]) for y in (5.0, 95.0))
    assert "90" not in texts(curves([low], "low"))
    assert texts(curves([low, high], "both", share_y=True)).count("80") == 1


def test_heat_maps_are_in_percent_and_missing_numbers_are_empty() -> None:
    found = texts(draw_matrices())
    assert found.count("88") == 3  # 0.875 in three matrices
    assert found.count("12") == 3
    assert "nan" not in found
    assert {"World (1)", "Sports (2)", "epoch 1", "epoch 2"} <= set(found)


def test_a_class_name_with_dollar_signs_is_not_parsed_as_math() -> None:
    assert "$ci & Tech$ (3)" in texts(draw_matrices())


def test_a_reliability_diagram_has_a_diagonal() -> None:
    found = texts(draw_diagram())
    assert {"confidence", "accuracy", "CE", "KR-LS"} <= set(found)
    assert f"stroke: {colours.DIAGONAL}" in draw_diagram()


def test_a_title_wider_than_its_panel_is_wrapped() -> None:
    title = "transformer (learning_rate=0.0005, num_train_epochs=4), 24,000 rows"
    lines = ["transformer (learning_rate=0.0005,", "num_train_epochs=4), 24,000 rows"]
    assert set(lines) <= set(texts(reliability_diagrams([(title, DIAGRAM[1])], "diagram")))
    assert set(lines) <= set(texts(curves([Panel(title, "epoch", "error, %", LINES)], "lines")))
