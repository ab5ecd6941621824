from pathlib import Path

import numpy as np
import pytest

from data_cases import header_rows, write_rows, write_zhang, zhang_rows
from kr_text.data import load
from kr_text.data.split import Fold, parse_fold


def test_cuts_are_stratified(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": f"text {i}", "label": "rare" if i % 10 == 0 else "common"} for i in range(400)]
    dataset = load(write_rows(tmp_path / "data.csv", rows), validation_size=50, cache_dir=cache_dir)
    for split, counts in (("validation", [45, 5]), ("test", [45, 5]), ("train", [270, 30])):
        assert np.bincount(dataset[split]["label"]).tolist() == counts


def test_a_rare_class_may_have_no_row_in_a_cut(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": f"text {i}", "label": "rare" if i < 2 else "common"} for i in range(1_000)]
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.csv", rows)
    write_rows(tmp_path / "data" / "test.csv", rows)
    dataset = load(tmp_path / "data", validation_size=10, cache_dir=cache_dir)
    assert np.bincount(dataset["validation"]["label"], minlength=2).tolist() == [10, 0]
    assert np.bincount(dataset["train"]["label"]).tolist() == [988, 2]


def test_validation_size_is_a_share_or_a_count(zhang: Path, cache_dir: str) -> None:
    assert load(zhang, validation_size=0.25, cache_dir=cache_dir)["validation"].num_rows == 15
    assert load(zhang, validation_size=7, cache_dir=cache_dir)["validation"].num_rows == 7


def test_the_default_cut_is_a_tenth_but_at_most_five_thousand_rows(tmp_path: Path, cache_dir: str) -> None:
    folder = write_zhang(tmp_path / "z", {"train": zhang_rows(51_000), "test": zhang_rows(9)})
    assert load(folder, cache_dir=cache_dir)["validation"].num_rows == 5_000


def test_the_cut_depends_on_the_seed(zhang: Path, cache_dir: str) -> None:
    first, again, other = (load(zhang, seed=seed, cache_dir=cache_dir)["validation"]["text"][:] for seed in (0, 0, 1))
    assert first == again != other


def test_train_and_validation_share_no_row(zhang: Path, cache_dir: str) -> None:
    dataset = load(zhang, cache_dir=cache_dir)
    assert len(set(dataset["train"]["text"]) | set(dataset["validation"]["text"])) == 60


def test_rows_set_aside_are_in_small_files_of_their_own(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": "word " * 100, "label": str(i % 2)} for i in range(2_000)]
    dataset = load(write_rows(tmp_path / "data.csv", rows), validation_size=100, cache_dir=cache_dir)
    sizes = {
        split: sum(Path(file["filename"]).stat().st_size for file in dataset[split].cache_files) for split in dataset
    }
    assert sizes["train"] > 10 * sizes["validation"] == 10 * sizes["test"] > 0


def test_classes_with_a_single_row_keep_it_in_train(
    tmp_path: Path, cache_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    tail = [{"id": 1, "text": f"rare {i}", "label": f"odd {i}"} for i in range(3)]
    file = write_rows(tmp_path / "data.csv", [*header_rows(60), *tail])
    dataset = load(file, cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 50, "validation": 6, "test": 7}
    assert {row["text"] for row in tail} < set(dataset["train"]["text"])
    line = f"{file}: train: classes with a single row, which is not set aside: 3 of 6"
    assert [message for message in caplog.messages if "single row" in message] == [line] * 2  # test and validation


def test_a_row_that_the_test_cut_left_alone_stays_in_train(tmp_path: Path, cache_dir: str) -> None:
    """With half of the rows in the test cut, it takes one of the two rows of each class."""
    rows = [{"text": f"text {i}", "label": f"class {i // 2}"} for i in range(40)]
    rows += [{"text": f"more {i}", "label": "common"} for i in range(40)]
    dataset = load(write_rows(tmp_path / "data.csv", rows), validation_size=10, cache_dir=cache_dir)
    counts = np.bincount(dataset["train"]["label"], minlength=21)
    assert dataset.num_rows == {"train": 60, "validation": 10, "test": 10}
    assert counts.min() == 1


def test_there_may_be_more_classes_than_rows_set_aside(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": f"text {i}", "label": f"class {i % 60:02}"} for i in range(100)]  # 20 classes with a single row
    dataset = load(write_rows(tmp_path / "data.csv", rows), cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 81, "validation": 9, "test": 10}
    assert np.bincount(dataset["train"]["label"], minlength=60).min() == 1
    fewer = load(tmp_path / "data.csv", validation_size=3, cache_dir=cache_dir)
    assert fewer.num_rows == {"train": 94, "validation": 3, "test": 3}


def test_a_cut_of_classes_with_two_rows_each_has_a_row_of_each_class(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": f"text {i}", "label": f"class {i % 20:02}"} for i in range(100)]
    assert set(load(write_rows(tmp_path / "data.csv", rows), cache_dir=cache_dir)["test"]["label"]) == set(range(20))


def test_data_without_two_rows_of_a_class_cannot_be_cut(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", [{"text": f"text {i}", "label": f"class {i}"} for i in range(9)])
    with pytest.raises(
        ValueError, match=r"at most half of the 0 rows of .*data\.csv: train in classes with at least 2"
    ):
        load(file, cache_dir=cache_dir)


@pytest.mark.parametrize("size", [31, 0.9])
def test_a_cut_that_is_too_large_is_an_error(zhang: Path, cache_dir: str, size: float) -> None:
    with pytest.raises(
        ValueError, match="validation_size must set aside at least 1 row, and at most half of the 60 rows"
    ):
        load(zhang, validation_size=size, cache_dir=cache_dir)


# Folds


def test_each_row_of_all_splits_is_a_test_row_in_one_fold(tmp_path: Path, cache_dir: str) -> None:
    rows = {"train": zhang_rows(40), "validation": zhang_rows(60)[40:52], "test": zhang_rows(60)[52:]}
    folder = write_zhang(tmp_path / "z", rows)
    folds = [load(folder, fold=Fold(number, 4), cache_dir=cache_dir) for number in (1, 2, 3, 4)]
    texts = [text for fold in folds for text in fold["test"]["text"]]
    assert len(texts) == len(set(texts)) == 60
    for fold in folds:
        split = [set(fold[name]["text"]) for name in ("train", "validation", "test")]
        assert [len(each) for each in split] == [40, 5, 15]
        assert len(set.union(*split)) == 60


def test_folds_are_stratified(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": f"text {i}", "label": "rare" if i < 13 else "common"} for i in range(101)]
    file = write_rows(tmp_path / "data.csv", rows)
    folds = [load(file, fold=Fold(number, 4), cache_dir=cache_dir)["test"]["label"] for number in (1, 2, 3, 4)]
    assert sorted(np.bincount(labels)[1] for labels in folds) == [3, 3, 3, 4]
    assert sorted(map(len, folds)) == [25, 25, 25, 26]


def test_a_fold_is_the_same_each_time_and_depends_on_the_seed(zhang: Path, cache_dir: str) -> None:
    first, again, other = (
        load(zhang, fold=Fold(1, 3), seed=seed, cache_dir=cache_dir)["test"]["text"][:] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_more_folds_than_rows_are_an_error(zhang: Path, cache_dir: str) -> None:
    with pytest.raises(ValueError, match=r"folds must be at most the 69 rows of .*zhang, got 70"):
        load(zhang, fold=Fold(1, 70), cache_dir=cache_dir)


def test_a_fold_is_a_number_and_a_count() -> None:
    assert parse_fold("2/10") == Fold(2, 10)


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "5", "1/5/2", "-1/5", "a/b", ""])
def test_another_text_is_not_a_fold(text: str) -> None:
    with pytest.raises(ValueError, match=r"fold must be NUMBER/COUNT.*such as 2/5, got '"):
        parse_fold(text)
