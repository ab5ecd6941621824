import math
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import evaluate
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import EvalPrediction

from kr_text.evaluation import evaluate_metrics
from kr_text.evaluation.calibration import ece
from kr_text.evaluation.evaluate_metrics import AURC, ECE, NLL, BrierScore, ErrorRate, MacroF1
from kr_text.evaluation.metrics import (
    aurc,
    brier_score,
    classification_metrics,
    compute_metrics,
    confusion_matrix,
    error_rate,
    macro_f1,
    nll,
)
from metric_cases import Sample, samples

FUNCTIONS = [error_rate, macro_f1, nll, brier_score, ece, aurc]
METRICS = [ErrorRate, MacroF1, NLL, BrierScore, ECE, AURC]

# Predicted 0 1 1 2 0 with confidence 0.7 0.8 0.5 0.6 0.9: rows 2 and 4 are wrong.
PROBABILITIES = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.5, 0.2], [0.2, 0.2, 0.6], [0.9, 0.1, 0.0]]
LABELS = [0, 1, 0, 2, 1]


def test_error_rate_by_hand_is_in_percent() -> None:
    assert error_rate(PROBABILITIES, LABELS) == pytest.approx(40.0)


def test_confusion_matrix_by_hand_has_a_row_for_each_true_class() -> None:
    assert confusion_matrix(PROBABILITIES, LABELS, 3).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_macro_f1_by_hand() -> None:
    # Class 0 and 1: TP 1, FP 1, FN 1, F1 = 2 / 4. Class 2: F1 = 1.
    assert macro_f1(PROBABILITIES, LABELS) == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_macro_f1_leaves_out_an_absent_class_but_counts_a_missed_class_as_zero() -> None:
    assert macro_f1([[0.9, 0.1, 0], [0.9, 0.1, 0]], [0, 0]) == 1.0
    # Predicted 0 0 for labels 0 1: F1 is 2 / 3 for class 0 and 0 for class 1; class 2 is absent.
    assert macro_f1([[0.9, 0.1, 0], [0.9, 0.1, 0]], [0, 1]) == pytest.approx((2 / 3 + 0) / 2)


def test_nll_by_hand_is_in_nats() -> None:
    assert nll([[0.5, 0.5], [0.25, 0.75]], [0, 0]) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_nll_is_inf_if_a_true_class_has_probability_zero() -> None:
    assert nll([[0.5, 0.5], [0.0, 1.0]], [0, 0]) == math.inf


def test_brier_score_by_hand_sums_over_classes() -> None:
    # Row 1: 0.3^2 + 0.2^2 + 0.1^2 = 0.14. Row 2: 0.3^2 + 0.5^2 + 0.8^2 = 0.98.
    assert brier_score([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2]], [0, 2]) == pytest.approx((0.14 + 0.98) / 2)


def test_brier_score_is_two_for_a_certain_wrong_prediction() -> None:
    assert brier_score([[1, 0, 0]], [2]) == 2.0


def test_aurc_by_hand() -> None:
    # By confidence: 0.9 wrong, 0.8, 0.7, 0.6 right, 0.5 wrong. Risks 1, 1/2, 1/3, 1/4, 2/5.
    assert aurc(PROBABILITIES, LABELS) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 2 / 5) / 5)


def test_aurc_of_tied_rows_is_the_mean_over_their_orders() -> None:
    wrong = [True, False, False, True]
    areas = [np.mean(np.cumsum(order) / np.arange(1, 5)) for order in permutations(wrong)]
    assert aurc([[0.6, 0.4]] * 4, [int(w) for w in wrong]) == pytest.approx(np.mean(areas))


def test_aurc_is_lower_if_the_wrong_rows_are_the_least_confident() -> None:
    doubt_is_right, doubt_is_wrong = [[0.9, 0.1], [0.6, 0.4]], [[0.6, 0.4], [0.9, 0.1]]
    assert aurc(doubt_is_right, [0, 1]) == pytest.approx(0.25)  # risks 0, 1/2
    assert aurc(doubt_is_wrong, [0, 1]) == pytest.approx(0.75)  # risks 1, 1/2


