import numpy as np
import pytest

from kr_text.evaluation.classes import class_metrics, most_confident_mistakes
from kr_text.evaluation.metrics import macro_f1


def test_class_metrics_are_those_counted_by_hand() -> None:
    # true class (down), predicted class (across); TP 5, 2, 0
    classes = class_metrics([[5, 1, 0], [3, 2, 0], [1, 1, 0]], ["a", "b", "c"])
    assert [each["name"] for each in classes] == ["a", "b", "c"]
    assert [each["support"] for each in classes] == [6, 5, 2]
    assert [each["recall"] for each in classes] == pytest.approx([5 / 6, 2 / 5, 0])
    assert [each["precision"] for each in classes[:2]] == pytest.approx([5 / 9, 2 / 4])
    assert classes[2]["precision"] is None  # c is never predicted
    assert [each["f1"] for each in classes] == pytest.approx([10 / 15, 4 / 9, 0])


def test_a_class_without_rows_and_predictions_has_no_metrics() -> None:
    absent = class_metrics([[2, 0], [0, 0]], ["a", "b"])[1]
    assert absent == {"name": "b", "support": 0, "precision": None, "recall": None, "f1": None}


def test_their_mean_f1_is_macro_f1() -> None:
    generator = np.random.default_rng(0)
    probabilities, labels = generator.dirichlet([1.0] * 5, 40), generator.integers(4, size=40)
    counts = np.zeros((5, 5), dtype=int)
    np.add.at(counts, (labels, probabilities.argmax(1)), 1)
    f1 = [each["f1"] for each in class_metrics(counts, list("abcde"))]
    assert np.mean([value for value in f1 if value is not None]) == pytest.approx(macro_f1(probabilities, labels))


def test_the_most_confident_mistakes_come_first() -> None:
    probabilities = [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]]
    assert most_confident_mistakes(probabilities, [0, 0, 0, 0, 1], 10).tolist() == [1, 4, 3, 2]
    assert most_confident_mistakes(probabilities, [0, 0, 0, 0, 1], 2).tolist() == [1, 4]
    assert most_confident_mistakes(probabilities, [0, 1, 1, 1, 0], 10).tolist() == []
