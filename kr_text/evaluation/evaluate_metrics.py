"""Metrics for the library `evaluate`: each function of `kr_text.evaluation.metrics` as an `evaluate.Metric`.

`predictions` are class probabilities (N, K), `references` are labels (N,). The result's key is the function's name.
Nothing is downloaded from the Hub.

>>> BrierScore().compute(predictions=[[1.0, 0.0], [0.5, 0.5]], references=[0, 1])
{'brier_score': 0.25}

`evaluate.combine([ErrorRate(), ECE()])` works too. Importing this module takes seconds, because it imports `evaluate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy.typing as npt

from kr_text.evaluation import calibration, metrics


class ProbabilityMetric(evaluate.Metric):  # type: ignore[misc]  # its base has no types
    """Base class: an `evaluate.Metric` that computes `function`.

    Args:
        keep_in_memory: Keep added rows in memory instead of a file under `~/.cache/huggingface`. Must be False if
            several processes compute one metric (`num_process > 1`).
        **settings: Arguments of `evaluate.Metric`: `num_process`, `process_id`, `experiment_id`, `cache_dir`, ...
    """

    function: Callable[[npt.ArrayLike, npt.ArrayLike], float]

    def __init__(self, *, keep_in_memory: bool = True, **settings: Any) -> None:
        super().__init__(keep_in_memory=keep_in_memory, **settings)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=inspect.getdoc(self.function),
            citation="",
            inputs_description="\n\npredictions: class probabilities (N, K). references: labels (N,).",
            features=datasets.Features(
                {"predictions": datasets.List(datasets.Value("float64")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, *, predictions: list[list[float]], references: list[int]) -> dict[str, float]:
        return {self.function.__name__: self.function(predictions, references)}


class ErrorRate(ProbabilityMetric):
    """Error rate, in %."""

    function = staticmethod(metrics.error_rate)


class MacroF1(ProbabilityMetric):
    """Macro F1, in [0, 1]."""

    function = staticmethod(metrics.macro_f1)


class NLL(ProbabilityMetric):
    """Negative log-likelihood, in nats."""

    function = staticmethod(metrics.nll)


class BrierScore(ProbabilityMetric):
    """Multi-class Brier score, in [0, 2]."""

    function = staticmethod(metrics.brier_score)


class ECE(ProbabilityMetric):
    """Expected calibration error of the predicted class, in [0, 1]."""

    function = staticmethod(calibration.ece)


class AURC(ProbabilityMetric):
    """Area under the risk-coverage curve, in [0, 1]."""

    function = staticmethod(metrics.aurc)
