import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from kr_text.experiments.grids import read_grid
from kr_text.report.page import write_page
from kr_text.report.section_calibration import reliability_bins, reliability_figure
from kr_text.report.study import Study
from page_cases import FASTTEXT, GRIDS, PageParser, Tables, add, made_up_report, run, write_grid


def texts(folder: Path, figure: str) -> set[str]:
    """Texts in a figure."""
    found = ET.parse(folder / "figures" / f"{figure}.svg").iter("{http://www.w3.org/2000/svg}text")
    return {"".join(element.itertext()).strip() for element in found}


def test_consistency_is_the_rank_correlation_between_epochs(tables: Tables) -> None:
    consistency, agreement = tables["label_matrices"]
    assert consistency[0][5:] == ["seeds", "epoch 1 to 2"]
    rows = {tuple(row[3:5]): row[6] for row in consistency[1:]}
    # the order of one row in four is reversed: (-1 + 1 + 1 + 1) / 4; two of 12 entries move by 0.3
    assert rows["KR-LS", "learned residual label"] == "0.50 (0.0500)"
    assert ("CE", "learned residual label") not in rows
    # CE takes each class for the next one, which has rank 1, 2, 1 and 3 of three in the learned rows:
    # sqrt(3) / 2 * (1 + 0 + 1 - 1) / 4
    assert agreement[1] == [*FASTTEXT, "KR-LS", "0.22", "0.22 to 0.22", "2"]


def test_divergence_and_accuracy_are_from_the_last_epoch(folder: Path, tables: Tables) -> None:
    ce, ours = tables["divergence"][0][1:]
    assert ce[3:] == ["CE", "0.0300 ± 0.0000 (2)", "70.00 ± 0.00 (2)"]
    assert ours[3:] == ["KR-LS", "0.0100 ± 0.0000 (2)", "90.00 ± 0.00 (2)"]
    counts = "is smaller than with CE in 1 of 1 settings. It is smaller than after the first epoch in 1 of 1."
    assert counts in (folder / "report.md").read_text()


def test_each_schedule_is_compared_with_cross_entropy(tables: Tables) -> None:
    names = ["KR gamma=0", "KR gamma=0.9", "KR until=1", "KR alpha=0.1"]
    assert [row[3] for row in tables["schedules"][1][1:]] == names
    assert [row[5] for row in tables["schedules"][1][1:]] == ["+0.00", "-10.00", "-5.00", "+5.00"]


def test_schedules_are_drawn_by_gamma_and_by_alpha(folder: Path) -> None:
    gammas = {text for text in texts(folder, "schedules-alpha") if "gamma" in text}
    assert gammas == {"gamma 0", "gamma 0.9", "gamma 1*"}
    assert {"gamma", "1*", "alpha in the first epoch", "0.1", "CE", "KR"} <= texts(folder, "schedules-1")


def test_a_schedule_with_alpha_written_as_1_is_drawn(tmp_path: Path) -> None:
    overrides = ["alpha=0.3", "alpha=1,gamma=0.9"]
    block = f"dataset: ag_news, model: charcnn, loss: kr, seed: 1, loss_overrides: {overrides}"
    write_grid(tmp_path, "schedules", f"{{{block}}}", section="schedules")
    for each in overrides:
        add(tmp_path, run("kr", 1, "charcnn", loss_overrides=each), 10)
    write_page(tmp_path)
    assert {text for text in texts(tmp_path, "schedules-alpha") if "gamma" in text} == {"gamma 0.9"}


def test_the_kept_epoch_of_each_schedule_is_in_a_table(tables: Tables) -> None:
    kept = tables["schedules"][-1]
    assert [row[3:] for row in kept[1:3]] == [["KR gamma=0", "2 (2 to 2)"], ["KR gamma=0.9", "2 (2 to 2)"]]


def test_gamma_0_is_not_said_to_give_the_same_first_epoch(folder: Path) -> None:
    assert "all gammas above 0 give the same model" in (folder / "report.md").read_text()


def test_trained_parameters_include_teacher_peer_and_residual_matrix(tables: Tables) -> None:
    found = {row[3]: row[6:8] for row in tables["table4"][0][1:]}
    assert found == {
        "CE": ["1,000", "1,000"],
        "KR-LS": ["1,000", "1,016"],
        "DML": ["1,000", "2,000"],
        "KD teacher with hidden=2": ["1,000", "5,000"],
    }
    assert {row[3] for row in tables["table4"][1][1:]} == found.keys() - {"CE"}  # all are compared with CE


def test_the_error_of_the_teacher_is_in_the_table(tables: Tables) -> None:
    assert tables["table4"][0][0][4:6] == ["error, %", "teacher's error, %"]
    errors = {row[3]: row[5] for row in tables["table4"][0][1:]}
    assert errors.pop("KD teacher with hidden=2") == "25.00 ± 0.00 (2)"  # 50 of 200 rows
    assert set(errors.values()) == {"–"}  # noqa: RUF001 a dash