def test_a_tie_is_predicted_as_the_lowest_class() -> None:
    assert confusion_matrix([[0.2, 0.4, 0.4]], [2], 3).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


@given(samples())
def test_every_metric_stays_in_its_range(sample: Sample) -> None:
    metrics = classification_metrics(*sample)
    assert list(metrics) == ["error_rate", "macro_f1", "nll", "brier_score", "ece", "aurc"]
    assert all(type(value) is float for value in metrics.values())
    upper = {"error_rate": 100, "macro_f1": 1, "nll": math.inf, "brier_score": 2, "ece": 1, "aurc": 1}
    assert all(0 <= value <= upper[name] + 1e-12 for name, value in metrics.items())


@given(samples(), st.randoms())
def test_the_order_of_the_rows_does_not_matter(sample: Sample, random: Random) -> None:
    probabilities, labels = sample
    order = random.sample(range(len(labels)), len(labels))
    assert classification_metrics(probabilities[order], labels[order]) == pytest.approx(
        classification_metrics(probabilities, labels), rel=1e-9, abs=1e-12
    )


@given(samples())
def test_certain_correct_predictions_get_the_best_value_of_every_metric(sample: Sample) -> None:
    probabilities, labels = sample
    one_hot = np.eye(probabilities.shape[1])[labels]
    expected = {"error_rate": 0, "macro_f1": 1, "nll": 0, "brier_score": 0, "ece": 0, "aurc": 0}
    assert classification_metrics(one_hot, labels) == expected


@given(samples())
def test_no_error_means_no_risk_at_any_coverage(sample: Sample) -> None:
    probabilities, _ = sample
    assert aurc(probabilities, probabilities.argmax(axis=1)) == 0


@given(samples())
def test_confusion_matrix_agrees_with_counting_and_with_the_error_rate(sample: Sample) -> None:
    probabilities, labels = sample
    num_labels = probabilities.shape[1]
    counts = confusion_matrix(probabilities, labels, num_labels)
    expected = [[0] * num_labels for _ in range(num_labels)]
    for row, label in zip(probabilities, labels, strict=True):
        expected[label][int(row.argmax())] += 1
    assert counts.tolist() == expected
    assert 100 * (1 - np.trace(counts) / len(labels)) == pytest.approx(error_rate(probabilities, labels))


@given(samples())
def test_nll_agrees_with_torch_cross_entropy(sample: Sample) -> None:
    probabilities, labels = sample
    expected = torch.nn.functional.nll_loss(torch.tensor(probabilities).log(), torch.tensor(labels)).item()
    assert nll(probabilities, labels) == pytest.approx(expected)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([0.5, 0.5], [0, 1], r"probabilities must have shape \(N, K\) with N >= 1 and K >= 2, got \(2,\)"),
        (np.zeros((0, 3)), [], r"with N >= 1 and K >= 2, got \(0, 3\)"),
        ([[1.0]], [0], r"with N >= 1 and K >= 2, got \(1, 1\)"),
        ([[0.5, 0.5]], [0, 1], r"labels must have shape \(1,\), one for each row of probabilities, got \(2,\)"),
        ([[0.5, 0.5]], [0.0], "labels must be integers, got dtype float64"),
        ([[0.5, 0.5], [1.5, -0.5]], [0, 1], r"probabilities must be in \[0, 1\], got 1.5 in row 1"),
        ([[1.0005, -0.0005]], [0], r"probabilities must be in \[0, 1\], got -0.0005 in row 0"),
        ([[math.nan, 0.5]], [0], r"probabilities must be in \[0, 1\], got nan in row 0"),
        ([[0.5, 0.5], [0.5, 0.25]], [0, 1], r"probabilities must sum to 1 \(within 0.001\), got 0.75 in row 1"),
        ([[0.5, 0.5], [0.5, 0.5]], [0, 2], r"labels must be in 0..1, got 2 in row 1"),
        ([[0.5, 0.5]], [-100], r"labels must be in 0..1, got -100 in row 0"),
    ],
)
def test_invalid_input_raises_with_the_rule_and_the_value(
    function: Callable[[object, object], float], probabilities: object, labels: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        function(probabilities, labels)


def test_a_wrong_number_of_classes_raises() -> None:
    with pytest.raises(ValueError, match="probabilities must have num_labels = 4 columns, got 3"):
        confusion_matrix(PROBABILITIES, LABELS, 4)


def test_a_softmax_in_float16_is_accepted() -> None:
    logits = np.random.default_rng(0).normal(size=(64, 100)).astype(np.float16)
    weights = np.exp(logits)
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float16)
    assert brier_score(probabilities, np.zeros(64, dtype=np.int64)) < 2


