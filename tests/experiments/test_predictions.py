from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kr_text.experiments.predictions import UNIT, compact, read_predictions, write_predictions


def test_probabilities_come_back_to_half_a_unit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(5), size=100), rng.integers(5, size=100)
    write_predictions(compact(probabilities, labels), tmp_path / "p.parquet")
    back = read_predictions(tmp_path / "p.parquet")
    assert back.labels.tolist() == labels.tolist()
    assert back.correct.tolist() == (probabilities.argmax(axis=1) == labels).tolist()
    assert np.abs(back.probabilities - probabilities).max() <= 0.5 / UNIT + 1e-12
    assert [column.dtype for column in back] == [np.bool_, np.int64, np.float64]


def test_the_extremes_are_exact(tmp_path: Path) -> None:
    write_predictions(compact([[1.0, 0.0]], [1]), tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet").probabilities.tolist() == [[1.0, 0.0]]


def test_columns_are_in_the_order_of_the_classes_beyond_ten_and_many_labels_fit(tmp_path: Path) -> None:
    probabilities = np.diag(np.linspace(0.1, 1, 300))
    write_predictions(compact(probabilities, np.arange(300)), tmp_path / "p.parquet")
    back = read_predictions(tmp_path / "p.parquet")
    assert back.labels.tolist() == list(range(300))
    assert back.probabilities.argmax(axis=1).tolist() == list(range(300))


def test_a_tie_of_rounded_probabilities_does_not_change_which_rows_are_right(tmp_path: Path) -> None:
    write_predictions(compact([[0.4999, 0.5001], [0.4999, 0.5001]], [0, 1]), tmp_path / "p.parquet")
    back = read_predictions(tmp_path / "p.parquet")
    assert back.probabilities.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert back.correct.tolist() == [False, True]


def test_a_crash_in_writing_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_predictions(compact([[1.0, 0.0]], [0]), path)

    def crash(table: object, where: Path, **_: object) -> None:
        where.write_bytes(b"PAR1 half of")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", crash)
    with pytest.raises(OSError, match="no space left"):
        write_predictions(compact([[0.0, 1.0]], [0]), path)
    assert read_predictions(path).correct.tolist() == [True]
