from pathlib import Path

import numpy as np
import pytest

from data_cases import header_rows, write_rows, write_zhang, zhang_rows
from kr_text.data import load


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


def test_a_class_with_one_row_cannot_be_cut(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", [*header_rows(60), {"id": 1, "text": "a", "label": "odd"}])
    with pytest.raises(
        ValueError, match=r"data\.csv: train: every class must have at least 2 rows .*odd has 1: add rows"
    ):
        load(file, cache_dir=cache_dir)


@pytest.mark.parametrize("size", [2, 31, 0.9])
def test_a_cut_that_is_too_small_or_too_large_is_an_error(zhang: Path, cache_dir: str, size: float) -> None:
    with pytest.raises(
        ValueError,
        match=r"validation_size must set aside at least as many rows as there are classes, 3, and at most half of",
    ):
        load(zhang, validation_size=size, cache_dir=cache_dir)