def test_compute_metrics_does_not_depend_on_a_shift_of_the_logits() -> None:
    logits = np.log(np.array(PROBABILITIES) + 1e-30).astype(np.float32) + 1000.0
    expected = classification_metrics(PROBABILITIES, LABELS)
    assert compute_metrics(EvalPrediction(logits, np.array(LABELS))) == pytest.approx(expected, abs=1e-3)


def test_compute_metrics_computes_the_softmax_in_float64() -> None:
    # exp(-200) is 0 in float32: the NLL of the wrong row would be inf.
    logits = np.array([[0.0, -200.0]], dtype=np.float32)
    assert compute_metrics(EvalPrediction(logits, np.array([1])))["nll"] == pytest.approx(200)


def test_compute_metrics_reads_the_logits_from_the_first_entry_of_a_tuple() -> None:
    logits, hidden, labels = np.log(np.array(PROBABILITIES) + 1e-30), np.zeros((5, 7)), np.array(LABELS)
    both: Any = (logits, hidden)  # EvalPrediction is typed for a tuple of one
    assert compute_metrics(EvalPrediction(both, labels)) == compute_metrics(EvalPrediction(logits, labels))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to which `evaluate` would write."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("metric", "function"), list(zip(METRICS, FUNCTIONS, strict=True)))
def test_a_metric_returns_the_value_of_its_function_under_its_name(
    metric: type[evaluate_metrics.ProbabilityMetric], function: Callable[[object, object], float]
) -> None:
    result = metric().compute(predictions=PROBABILITIES, references=LABELS)
    assert result == {function.__name__: function(PROBABILITIES, LABELS)}
    assert metric().description.startswith((function.__doc__ or "").split("\n")[0])


@pytest.mark.usefixtures("cache")
def test_metrics_combine_and_accumulate_batches_of_arrays_and_tensors() -> None:
    combined = evaluate.combine([metric() for metric in METRICS])
    probabilities, labels = np.array(PROBABILITIES), np.array(LABELS)
    combined.add_batch(predictions=probabilities[:2], references=labels[:2])
    combined.add_batch(predictions=torch.tensor(probabilities[2:]), references=torch.tensor(labels[2:]))
    assert combined.compute() == classification_metrics(PROBABILITIES, LABELS)


@pytest.mark.usefixtures("cache")
def test_rows_added_one_by_one_count_once() -> None:
    metric = BrierScore()
    for probabilities, label in zip(PROBABILITIES, LABELS, strict=True):
        metric.add(prediction=probabilities, reference=label)
    assert metric.compute() == {"brier_score": brier_score(PROBABILITIES, LABELS)}
    assert metric.compute(predictions=[[1.0, 0.0]], references=[0]) == {"brier_score": 0.0}


@pytest.mark.usefixtures("cache")
def test_a_metric_raises_where_its_function_raises() -> None:
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2, got 3 in row 0"):
        ErrorRate().compute(predictions=[[0.2, 0.3, 0.5]], references=[3])


def test_rows_stay_in_memory_unless_keep_in_memory_is_false(cache: Path) -> None:
    for keep_in_memory, num_files in [(True, 0), (False, 1)]:
        metric = ErrorRate() if keep_in_memory else ErrorRate(keep_in_memory=False)
        metric.add_batch(predictions=PROBABILITIES, references=LABELS)
        assert len(list(cache.rglob("*.arrow"))) == num_files
        assert metric.compute() == {"error_rate": 40.0}


def test_importing_the_metrics_imports_no_torch_transformers_datasets_or_evaluate() -> None:
    code = "import sys, kr_text.evaluation.metrics; "
    code += "print({'torch', 'transformers', 'datasets', 'evaluate'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
