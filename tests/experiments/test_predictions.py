import json

import numpy as np
import pytest

from kr_text.evaluation.calibration import Bin, reliability_bins
from kr_text.experiments.predictions import compact, expand


def test_the_stored_form_by_hand() -> None:
    """Two of three rows are correct: 101 in binary, padded to 1010 0000, is 160, or "oA==" in base64."""
    stored = compact([[0.9, 0.1], [0.55, 0.45], [0.3, 0.7]], [0, 1, 1])
    assert (stored["num_rows"], stored["correct"]) == (3, "oA==")
    # Bin m holds confidences in ((m - 1) / 15, m / 15]: 0.55 is in bin 9, 0.7 in bin 11, 0.9 in bin 14.
    assert {number: each for number, each in enumerate(stored["bins"], 1) if each[0]} == {
        9: (1, 0.55, 0),
        11: (1, 0.7, 1),
        14: (1, 0.9, 1),
    }
    assert len(stored["bins"]) == 15


@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 1000])
def test_correct_rows_survive_a_round_trip_through_json(num_rows: int) -> None:
    rng = np.random.default_rng(num_rows)
    probabilities, labels = rng.dirichlet(np.ones(5), size=num_rows), rng.integers(5, size=num_rows)
    stored = compact(probabilities, labels)
    back = expand(json.loads(json.dumps(stored)))
    assert back.correct.dtype == np.bool_
    assert back.correct.tolist() == (probabilities.argmax(axis=1) == labels).tolist()
    assert back.labels_digest == stored["labels"]


def test_the_bins_give_the_reliability_diagram() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(3), size=500), rng.integers(3, size=500)
    bins = expand(compact(probabilities, labels)).bins
    expected = reliability_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    np.testing.assert_allclose(bins, expected, atol=1e-4)
    assert all(isinstance(each, Bin) for each in bins)


def test_equal_digests_need_equal_labels_in_equal_order() -> None:
    probabilities = np.full((3, 2), 0.5)
    digests = [compact(probabilities, labels)["labels"] for labels in ([0, 1, 1], [1, 0, 1], [0, 1, 1])]
    assert digests[0] == digests[2] != digests[1]
    assert compact(probabilities[:2], [0, 1])["labels"] != digests[0]


def test_the_digest_does_not_depend_on_the_integer_type_of_the_labels() -> None:
    labels = np.array([0, 3, 1])
    digests = {compact(np.eye(4)[labels], labels.astype(kind))["labels"] for kind in (np.uint8, np.int32, np.int64)}
    assert len(digests) == 1


def test_the_size_grows_by_a_bit_per_row() -> None:
    sizes = [len(json.dumps(compact(np.full((rows, 2), 0.5), np.zeros(rows, np.int64)))) for rows in (6_000, 12_000)]
    assert sizes[1] - sizes[0] == pytest.approx(6_000 / 6, abs=20)  # base64 has 6 bits per byte
