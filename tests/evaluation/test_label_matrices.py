import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from kr_text.evaluation.label_matrices import class_means, js_divergence, label_matrices, residual_probabilities
from kr_text.training.report import Report

LOG2, LOG3 = math.log(2), math.log(3)
LOGITS = np.array([[0.0, LOG3, 0.0], [5.0, 0.0, 0.0], [LOG2, 9.0, 0.0]])
LABELS = np.array([0, 0, 1])
P_RES = np.array([[0, 3 / 4, 1 / 4], [0, 1 / 2, 1 / 2], [2 / 3, 0, 1 / 3]])


def test_residual_probabilities_by_hand() -> None:
    given = LOGITS.copy()
    np.testing.assert_allclose(residual_probabilities(given, LABELS), P_RES, atol=1e-15)
    np.testing.assert_array_equal(given, LOGITS)


def test_class_means_by_hand_are_nan_for_a_class_without_rows() -> None:
    means = class_means(P_RES, LABELS)
    np.testing.assert_allclose(means[:2], [[0, 5 / 8, 3 / 8], [2 / 3, 0, 1 / 3]], atol=1e-15)
    assert np.isnan(means[2]).all()


def test_js_divergence_by_hand() -> None:
    """Equal: 0. Disjoint: log 2. (1, 0) and (1/2, 1/2), mean (3/4, 1/4): (log 4/3 + (log 2/3 + log 2) / 2) / 2."""
    found = js_divergence(
        np.array([[0.3, 0.7], [1.0, 0.0], [1.0, 0.0]]), np.array([[0.3, 0.7], [0.0, 1.0], [0.5, 0.5]])
    )
    np.testing.assert_allclose(found, [0, LOG2, (math.log(4 / 3) + math.log(4 / 3) / 2) / 2], atol=1e-15)


def test_js_divergence_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.full(5, 0.2), size=100) for _ in range(2))
    p[:, 0] = 0
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(js_divergence(p, q), jensenshannon(p, q, axis=1) ** 2, atol=1e-12)
    np.testing.assert_allclose(js_divergence(p, q), js_divergence(q, p), atol=1e-15)


def test_without_learned_labels_the_divergence_is_to_the_class_means() -> None:
    logits, labels = LOGITS[:2], LABELS[:2]
    found = label_matrices(logits, labels, None, 2.0)
    assert (found["epoch"], found["learned"]) == (2.0, None)
    np.testing.assert_allclose(found["soft"][0], softmax(logits, axis=1).mean(axis=0), atol=5e-6)
    np.testing.assert_allclose(found["residual"][0], [0, 5 / 8, 3 / 8], atol=5e-6)
    expected = jensenshannon(P_RES[:2], np.array([[0, 5 / 8, 3 / 8]] * 2), axis=1) ** 2
    assert found["js_divergence"] == pytest.approx(expected.mean())


def test_with_learned_labels_the_divergence_is_to_the_learned_row_of_the_true_class() -> None:
    learned = np.array([[0, 0.9, 0.1], [0.2, 0, 0.8], [0.5, 0.5, 0]])
    found = label_matrices(LOGITS, LABELS, learned, 1.0)
    assert found["learned"] == learned.tolist()
    expected = jensenshannon(P_RES, learned[LABELS], axis=1) ** 2
    assert found["js_divergence"] == pytest.approx(expected.mean())


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, train_small: Callable[..., Report]) -> Callable[[str], Report]:
    def report(loss: str) -> Report:
        return train_small(tmp_path_factory.mktemp("run"), "--loss", loss, "--label_matrices")

    return report


def test_a_run_reports_one_entry_for_each_epoch(reports: Callable[[str], Report]) -> None:
    report = reports("kr-ls")
    matrices = report["label_matrices"]
    assert matrices is not None
    assert [entry["epoch"] for entry in matrices] == [1.0, 2.0, 3.0]
    assert [entry["epoch"] for entry in report["epochs"]] == [1.0, 2.0, 3.0]
    for entry in matrices:
        assert entry["learned"] is not None
        for matrix in (entry["soft"], entry["residual"], entry["learned"]):
            np.testing.assert_allclose(np.sum(matrix, axis=1), 1, atol=1e-4)
        assert np.trace(entry["residual"]) == np.trace(entry["learned"]) == 0 < np.trace(entry["soft"])
    best = matrices[int(report["best_epoch"]) - 1]["learned"]
    np.testing.assert_allclose(np.array(best), np.array(report["residual_labels"]), atol=1e-5)


@pytest.mark.parametrize("loss", ["ce", "ls"])
def test_learned_is_none_for_a_loss_that_learns_no_labels(reports: Callable[[str], Report], loss: str) -> None:
    matrices = reports(loss)["label_matrices"]
    assert matrices is not None
    assert [entry["learned"] for entry in matrices] == [None] * 3
    assert all(0 <= (entry["js_divergence"] or -1) <= LOG2 for entry in matrices)


def test_label_matrices_are_reported_only_with_their_flag(tmp_path: Path, train_small: Callable[..., Report]) -> None:
    assert train_small(tmp_path, "--num_train_epochs", "1")["label_matrices"] is None
