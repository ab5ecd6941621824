import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from datasets import DatasetDict
from make_noisy_data import named

from kr_text.classifier import Classifier
from kr_text.data.label_noise import TRUE_LABELS_FILE, flip, write_noisy
from kr_text.data.sources import load
from kr_text.experiments.wrong_labels import find_wrong_labels, precision_at_noise_rate
from kr_text.training.report import Report


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.333, 1.0])
@pytest.mark.parametrize("num_labels", [2, 6])
def test_exactly_the_given_share_of_labels_changes(rate: float, num_labels: int) -> None:
    labels = np.random.default_rng(1).integers(num_labels, size=1000)
    before = labels.copy()
    flipped = flip(labels, rate, num_labels)
    assert (flipped != labels).sum() == round(1000 * rate)
    assert set(flipped.tolist()) <= set(range(num_labels))
    np.testing.assert_array_equal(labels, before)


def test_noise_is_uniform_over_other_classes_and_rows() -> None:
    flipped = flip(np.zeros(30_000, dtype=np.int64), 0.5, 4)
    counts = np.bincount(flipped, minlength=4)
    assert counts[0] == 15_000
    assert np.abs(counts[1:] - 5000).max() < 300  # 5 standard deviations of 57.7
    assert abs((flipped[:15_000] > 0).mean() - 0.5) < 0.02


def test_noise_depends_on_the_seed() -> None:
    labels = np.zeros(100, dtype=np.int64)
    np.testing.assert_array_equal(flip(labels, 0.3, 3), flip(labels, 0.3, 3, seed=0))
    assert (flip(labels, 0.3, 3, seed=1) != flip(labels, 0.3, 3)).any()


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_0_to_1_is_an_error(rate: float) -> None:
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got"):
        flip(np.zeros(3, dtype=np.int64), rate, 2)


def test_precision_equals_an_example_by_hand() -> None:
    """Three labels are wrong; of the three least probable labels, 0.05, 0.1 and 0.2, two are."""
    given = np.array([0.9, 0.1, 0.2, 0.05, 0.8])
    assert precision_at_noise_rate(given, np.array([True, True, False, True, False])) == pytest.approx(2 / 3)
    assert precision_at_noise_rate(given, np.array([False, True, True, True, False])) == 1
    assert math.isnan(precision_at_noise_rate(given, np.zeros(5, dtype=bool)))


# Data sets with noisy labels


@pytest.fixture(scope="module")
def rows(news: Path) -> DatasetDict:
    return load(news)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory, rows: DatasetDict) -> Path:
    """Tiny news with noise in a tenth of the training labels; validation and test are unchanged."""
    folder = tmp_path_factory.mktemp("data") / "noisy"
    names, true = rows["train"].features["label"].names, np.asarray(rows["train"]["label"])
    given = [names[k] for k in flip(true, 0.1, len(names))]
    train = list(zip(rows["train"]["text"], given, strict=True))
    splits = {"train": train, "validation": named(rows["validation"]), "test": named(rows["test"])}
    write_noisy(folder, splits, [names[k] for k in true])
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, noisy: Path, train_small: Callable[..., Report]) -> Path:
    folder = tmp_path_factory.mktemp("model")
    train_small(folder, "--dataset", str(noisy))
    return folder


def test_a_written_data_set_is_read_with_its_rows_in_order(noisy: Path, rows: DatasetDict) -> None:
    written = load(noisy)
    for split in ("train", "validation", "test"):
        assert list(written[split]["text"]) == list(rows[split]["text"])
    assert list(written["test"]["label"]) == list(rows["test"]["label"])
    wrong = np.asarray(written["train"]["label"]) != np.asarray(rows["train"]["label"])
    assert wrong.sum() == round(0.1 * 216)


def test_a_trained_model_finds_wrong_labels_better_than_chance(noisy: Path, model: Path, rows: DatasetDict) -> None:
    found = find_wrong_labels(str(noisy), model)
    assert (found["num_rows"], found["num_wrong"]) == (216, 22)
    given, true = np.asarray(load(noisy)["train"]["label"]), np.asarray(rows["train"]["label"])
    probabilities = Classifier(str(model)).probabilities(list(rows["train"]["text"]))[np.arange(216), given]
    least = sorted(range(216), key=lambda row: probabilities[row])[:22]
    assert found["precision"] == pytest.approx(np.mean(given[least] != true[least]))
    assert found["precision"] > 0.5  # chance is 22 / 216


def test_classes_are_matched_by_name(noisy: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes of the model have another order than those of the data."""
    expected = find_wrong_labels(str(noisy), model)
    probabilities = Classifier.probabilities

    class Reversed(Classifier):
        def __init__(self, folder: str) -> None:
            super().__init__(folder)
            self.names = self.names[::-1]

        def probabilities(self, texts: list[str]) -> npt.NDArray[np.float64]:
            return probabilities(self, texts)[:, ::-1]

    monkeypatch.setattr("kr_text.classifier.Classifier", Reversed)
    assert find_wrong_labels(str(noisy), model) == expected


def test_a_wrong_number_of_true_labels_is_an_error(noisy: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "short"
    folder.mkdir()
    for path in noisy.iterdir():
        lines = path.read_text().splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[:-1] if path.name == TRUE_LABELS_FILE else lines))
    with pytest.raises(ValueError, match=r"train_true_labels\.csv must have 216 labels, one per training row, got 215"):
        find_wrong_labels(str(folder), model)
