from pathlib import Path

from kr_text.experiments.grids import read_grid
from kr_text.report.page import write_page
from kr_text.report.study import Study
from page_cases import add, markdown_tables, run, write_grid


def test_cells_are_sorted_by_data_set_model_and_rows(tmp_path: Path) -> None:
    path = write_grid(
        tmp_path,
        "mine",
        "{dataset: yelp_review_full, model: [bert-base-uncased, transformer], loss: ce, seed: 1}",
        "{dataset: ag_news, model: [transformer, charcnn, textrnn, fasttext], loss: [kr, ce], seed: 1}",
        "{dataset: ag_news, model: textrnn, loss: ce, seed: 1, max_train_rows: [600, 60]}",
    )
    grid = read_grid(path)
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


def test_settings_in_another_order_share_a_place(tmp_path: Path) -> None:
    training = {"ce": "learning_rate=0.004,num_train_epochs=5", "kr": "num_train_epochs=5, learning_rate=0.004"}
    blocks = [
        f"{{dataset: ag_news, model: textrnn, loss: {loss}, seed: 1-2, training: '{of_loss}'}}"
        for loss, of_loss in training.items()
    ]
    write_grid(tmp_path, "mine", *blocks)
    for loss, of_loss in training.items():
        for seed in (1, 2):
            add(tmp_path, run(loss, seed, "textrnn", training=of_loss), 10 + seed)
    write_page(tmp_path)
    errors, verdicts = markdown_tables((tmp_path / "report.md").read_text())["Section mine"]
    assert [row[1] for row in errors[1:]] == ["textrnn (learning_rate=0.004, num_train_epochs=5)"]
    assert [row[3] for row in verdicts[1:]] == ["KR"]


def test_runs_with_the_same_key_count_once(tmp_path: Path) -> None:
    block = "{dataset: ag_news, model: fasttext, loss: kr, seed: 1, loss_overrides: [null, gamma=0.99]}"
    write_grid(tmp_path, "mine", block)
    add(tmp_path, run("kr", 1), 10)
    study = Study(tmp_path)
    assert (len(study.results), study.num_planned) == (1, 1)


def test_grids_may_be_in_a_folder_of_their_own(tmp_path: Path) -> None:
    results, grids = tmp_path / "results", tmp_path / "grids"
    grids.mkdir()
    write_grid(grids, "mine", "{dataset: ag_news, model: fasttext, seed: 1-2}")
    results.mkdir()
    write_grid(results, "ignored", "{dataset: ag_news, model: fasttext, seed: 3}")
    add(results, run("ce", 2), 10)
    study = Study(results, grids)
    assert list(study.grids) == ["mine"]
    assert [result.run.seed for result in study.results] == [2]
