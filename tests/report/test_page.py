import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kr_text.experiments.grids import read_grid
from kr_text.experiments.results import RUNS_FILE
from kr_text.experiments.run import Run
from kr_text.experiments.significance import holm
from kr_text.report.page import write_page
from kr_text.report.section_calibration import reliability_figure
from kr_text.report.section_errors import against_ce, shared_averages, with_baselines
from kr_text.report.section_label_matrices import mean_difference, mistakes, rank_correlation
from kr_text.report.study import Study
from page_cases import add, made_up_report

GRIDS = {
    "table3": "{dataset: ag_news, model: [fasttext, textrnn], loss: [ce, ls, kr, kr-ls], seed: 1-3}",
    "chosen": "{dataset: [ag_news, yelp_review_full], model: fasttext, loss: kr-ls, seed: 1-2, "
    "loss_overrides: 'alpha=0.3,until=1'}",
    "readings": "{dataset: ag_news, model: fasttext, loss: kr, seed: 1-2, loss_overrides: divergence=as_printed}",
    "label_matrices": "{dataset: ag_news, model: fasttext, loss: [ce, kr-ls], seed: 1-2, label_matrices: true}",
    "divergence": "{dataset: ag_news, model: fasttext, loss: [ce, kr-ls], seed: 1-2, label_matrices: true}",
    "schedules": "{dataset: ag_news, model: charcnn, loss: kr, seed: 1-2, "
    "loss_overrides: [gamma=0, gamma=0.9, gamma=0.99, until=1, alpha=0.1]}\n"
    "  - {dataset: ag_news, model: charcnn, loss: ce, seed: 1-2}",
    "table4": "{dataset: ag_news, model: fasttext, loss: [ce, kr-ls, dml, kd], seed: 1-2, teacher: [null, hidden=2]}",
    "softening": "{dataset: ag_news, model: fasttext, loss: [ce, ls, kr, kr-ls, ols, cp, lcm], seed: 1-2}\n"
    "  - {dataset: yelp_review_full, model: fasttext, loss: [ce, ols], seed: 1-2}",
    "noise": "{dataset: ag_news_noise0, model: fasttext, loss: [ce, kr], seed: 1-2, training: num_train_epochs=10}\n"
    "  - {dataset: ag_news_noise20, model: fasttext, loss: [ce, kr], seed: 1-2, training: num_train_epochs=8}",
    "cost": "{dataset: ag_news, model: fasttext, loss: [ce, kr-ls], seed: 7-9, max_train_rows: 600, "
    "training: num_train_epochs=1}\n"
    "  - {dataset: ag_news, model: fasttext, loss: kd, seed: 7-9, max_train_rows: 600, "
    "training: num_train_epochs=1, teacher: hidden=2}",
    "extra": "{dataset: ag_news, model: transformer, loss: [ce, kr], seed: 1}",
}
ABOUT = "What <b>matters</b> & *why*, in `brief`."
FASTTEXT = ["ag_news", "fasttext", "5,000"]
Tables = dict[str, list[list[list[str]]]]  # the tables of each section, as rows of cells, the headings first


def run(loss: str, seed: int, model: str = "fasttext", dataset: str = "ag_news", **more: Any) -> Run:
    return Run(dataset, model, loss, seed, **more)


def noisy_run(loss: str, seed: int, rate: int) -> Run:
    return run(loss, seed, dataset=f"ag_news_noise{rate}", training=f"num_train_epochs={10 - rate // 10}")


