import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kr_text.evaluation.calibration import at_temperature, fit_temperature, reliability
from kr_text.evaluation.metrics import ece


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    """Labels are drawn from softmax(z), and the logits are temperature * z."""
    rng = np.random.default_rng(0)
    z = rng.normal(scale=2, size=(20_000, 4))
    labels = (softmax(z, axis=1).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(temperature * z, labels) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_is_that_of_the_least_nll() -> None:
    rng = np.random.default_rng(1)
    logits, labels = 5 * rng.normal(size=(200, 3)), rng.integers(3, size=200)
    logits[np.arange(200), labels] += 3
    found = fit_temperature(logits, labels)

    def nll(temperature: float) -> float:
        return float(-log_softmax(logits / temperature, axis=1)[np.arange(200), labels].mean())

    grid = np.geomspace(0.1, 50, 2000)
    assert found == pytest.approx(grid[np.argmin([nll(temperature) for temperature in grid])], rel=0.004)


def test_two_logits_by_hand() -> None:
    """Logits (2, 0), right in 3 rows of 4: the best probability is 3 / 4, so 2 / T = log 3."""
    assert fit_temperature([[2, 0]] * 4, [0, 0, 1, 0]) == pytest.approx(2 / np.log(3), rel=1e-3)


def test_log_probabilities_serve_as_logits() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(50, 3)), rng.integers(3, size=50)
    log_p = log_softmax(logits, axis=1)
    assert fit_temperature(log_p, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-6)


def test_temperature_flattens_and_keeps_the_predicted_class() -> None:
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 900.0, 1.0]])
    np.testing.assert_allclose(at_temperature(logits, 2.0), softmax(logits / 2, axis=1))
    np.testing.assert_allclose(at_temperature(logits, 1.0), softmax(logits, axis=1))
    warm, cold = at_temperature(logits, 4.0), at_temperature(logits, 0.25)
    assert (warm.max(axis=1) < cold.max(axis=1)).tolist() == [True, False]  # 900 is certain at either
    assert warm.argmax(axis=1).tolist() == cold.argmax(axis=1).tolist() == [0, 1]


def test_reliability_by_hand() -> None:
    """Of 15 bins: (5/15, 6/15] has two rows, its upper end belongs to it, (14/15, 1] three; the others have none."""
    bins = reliability([0.4, 0.34, 1.0, 0.95, 0.96], [True, False, True, True, False])
    np.testing.assert_allclose(bins, [(0.37, 1 / 2, 2), (0.97, 2 / 3, 3)])


@pytest.mark.parametrize("num_labels", [2, 5, 30])
def test_the_diagram_agrees_with_ece(num_labels: int) -> None:
    rng = np.random.default_rng(num_labels)
    probabilities, labels = rng.dirichlet(np.full(num_labels, 0.3), size=500), rng.integers(num_labels, size=500)
    bins = reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    assert sum(count for _, _, count in bins) == 500
    assert all(count > 0 for _, _, count in bins)
    assert [confidence for confidence, _, _ in bins] == sorted(confidence for confidence, _, _ in bins)
    gap = sum(count / 500 * abs(accuracy - confidence) for confidence, accuracy, count in bins)
    assert gap == pytest.approx(ece(probabilities, labels), abs=1e-12)


def test_the_diagram_agrees_with_plain_loops() -> None:
    rng = np.random.default_rng(3)
    confidence, correct_rows = rng.uniform(0.3, 1, size=100), rng.integers(2, size=100) == 1
    expected = []
    for number in range(15):
        inside = [
            (float(c), bool(right))
            for c, right in zip(confidence, correct_rows, strict=True)
            if number / 15 < c <= (number + 1) / 15
        ]
        if inside:
            confidences, correct = zip(*inside, strict=True)
            expected.append((np.mean(confidences), np.mean(correct), len(inside)))
    np.testing.assert_allclose(reliability(confidence, correct_rows), expected, rtol=1e-12)


def test_logits_that_say_nothing_have_the_temperature_one() -> None:
    assert fit_temperature(np.full((5, 3), 7.0), [0, 1, 2, 0, 1]) == 1.0
