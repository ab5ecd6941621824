"""Records the label matrices of Fig. 2 at each evaluation."""

import numpy as np
from transformers import EvalPrediction

from kr_text.evaluation.label_matrices import LabelMatrices, label_matrices
from kr_text.evaluation.metrics import compute_metrics, only_logits
from kr_text.trainer.kr_trainer import KRTrainer
from kr_text.trainer.softening_trainer import SofteningTrainer
from kr_text.training.checkpointed import Checkpointed


class LabelMatrixRecorder(Checkpointed):
    """Both the `compute_metrics` and a callback of a trainer; records the label matrices at each evaluation.

    Attributes:
        trainer: The trainer, to be set before training: it is created after its `compute_metrics`.
        matrices: One entry for each evaluation, including those before the checkpoint that training resumed from.
    """

    def __init__(self) -> None:
        self.trainer: KRTrainer | SofteningTrainer | None = None
        self.matrices: list[LabelMatrices] = []

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Records the matrices and returns the metrics of `kr_text.evaluation.metrics.compute_metrics`."""
        assert self.trainer is not None
        criterion = self.trainer.criterion
        learned = None if criterion is None else criterion.learned_residual_labels()
        matrix = None if learned is None else learned.cpu().double().numpy()
        epoch = float(self.trainer.state.epoch or 0)
        logits, labels = only_logits(prediction.predictions), np.asarray(prediction.label_ids)
        self.matrices.append(label_matrices(logits, labels, matrix, epoch))
        return compute_metrics(prediction)

    def record(self) -> list[LabelMatrices]:
        """The recorded matrices."""
        return self.matrices

    def restore(self, record: list[LabelMatrices]) -> None:
        """Continues after the matrices in a record."""
        self.matrices = record
