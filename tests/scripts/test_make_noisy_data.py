import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import make_noisy_data
import pytest

CLASSES = ["World", "Sports", "Business", "Sci/Tech"]


@pytest.fixture
def data(tmp_path: Path, datasets_cache: Path) -> Path:
    """Folders like ag_news and noisy_ag_news with 800 rows; every fourth label of noisy_ag_news is wrong."""
    rows = [(number % 4 + 1, f"Title {number}", f"about\\nclass {number % 4}") for number in range(800)]
    wrong = [(k % 4 + 1 if number % 4 == 0 else k, *fields) for number, (k, *fields) in enumerate(rows)]
    for folder in ("ag_news", "noisy_ag_news"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "classes.txt").write_text("\n".join(CLASSES))
    write(tmp_path / "ag_news" / "train.csv.gz", rows)
    write(tmp_path / "ag_news" / "test.csv.gz", rows[:40])
    write(tmp_path / "noisy_ag_news" / "train.csv.gz", wrong)
    write(tmp_path / "noisy_ag_news" / "train_true_labels.csv.gz", [(k,) for k, *_ in rows])
    return tmp_path


def write(path: Path, rows: Sequence[tuple[object, ...]]) -> None:
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def share_wrong(rows: list[dict[str, str]]) -> float:
    """Share of wrong labels, by the class number in each text."""
    return sum(CLASSES[int(row["text"][-1])] != row["label"] for row in rows) / len(rows)


@pytest.mark.parametrize(("name", "rate"), [("ag_news_noise0", 0.0), ("ag_news_noise40", 0.4), ("noisy_ag_news", 0.25)])
def test_validation_and_training_rows_have_similar_noise_rates(data: Path, name: str, rate: float) -> None:
    make_noisy_data.main([str(data), str(data / "noisy")])
    folder = data / "noisy" / name
    train, validation = read(folder / "train.csv"), read(folder / "validation.csv")
    assert share_wrong(train) == pytest.approx(rate, abs=0.03)
    assert share_wrong(validation) == pytest.approx(rate, abs=0.15)  # at most 80 rows
    assert len(train) == 9 * len(validation)
    assert share_wrong(read(folder / "test.csv")) == 0


def test_true_labels_are_in_the_order_of_the_training_rows(data: Path) -> None:
    make_noisy_data.main([str(data), str(data / "noisy")])
    for folder in (data / "noisy").iterdir():
        true = [row["label"] for row in read(folder / "train_true_labels.csv")]
        assert true == [CLASSES[int(row["text"][-1])] for row in read(folder / "train.csv")]
