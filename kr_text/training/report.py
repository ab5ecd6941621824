"""The report of one run: the types of report.json.

In report.json, a number that is not finite (an infinite NLL, a missing measurement) is null, since JSON has neither nan
nor inf. `report_markdown.py` renders the report for people.
"""

from __future__ import annotations

from typing import Any, TypedDict

from kr_text.evaluation.classes import ClassMetrics
from kr_text.evaluation.label_matrices import LabelMatrices
from kr_text.formats.markdown import Number
from kr_text.machine.environment import Environment
from kr_text.machine.process import PeakMemory

PREDICTIONS_FILE = "test_predictions.safetensors"  # beside the report: probabilities and labels of the test rows

PICTURE_FILE = "confusion_matrix.png"  # beside the report, if matplotlib is installed


class Model(TypedDict):
    """Trained classifier."""

    name: str
    num_parameters: int


class Dataset(TypedDict):
    """Data set, with the number of rows that were used of each split.

    Attributes:
        num_unlabelled_test_rows: Rows of a test split without labels; the test rows are cut from train then.
        left_out_rows: Number of rows without a text or a known label in each split of the data set.
        duplicates: Numbers by the keys of `kr_text.data.duplicates.COUNTS`.
    """

    name: str
    class_names: list[str]
    num_train_rows: int
    num_validation_rows: int
    num_test_rows: int
    num_unlabelled_test_rows: int
    left_out_rows: dict[str, int]
    duplicates: dict[str, int]


class LongTexts(TypedDict):
    """Numbers of texts in each split that are longer than the model reads at a time.

    Attributes:
        max_length: Number of tokens that the model reads at a time.
        window_stride: Number of tokens that neighbouring windows of a long text share; None if it was truncated.
    """

    max_length: int
    window_stride: int | None
    num_train: int
    num_validation: int
    num_test: int


class Loss(TypedDict):
    """Training loss and its settings."""

    name: str
    settings: dict[str, Any]


class Epoch(TypedDict):
    """Losses (nats) and error rate (%) at the end of an epoch.

    Attributes:
        training_loss: Mean of the loss that is minimized.
        loss_terms: Means over the epoch of `loss_hard`, `loss_residual`, `loss_update`, `js_divergence` and `alpha`;
            empty for losses other than ls, kr, kr-ls, and ce with class weights.
        validation_loss: Cross-entropy.
        metric_for_best_model: The metric that chooses the best epoch; see `hyper_parameters` for its name.
    """

    epoch: float
    training_loss: Number
    loss_terms: dict[str, Number]
    validation_loss: Number
    validation_error_rate: Number
    metric_for_best_model: Number


class TemperatureScaling(TypedDict):
    """Temperature with the lowest NLL on the validation rows, and the test metrics at that temperature."""

    temperature: Number
    test_metrics: dict[str, Number]


class Stopping(TypedDict):
    """Early stopping.

    Attributes:
        patience: Number of evaluations in a row without a better metric after which training stops.
        stopped: Whether training stopped before its last epoch.
    """

    patience: int
    stopped: bool


class Mistake(TypedDict):
    """A wrongly predicted test row.

    Attributes:
        text: Its text, at most 200 characters of it.
        label: Its true class.
        prediction: The predicted class.
        probability: Probability of the predicted class.
    """

    text: str
    label: str
    prediction: str
    probability: float


class WallTime(TypedDict):
    """Elapsed seconds.

    Attributes:
        total: From the start of the command to the report, plus the training before the run was resumed.
        training: Training with its evaluations and checkpoints, also before the run was resumed.
        evaluation: Predictions for the validation and test rows.
    """

    total: float
    training: float
    evaluation: float


class Report(TypedDict):
    """The content of report.json.

    Attributes:
        hyper_parameters: Training arguments that differ from the Trainer's defaults.
        class_sampling: "balanced" if as many training rows were drawn from every class; None if each row once.
        early_stopping: None without a patience.
        best_epoch: Epoch of the kept model.
        validation_metrics: Result of `classification_metrics` on the validation rows; each is None, as in
            `temperature_scaling`, if the model was trained on these rows.
        test_metrics: Result of `classification_metrics` on the test rows.
        class_metrics: Precision, recall, F1 and support of each class on the test rows.
        mistakes: The ten wrong predictions of test rows with the highest probability; empty in a folder of results.
        confusion_matrix: (K, K), number of test rows by true class (row) and predicted class (column).
        residual_labels: (K, K), row k is the learned distribution over the classes other than k; None if the loss
            learned none.
        label_matrices: Label matrices by epoch; None unless the flag label_matrices was given.
    """

    command: str
    model: Model
    dataset: Dataset
    long_texts: LongTexts
    loss: Loss
    seed: int
    device: str
    hyper_parameters: dict[str, Any]
    class_sampling: str | None
    early_stopping: Stopping | None
    best_epoch: float
    epochs: list[Epoch]
    validation_metrics: dict[str, Number]
    test_metrics: dict[str, Number]
    class_metrics: list[ClassMetrics]
    mistakes: list[Mistake]
    temperature_scaling: TemperatureScaling
    confusion_matrix: list[list[int]]
    residual_labels: list[list[float]] | None
    label_matrices: list[LabelMatrices] | None
    wall_time_seconds: WallTime
    peak_memory_mb: PeakMemory
    environment: Environment