def test_time_and_memory_of_table_4_are_from_the_section_cost(folder: Path, tables: Tables) -> None:
    headings, *rows = tables["table4"][0]
    assert headings[8:] == ["training time over CE's", "extra peak memory, MB"]
    assert {row[3]: row[8:] for row in rows} == {
        "CE": ["1", "0"],
        "KR-LS": ["1.10 (1.05 to 1.50)", "2 (2 to 2)"],
        "DML": ["–", "–"],  # noqa: RUF001 a dash
        "KD teacher with hidden=2": ["3.40 (3.40 to 3.40)", "8 (8 to 8)"],
    }
    assert 'in those under "Section cost"' in (folder / "report.md").read_text()


def test_cost_is_the_median_over_pairs_with_the_same_seed(tables: Tables) -> None:
    _, kr_ls, kd = tables["cost"][0]
    assert kr_ls[:5] == ["ag_news", "fasttext (num_train_epochs=1)", "600", "KR-LS", "3"]
    ce = ["10.0 (10.0 to 10.0)", "500 (500 to 500)"]
    assert kr_ls[5:] == ["16 (1.6%)", *ce, "1.100 (1.050 to 1.500)", "2.5 (2.5 to 2.5)"]
    assert kd[3:] == [
        "KD teacher with hidden=2",
        "3",
        "4,000 (400%)",
        *ce,
        "3.400 (3.400 to 3.400)",
        "8.0 (8.0 to 8.0)",
    ]


def test_precision_in_finding_wrong_labels_is_given_with_chance(tables: Tables) -> None:
    headings, row = tables["noise"][2]
    assert headings[3:] == ["chance", "CE", "KR"]
    precision = "0.650 ± 0.071 (2)"
    assert row == ["ag_news_noise20", "fasttext (num_train_epochs=8)", "5,000", "0.200", precision, precision]


def test_noise_is_drawn_with_the_difference_from_cross_entropy(folder: Path) -> None:
    axes = {"wrong training labels, %", "test error, %", "test error minus CE's, points"}
    assert axes | {"CE", "KR", "20"} <= texts(folder, "noise-ag_news-fasttext")


def test_calibration_is_shown_before_and_after_temperature_scaling(folder: Path, tables: Tables) -> None:
    (row,) = [row for row in tables["table3-calibration"][0] if row[:4] == [*FASTTEXT, "KR-LS"]]
    assert row[4:] == ["3", "1.25", "0.600", "0.500", "0.400", "0.400", "0.200", "0.050", "0.100"]
    text = (folder / "report.md").read_text()
    assert "Number of settings, of 1, where KR-LS has a lower mean than CE. NLL: 0 before" in text
    assert "mean ECE over these settings from 0.200 to 0.050 with KR-LS, from 0.200 to 0.050 with CE." in text


def test_reliability_bins_are_added_over_the_seeds(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path, "table3", *GRIDS["table3"]))
    for seed, num_wrong in ((1, 60), (2, 64), (3, 68)):
        add(tmp_path, run("ce", seed), num_wrong)
    (cell,) = Study(tmp_path).cells(grid)
    (found,) = reliability_bins(cell)
    assert found == pytest.approx((0.7, 1 - (60 + 64 + 68) / 600))  # every confidence is 0.7


def test_reliability_bins_with_few_rows_are_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = read_grid(write_grid(tmp_path, "table3", *GRIDS["table3"]))
    for loss in ("ce", "kr-ls"):
        add(tmp_path, run(loss, 1), 10)
    cells = Study(tmp_path).cells(grid)
    assert reliability_figure(cells, "reliability") is not None
    monkeypatch.setattr("kr_text.report.section_calibration.MIN_ROWS", 201)  # of 200
    assert reliability_figure(cells, "reliability") is None


@pytest.mark.parametrize(
    ("section", "block", "settings"),
    [
        ("schedules", "loss: kr, seed: 1", [{"loss": "kr", "loss_overrides": "alpha=0.1"}]),
        ("schedules", "loss: kr, seed: 1", [{"loss": "kr", "loss_overrides": "alpha=0.3,gamma=0.9"}]),
        (
            "label_matrices",
            "loss: [ce, kr-ls], seed: 1-2, label_matrices: true",
            [{"loss": "ce", "label_matrices": True}, {"loss": "kr-ls", "seed": 2, "label_matrices": True}],
        ),
    ],
)
def test_a_section_with_few_results_is_written(
    tmp_path: Path, section: str, block: str, settings: list[dict[str, Any]]
) -> None:
    overrides = settings[0].get("loss_overrides")
    more = f", loss_overrides: '{overrides}'" if overrides else ""
    write_grid(tmp_path, "mine", f"{{dataset: ag_news, model: fasttext, {block}{more}}}", section=section)
    for each in settings:
        add(tmp_path, run(**{"seed": 1, **each}), 10)
    write_page(tmp_path)
    assert f"{len(settings)} of " in (tmp_path / "report.md").read_text()


def test_a_missing_number_is_not_available(tmp_path: Path) -> None:
    write_grid(tmp_path, "table3", *GRIDS["table3"], section="table3")
    scaled = {"temperature": None, "test_metrics": made_up_report(run("ce", 1), 60)["test_metrics"]}
    add(tmp_path, run("ce", 1), 60, report={"temperature_scaling": scaled})
    write_page(tmp_path)
    tables = PageParser((tmp_path / "report.html").read_text()).tables
    assert tables["table3-calibration"][0][1][5] == "n/a"