def make_results(folder: Path) -> None:
    """CE has 60, 64 and 68 rows of 200 wrong, KR-LS 20, 24 and 28."""
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
            told, trained = ("hidden=2", {"teacher": teacher}) if loss == "kd" else (None, {})
            short = run(loss, seed, max_train_rows=600, training="num_train_epochs=1", teacher=told)
            add(folder, short, 60, report=measured, **trained)
    add(folder, run("kr", 1, "transformer"), 10)
    add(folder, run("ce", 1, "transformer"), 11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with its page. Tests read it and change nothing."""
    folder = tmp_path_factory.mktemp("page") / "results"
    folder.mkdir()
    for name, block in GRIDS.items():
        text = f'title: "Section {name}"\nabout: "{ABOUT}"\nruns:\n  - {block}\n'
        (folder / f"{name}.yaml").write_text(text)
    make_results(folder)
    write_page(folder)
    return folder


class PageParser(HTMLParser):
    """Reads tables by section, and sees to it that what is opened is closed, in turn."""

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


@pytest.fixture(scope="module")
def html(folder: Path) -> PageParser:
    return PageParser((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tables(html: PageParser) -> Tables:
    return html.tables


def markdown_tables(text: str) -> Tables:
    """The same from Markdown, with what is escaped there as it was."""
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


def rows_of(tables: Tables, section: str, number: int, *start: str) -> list[list[str]]:
    return [row for row in tables[section][number][1:] if row[: len(start)] == list(start)]


def texts(folder: Path, figure: str) -> set[str]:
    """What is written in a figure."""
    found = ET.parse(folder / "figures" / f"{figure}.svg").iter("{http://www.w3.org/2000/svg}text")
    return {"".join(element.itertext()).strip() for element in found}


def test_errors_are_means_and_deviations_over_the_seeds_beside_the_papers(tables: Tables) -> None:
    headings, fasttext, textrnn = tables["table3"][0]
    assert headings[3:] == ["CE", "paper: CE", "LS", "KR", "KR-LS", "paper: KR-LS"]
    assert fasttext[:3] == FASTTEXT
    assert fasttext[3:5] == ["32.00 ± 2.00 (3), 27.03 to 36.97", "11.03"]  # 2 / sqrt(3) * 4.3027, Student's t
    assert fasttext[5:7] == ["32.00 ± 0.00 (2), 32.00 to 32.00", "29.50 ± 0.00 (2), 29.50 to 29.50"]
    assert fasttext[7:] == ["12.00 ± 2.00 (3), 7.03 to 16.97 better", "10.87"]
    assert textrnn[1:] == ["textrnn", "5,000", "–", "11.15", "–", "–", "15.00 (1)", "10.43"]  # noqa: RUF001 a dash


def test_differences_are_paired_by_seed_and_have_a_verdict(tables: Tables) -> None:
    (row,) = rows_of(tables, "table3", 1, *FASTTEXT, "KR-LS")
    assert row[4:6] == ["3", "-20.00"]
    low, high = (float(end) for end in row[6].split(" to "))
    assert -27 < low < -20 < high < -13
    assert 0 < float(row[7]) < 0.01
    assert row[8] == "better"
    assert rows_of(tables, "table3", 1, *FASTTEXT, "KR")[0][8] == "no difference shown"
    assert not rows_of(tables, "table3", 1, "ag_news", "textrnn")  # there is no CE to compare with


def test_p_values_are_corrected_for_the_lines_of_their_table(folder: Path, tables: Tables) -> None:
    study = Study(folder)
    pairs = against_ce(study, with_baselines(study, study.cells(study.grids["table3"])))
    alone = [verdict.p_value for pair in pairs if (verdict := study.verdict(*pair))]
    shown = [row[7] for row in tables["table3"][1][1:]]
    assert shown == ["<0.001" if p < 0.001 else f"{p:.3f}" for p in holm(alone)]
    assert len(alone) == 3
    assert "correction for the 3 lines of the table" in (folder / "report.md").read_text()


def test_nothing_is_left_to_fill_in(folder: Path) -> None:
    assert not re.findall(r"{[A-Za-z_]+}", (folder / "report.md").read_text())


def test_findings_count_the_verdicts(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    counts = "better / worse / no difference shown in so many comparisons."
    assert f"Against CE, {counts} LS: 0/0/1; KR: 0/0/1; KR-LS: 1/0/0." in text
    assert f"Against the same loss at its defaults, {counts} KR divergence=as_printed: 0/1/0." in text
    top = "KR-LS at the paper's settings: of 1 comparison with CE, better in 1, worse in 0, no difference shown in 0."
    assert text.split("\n\n")[1].startswith(top)


def test_several_comparisons_have_a_mean_difference(folder: Path) -> None:
    """On one data set OLS has 61 rows of 200 wrong, CE 60 and 64, KR-LS the same; on the other 8, 20 and 15."""
    sections = (folder / "report.md").read_text().split("\n## ")
    found = {part.partition("\n")[0]: re.findall(r"Mean difference from .*", part) for part in sections}
    for name, loss, difference in (("softening", "OLS", "-3.25 (-9."), ("chosen", "KR-LS", "-1.25 (-2.")):
        (mean,) = found.pop(f"Section {name}")
        assert re.search(rf"over the 2 settings where all .* models\. {loss}: {re.escape(difference)}[^;]*\.$", mean)
    assert not any(found.values())
    top = (
        "KR-LS at settings chosen on validation rows: of 2 comparisons with CE, better in 1, worse in 0, no difference "
    )
    assert f"{top}shown in 1. On average over the 2 where all losses were run -1.25 (-2." in sections[0]


def test_mean_differences_are_of_the_same_comparisons(tmp_path: Path) -> None:
    """CP was not run on the third data set, where OLS is far worse; LCM on one alone."""
    wrong = {"a": {"ce": 20, "ols": 18, "cp": 22, "lcm": 30}, "b": {"ce": 20, "ols": 16, "cp": 24}}
    wrong["c"] = {"ce": 20, "ols": 80}
    block = "  - {{dataset: {}, model: fasttext, loss: [{}], seed: 1-3}}"
    blocks = [block.format(name, ", ".join(of)) for name, of in wrong.items()]
    (tmp_path / "softening.yaml").write_text("\n".join(["title: t", "about: a", "runs:", *blocks]))
    for name, of in wrong.items():
        for loss, num_wrong in of.items():
            for seed in (1, 2, 3):
                add(tmp_path, run(loss, seed, dataset=name), num_wrong)
    study = Study(tmp_path)
    found = shared_averages(study, against_ce(study, study.cells(study.grids["softening"])))
    assert {name: each.num_comparisons for name, each in found.items()} == {"OLS": 2, "CP": 2}
    assert {name: each.difference for name, each in found.items()} == pytest.approx({"OLS": -1.5, "CP": 1.5})


def test_a_single_seed_has_no_verdict(folder: Path, tables: Tables) -> None:
    """KR has one row of 200 less wrong than CE with Transformer, in the one seed there is."""
    (errors,) = tables["extra"]
    assert errors[1][3:] == ["5.50 (1)", "5.00 (1)"]
    assert "in so many comparisons" not in (folder / "report.md").read_text().split("## Section extra")[1]


def test_runs_that_are_missing_are_counted(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    assert "11 of 24 runs are finished." in sections["Section table3"]
    assert "10 of 12 runs are finished." in sections["Section schedules"]
    assert "9 of 9 runs are finished." in sections["Section cost"]
    assert text.split("\n\n")[1].endswith("64 of 87 runs are finished.")  # each once, whatever grids it is in


def test_settings_chosen_for_a_place_stand_in_its_cells(tables: Tables) -> None:
    assert tables["chosen"][0][0][3:] == ["CE", "paper: CE", "KR-LS", "paper: KR-LS"]
    assert tables["chosen"][0][1][5] == "31.00 ± 1.41 (2), 18.29 to 43.71 at alpha=0.3, until=1"
    against_default = tables["chosen"][2]
    assert [row[0:1] + row[4:6] for row in against_default[1:]] == [["ag_news", "2", "+20.00"]]


def test_readings_stand_beside_the_default_and_are_compared_with_it(tables: Tables) -> None:
    errors, with_ce, with_default = tables["readings"]
    assert errors[0][3:] == ["CE", "KR", "KR divergence=as_printed"]
    assert errors[1][3:] == [
        "32.00 ± 2.00 (3), 27.03 to 36.97",
        "29.50 ± 0.00 (2), 29.50 to 29.50",
        "59.50 ± 0.00 (2), 59.50 to 59.50 worse",
    ]
    assert [row[3] for row in with_ce[1:]] == ["KR", "KR divergence=as_printed"]
    assert [row[3:6] + row[8:] for row in with_default[1:]] == [["KR divergence=as_printed", "2", "+30.00", "worse"]]


def test_label_matrices_say_how_alike_their_rows_stay(tables: Tables) -> None:
    consistency, agreement = tables["label_matrices"]
    assert consistency[0][5:] == ["seeds", "epoch 1 to 2"]
    # the first of four rows is turned round: (-1 + 1 + 1 + 1) / 4; two of 12 entries move by 0.3
    assert rows_of(tables, "label_matrices", 0, *FASTTEXT, "KR-LS", "learned residual label")[0][6] == "0.50 (0.0500)"
    assert not rows_of(tables, "label_matrices", 0, *FASTTEXT, "CE", "learned residual label")
    # CE takes each class for the next, which is learned to be the first, second, first and last of three:
    # sqrt(3) / 2 * (1 + 0 + 1 - 1) / 4
    assert agreement[1][3:] == ["KR-LS", "0.22", "0.22 to 0.22", "2"]


def test_divergence_and_accuracy_are_those_after_the_last_epoch(folder: Path, tables: Tables) -> None:
    ce, ours = tables["divergence"][0][1:]
    assert ce[3:] == ["CE", "0.0300 ± 0.0000 (2)", "70.00 ± 0.00 (2)"]
    assert ours[3:] == ["KR-LS", "0.0100 ± 0.0000 (2)", "90.00 ± 0.00 (2)"]
    assert (
        "p_res is nearer to the residual label than with CE in 1 of 1 settings. It is nearer than after the first "
        "epoch in 1 of them." in (folder / "report.md").read_text()
    )


def test_each_schedule_stands_against_cross_entropy(tables: Tables) -> None:
    names = ["KR gamma=0", "KR gamma=0.9", "KR until=1", "KR alpha=0.1"]
    assert [row[3] for row in tables["schedules"][1][1:]] == names
    assert [row[5] for row in tables["schedules"][1][1:]] == ["+0.00", "-10.00", "-5.00", "+5.00"]


def test_schedules_are_drawn_by_gamma_and_by_alpha(folder: Path) -> None:
    assert {"gamma 0", "gamma 0.9", "gamma 1*"} == {text for text in texts(folder, "alpha-by-epoch") if "gamma" in text}
    assert {"gamma", "1*", "alpha in the first epoch", "0.1", "CE", "KR"} <= texts(folder, "schedules-1")


def test_a_teacher_a_peer_and_a_residual_matrix_count_as_cost(tables: Tables) -> None:
    found = {row[3]: row[6:8] for row in tables["table4"][0][1:]}
    assert found == {
        "CE": ["1,000", "1,000"],
        "KR-LS": ["1,000", "1,016"],
        "DML": ["1,000", "2,000"],
        "KD teacher with hidden=2": ["1,000", "5,000"],
    }
    assert {row[3] for row in tables["table4"][1][1:]} == found.keys() - {"CE"}  # all are compared with CE


def test_a_teacher_has_its_own_error_in_the_table(tables: Tables) -> None:
    assert tables["table4"][0][0][4:6] == ["error, %", "teacher's error, %"]
    errors = {row[3]: row[5] for row in tables["table4"][0][1:]}
    assert errors.pop("KD teacher with hidden=2") == "25.00 ± 0.00 (2)"  # 50 of 200 rows
    assert set(errors.values()) == {"–"}  # noqa: RUF001 a dash


def test_time_and_memory_of_table_4_are_from_the_runs_that_had_the_machine_to_themselves(tables: Tables) -> None:
    headings, *rows = tables["table4"][0]
    assert headings[8:] == ["training time over CE's", "extra peak memory, MB"]
    assert {row[3]: row[8:] for row in rows} == {
        "CE": ["1", "0"],
        "KR-LS": ["1.10 (1.05 to 1.50)", "2 (2 to 2)"],
        "DML": ["–", "–"],  # noqa: RUF001 a dash
        "KD teacher with hidden=2": ["3.40 (3.40 to 3.40)", "8 (8 to 8)"],
    }


def test_many_losses_stand_below_each_other(tables: Tables) -> None:
    table = tables["softening"][0]
    assert table[0] == ["loss", "ag_news, fasttext, 5,000 rows", "yelp_review_full, fasttext, 5,000 rows"]
    assert [row[0] for row in table[1:]] == ["CE", "LS", "KR", "KR-LS", "OLS", "CP", "LCM"]
    assert table[5:7] == [
        ["OLS", "30.50 ± 0.00 (2), 30.50 to 30.50", "4.00 ± 0.00 (2), 4.00 to 4.00 better"],
        ["CP", "31.00 ± 0.00 (2), 31.00 to 31.00", "–"],  # noqa: RUF001 a dash
    ]


def test_finding_wrong_labels_stands_beside_chance(tables: Tables) -> None:
    headings, row = tables["noise"][2]
    assert headings[3:] == ["chance", "CE", "KR"]
    assert row == [
        "ag_news_noise20",
        "fasttext (num_train_epochs=8)",
        "5,000",
        "0.200",
        "0.650 ± 0.071 (2)",
        "0.650 ± 0.071 (2)",
    ]


def test_errors_with_noise_are_drawn_with_their_difference_from_cross_entropy(folder: Path) -> None:
    found = texts(folder, "noise-ag_news-fasttext")
    assert {
        "wrong training labels, %",
        "test error, %",
        "test error minus CE's, points",
        "CE",
        "KR",
        "20",
    } <= found


def test_calibration_is_shown_before_and_after_scaling(folder: Path, tables: Tables) -> None:
    row = rows_of(tables, "calibration", 0, *FASTTEXT, "KR-LS")[0]
    assert row[4:] == ["3", "1.25", "0.600", "0.500", "0.400", "0.400", "0.200", "0.050", "0.100"]
    text = (folder / "report.md").read_text()
    assert "Of 1 settings with both, KR-LS has the smaller mean than CE in so many. NLL: 0 before" in text


def test_cost_is_the_median_of_pairs_with_the_same_seed(tables: Tables) -> None:
    _, kr_ls, kd = tables["cost"][0]
    assert kr_ls[:5] == ["ag_news", "fasttext (num_train_epochs=1)", "600", "KR-LS", "3"]
    of_ce = ["10.0 (10.0 to 10.0)", "500 (500 to 500)"]
    assert kr_ls[5:] == ["16 (1.6%)", *of_ce, "1.100 (1.050 to 1.500)", "2.5 (2.5 to 2.5)"]
    assert kd[3:] == [
        "KD teacher with hidden=2",
        "3",
        "4,000 (400%)",
        *of_ce,
        "3.400 (3.400 to 3.400)",
        "8.0 (8.0 to 8.0)",
    ]


def test_schedules_have_the_epochs_that_were_kept(tables: Tables) -> None:
    kept = tables["schedules"][-1]
    assert [row[3:] for row in kept[1:3]] == [["KR gamma=0", "2 (2 to 2)"], ["KR gamma=0.9", "2 (2 to 2)"]]


def test_a_grid_of_another_name_comes_last_with_its_errors(tables: Tables) -> None:
    assert list(tables)[-2:] == ["extra", "this-page"]
    assert tables["extra"][0][1][3:] == ["5.50 (1)", "5.00 (1)"]


def test_sections_come_in_their_order_and_only_where_there_is_a_grid(tables: Tables) -> None:
    names = list(tables)
    assert names[:3] == ["table3", "chosen", "readings"]
    assert names.index("noise") < names.index("calibration") < names.index("cost")


def test_markdown_and_html_have_the_same_tables(folder: Path, tables: Tables) -> None:
    in_markdown = markdown_tables((folder / "report.md").read_text(encoding="utf-8"))
    assert list(in_markdown.values()) == list(tables.values())
    assert sum(map(len, tables.values())) > 15


def test_markdown_names_its_figures(folder: Path) -> None:
    named = re.findall(r"\]\((figures/[\w-]+\.svg)\)", (folder / "report.md").read_text())
    assert len(named) == len(set(named)) == len(list((folder / "figures").iterdir()))
    assert all((folder / path).is_file() for path in named)


def test_html_is_whole_and_asks_for_nothing_else(html: PageParser) -> None:
    assert not html.open
    assert len(html.ids) == len(set(html.ids))
    assert not html.tags & {"script", "link", "img", "iframe"}
    assert all(link.startswith("#") for link in html.links)
    assert {link[1:] for link in html.links} <= set(html.ids)


def test_html_holds_the_figures_of_the_folder(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    for path in (folder / "figures").iterdir():
        ET.parse(path)
        assert path.read_text(encoding="utf-8").strip() in text


def test_text_from_the_results_is_no_markup(folder: Path) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "What &lt;b&gt;matters&lt;/b&gt; &amp; *why*, in `brief`." in html
    assert "<i>Business" not in html
    assert "What \\<b>matters\\</b> & \\*why\\*, in \\`brief\\`." in (folder / "report.md").read_text()


def test_each_section_says_how_to_run_it(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert text.count("kr-text run results/table3.yaml --data data\n") == 2  # calibration has the same runs
    noisy = (
        "python scripts/make_noisy_data.py data runs/noisy_data\nkr-text run results/noise.yaml --data runs/noisy_data"
    )
    assert text.count(noisy) == 1
    assert text.count("kr-text run results/cost.yaml --data data --fresh --workers 1\n") == 2  # of Table 4 too
    assert text.endswith("```sh\nkr-text report results\n```\n")


def test_the_page_says_what_made_the_numbers(folder: Path) -> None:
    made = "Made on Linux x86_64 (2 cores, torch threads: 1, accelerator: none), with python 3.11.9, torch 2.13.0, "
    assert made + "from commit abc123." in (folder / "report.md").read_text()


def test_of_many_commits_the_page_says_how_many(tmp_path: Path) -> None:
    (tmp_path / "table3.yaml").write_text(f"title: T\nabout: A\nruns:\n  - {GRIDS['table3']}\n")
    for seed, commit in enumerate(("abc123", "def456", "abc123+changes"), 1):
        add(tmp_path, run("ce", seed), 10, commit=commit)
    write_page(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "torch 2.13.0, from 2 commits, that of each run in runs.jsonl; 1 of the runs had changes in the code" in text


def test_tables_are_by_data_set_then_model_then_rows_whatever_ran_first(tmp_path: Path) -> None:
    (tmp_path / "table3.yaml").write_text(
        "title: T\nabout: A\nruns:\n"
        "  - {dataset: yelp_review_full, model: [bert-base-uncased, transformer], loss: ce, seed: 1}\n"
        "  - {dataset: ag_news, model: [transformer, charcnn, textrnn, fasttext], loss: [kr, ce], seed: 1}\n"
        "  - {dataset: ag_news, model: textrnn, loss: ce, seed: 1, max_train_rows: [600, 60]}\n"
    )
    grid = read_grid(tmp_path / "table3.yaml")
    for each in grid.runs:
        add(tmp_path, each, 10)
    settings = [cell.setting for cell in Study(tmp_path).cells(grid)]
    assert [(each.dataset, each.model, each.max_train_rows, each.loss) for each in settings] == [
        ("yelp_review_full", "transformer", None, "ce"),
        ("yelp_review_full", "bert-base-uncased", None, "ce"),
        *(("ag_news", "fasttext", None, loss) for loss in ("kr", "ce")),
        ("ag_news", "textrnn", 60, "ce"),
        ("ag_news", "textrnn", 600, "ce"),
        *(("ag_news", model, None, loss) for model in ("textrnn", "charcnn", "transformer") for loss in ("kr", "ce")),
    ]


def test_settings_in_another_order_are_the_same_place(tmp_path: Path) -> None:
    told = {"ce": "learning_rate=0.004,num_train_epochs=5", "kr": "num_train_epochs=5, learning_rate=0.004"}
    blocks = [
        f"  - {{dataset: ag_news, model: textrnn, loss: {loss}, seed: 1-2, training: '{told[loss]}'}}" for loss in told
    ]
    (tmp_path / "table3.yaml").write_text("\n".join(["title: T", "about: A", "runs:", *blocks]))
    for loss, training in told.items():
        for seed in (1, 2):
            add(tmp_path, run(loss, seed, "textrnn", training=training), 10 + seed)
    write_page(tmp_path)
    tables = markdown_tables((tmp_path / "report.md").read_text())
    (errors, verdicts, *_) = next(iter(tables.values()))
    assert [row[1] for row in errors[1:]] == ["textrnn (learning_rate=0.004, num_train_epochs=5)"]
    assert [row[3] for row in verdicts[1:]] == ["KR"]


def test_the_same_results_give_the_same_page_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(folder, tmp_path / "results"))
    (again / "figures" / "of-an-earlier-page.svg").write_text("<svg/>")
    write_page(again)
    before, after = (
        {path.relative_to(each): path.read_bytes() for path in each.rglob("*") if path.is_file()}
        for each in (folder, again)
    )
    assert before == after


@pytest.mark.parametrize(
    ("name", "block", "settings"),
    [
        ("schedules", "loss: kr, seed: 1", [{"loss": "kr", "loss_overrides": "alpha=0.1"}]),
        ("schedules", "loss: kr, seed: 1", [{"loss": "kr", "loss_overrides": "alpha=0.3,gamma=0.9"}]),
        (
            "label_matrices",
            "loss: [ce, kr-ls], seed: 1-2, label_matrices: true",
            [{"label_matrices": True}, {"loss": "kr-ls", "seed": 2, "label_matrices": True}],
        ),
    ],
)
def test_a_folder_with_little_in_it_has_a_page(
    tmp_path: Path, name: str, block: str, settings: list[dict[str, Any]]
) -> None:
    overrides = settings[0].get("loss_overrides")
    told = f", loss_overrides: '{overrides}'" if overrides else ""
    block = f"  - {{dataset: ag_news, model: fasttext, {block}{told}}}"
    (tmp_path / f"{name}.yaml").write_text(f"title: T\nabout: A\nruns:\n{block}\n")
    for each in settings:
        add(tmp_path, Run("ag_news", "fasttext", **each), 10)
    write_page(tmp_path)
    assert f"{len(settings)} of " in (tmp_path / "report.md").read_text()


def test_bins_of_few_rows_are_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "table3.yaml").write_text(f"title: T\nabout: A\nruns:\n  - {GRIDS['table3']}\n")
    for loss in ("ce", "kr-ls"):
        add(tmp_path, run(loss, 1), 10)
    cells = Study(tmp_path).cells(read_grid(tmp_path / "table3.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        assert reliability_figure(cells, "ag_news") is not None
        patch.setattr("kr_text.report.section_calibration.MIN_ROWS", 1000)
        assert reliability_figure(cells, "ag_news") is None


def test_without_results_the_page_shows_what_is_planned(tmp_path: Path) -> None:
    (tmp_path / "table3.yaml").write_text(f"title: T\nabout: A\nruns:\n  - {GRIDS['table3']}\n")
    write_page(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "0 of 24 runs are finished." in text
    assert not PageParser((tmp_path / "report.html").read_text()).open


def test_two_ways_to_say_the_same_are_one_run(tmp_path: Path) -> None:
    block = "{dataset: ag_news, model: fasttext, loss: kr, seed: 1, loss_overrides: [null, gamma=0.99]}"
    (tmp_path / "extra.yaml").write_text(f"title: T\nabout: A\nruns:\n  - {block}\n")
    add(tmp_path, run("kr", 1), 10)
    write_page(tmp_path)
    assert (tmp_path / "report.md").read_text().split("\n\n")[1] == "1 of 1 runs are finished."


def test_a_folder_without_grids_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must have a grid, NAME\.yaml .*, got none"):
        write_page(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_number_is_not_available(tmp_path: Path) -> None:
    (tmp_path / "table3.yaml").write_text(f"title: T\nabout: A\nruns:\n  - {GRIDS['table3']}\n")
    scaled = {"temperature": None, "test_metrics": made_up_report(run("ce", 1), 60)["test_metrics"]}
    add(tmp_path, run("ce", 1), 60, report={"temperature_scaling": scaled})
    write_page(tmp_path)
    tables = PageParser((tmp_path / "report.html").read_text()).tables
    assert tables["calibration"][0][1][5] == "n/a"
    assert (tmp_path / RUNS_FILE).exists()


def test_rank_correlation_leaves_out_the_diagonal_and_rows_without_an_order() -> None:
    a = np.array([[9.0, 1, 2, 3], [1, 9, 2, 3], [5, 5, 9, 5], [1, 2, np.nan, 9]])
    b = np.array([[0.0, 1, 2, 3], [3, 0, 2, 1], [1, 2, 0, 3], [1, 2, 3, 0]])
    assert rank_correlation(a, b) == 0  # the first row has 1, the second -1, the others none
    assert np.isnan(rank_correlation(np.ones((3, 3)), b[:3, :3]))


def test_mean_difference_leaves_out_the_diagonal() -> None:
    assert mean_difference(np.array([[9.0, 1], [2, 9]]), np.array([[0.0, 2], [4, 0]])) == 1.5


def test_mistakes_are_shares_of_the_rows_with_a_wrong_class() -> None:
    np.testing.assert_array_equal(mistakes([[7, 1, 3], [0, 9, 0], [2, 0, 5]])[[0, 2]], [[0, 0.25, 0.75], [1, 0, 0]])
    assert np.isnan(mistakes([[7, 1, 3], [0, 9, 0], [2, 0, 5]])[1]).all()
