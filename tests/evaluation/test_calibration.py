import math

import numpy as np
import pytest
from hypothesis import given
from scipy.special import log_softmax, softmax

from kr_text.evaluation.calibration import at_temperature, ece, fit_temperature, reliability_bins
from metric_cases import Sample, samples


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_fit_temperature_finds_a_known_temperature(temperature: float) -> None:
    """Labels are drawn from softmax(z), and the logits are temperature * z."""
    rng = np.random.default_rng(0)
    z = rng.normal(scale=2, size=(20_000, 4))
    labels = (softmax(z, axis=1).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(temperature * z, labels) == pytest.approx(temperature, rel=0.03)


def test_the_fitted_temperature_minimizes_the_nll() -> None:
    rng = np.random.default_rng(1)
    logits, labels = 5 * rng.normal(size=(200, 3)), rng.integers(3, size=200)
    logits[np.arange(200), labels] += 3
    found = fit_temperature(logits, labels)

    def nll(temperature: float) -> float:
        return float(-log_softmax(logits / temperature, axis=1)[np.arange(200), labels].mean())

    grid = np.geomspace(0.1, 50, 2000)
    assert found == pytest.approx(grid[np.argmin([nll(temperature) for temperature in grid])], rel=0.004)


def test_temperature_of_two_logits_by_hand() -> None:
    """Logits (2, 0), right in 3 rows of 4: the best probability is 3 / 4, so 2 / T = log 3."""
    assert fit_temperature([[2, 0]] * 4, [0, 0, 1, 0]) == pytest.approx(2 / np.log(3), rel=1e-3)


def test_log_probabilities_give_the_same_temperature_as_logits() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(50, 3)), rng.integers(3, size=50)
    log_p = log_softmax(logits, axis=1)
    assert fit_temperature(log_p, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-6)


def test_a_higher_temperature_lowers_confidence_and_keeps_the_predicted_class() -> None:
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 900.0, 1.0]])
    np.testing.assert_allclose(at_temperature(logits, 2.0), softmax(logits / 2, axis=1))
    np.testing.assert_allclose(at_temperature(logits, 1.0), softmax(logits, axis=1))
    warm, cold = at_temperature(logits, 4.0), at_temperature(logits, 0.25)
    assert (warm.max(axis=1) < cold.max(axis=1)).tolist() == [True, False]  # 900 is certain at either
    assert warm.argmax(axis=1).tolist() == cold.argmax(axis=1).tolist() == [0, 1]


def test_reliability_by_hand() -> None:
    """Bin (5/15, 6/15], which includes its upper edge, has two rows, and (14/15, 1] has three; the others are empty."""
    bins = reliability_bins([0.4, 0.34, 1.0, 0.95, 0.96], [True, False, True, True, False])
    expected = [(2, 0.74, 1) if number == 6 else (3, 2.91, 2) if number == 15 else (0, 0, 0) for number in range(1, 16)]
    np.testing.assert_allclose(bins, expected)


@pytest.mark.parametrize("num_labels", [2, 5, 30])
def test_the_reliability_diagram_agrees_with_ece(num_labels: int) -> None:
    rng = np.random.default_rng(num_labels)
    probabilities, labels = rng.dirichlet(np.full(num_labels, 0.3), size=500), rng.integers(num_labels, size=500)
    bins = reliability_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    assert sum(each.num_rows for each in bins) == 500
    gap = sum(abs(each.num_correct - each.confidence) for each in bins) / 500
    assert gap == pytest.approx(ece(probabilities, labels), abs=1e-12)


def test_the_reliability_diagram_agrees_with_plain_loops() -> None:
    rng = np.random.default_rng(3)
    confidence, correct = rng.uniform(0.3, 1, size=100).tolist(), (rng.integers(2, size=100) == 1).tolist()
    expected = []
    for number in range(15):
        inside = [row for row in range(100) if number / 15 < confidence[row] <= (number + 1) / 15]
        expected.append((len(inside), sum(confidence[row] for row in inside), sum(correct[row] for row in inside)))
    np.testing.assert_allclose(reliability_bins(confidence, correct), expected, rtol=1e-12)


def test_equal_logits_have_temperature_one() -> None:
    assert fit_temperature(np.full((5, 3), 7.0), [0, 1, 2, 0, 1]) == 1.0


def test_ece_by_hand() -> None:
    # Bin 12, (0.733, 0.8]: confidence 0.75 and 0.8, both correct: 2 - 1.55.
    # Bin 9, (0.533, 0.6]: confidence 0.6, correct, and 0.55, wrong: 1.15 - 1.
    probabilities = [[0.75, 0.25], [0.8, 0.2], [0.6, 0.4], [0.55, 0.45]]
    assert ece(probabilities, [0, 0, 0, 1]) == pytest.approx((0.45 + 0.15) / 4)


def test_ece_is_zero_when_accuracy_equals_confidence_in_each_bin() -> None:
    probabilities = [[0.75, 0.25]] * 4 + [[0.4, 0.6]] * 5 + [[1.0, 0.0]] * 2
    labels = [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    assert ece(probabilities, labels) == pytest.approx(0, abs=1e-12)


def test_ece_bins_are_closed_at_their_upper_edge() -> None:
    # 0.8 = 12 / 15 is in bin 12, as is 0.75; one gap is negative and the other positive.
    assert ece([[0.8, 0.2], [0.75, 0.25]], [1, 0]) == pytest.approx(abs(0.8 - 0.25) / 2)
    # 0.81 is in bin 13.
    assert ece([[0.81, 0.19], [0.75, 0.25]], [1, 0]) == pytest.approx((0.81 + 0.25) / 2)


def test_a_confidence_rounded_above_one_is_in_the_last_bin() -> None:
    assert ece([[1.0000001, 0.0], [0.95, 0.05]], [1, 0]) == pytest.approx(0.95 / 2, abs=1e-6)


@given(samples())
def test_ece_agrees_with_a_loop_over_bins(sample: Sample) -> None:
    probabilities, labels = sample
    total = 0.0
    for m in range(1, 16):
        inside = [k for k, row in enumerate(probabilities) if math.ceil(row.max() * 15) == m]
        if inside:
            accuracy = np.mean([probabilities[k].argmax() == labels[k] for k in inside])
            confidence = np.mean([probabilities[k].max() for k in inside])
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    assert ece(probabilities, labels) == pytest.approx(total)
