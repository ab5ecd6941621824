"""Records the label matrices of Fig. 2 at each evaluation."""

import numpy as np
from transformers import EvalPrediction

from kr_text.evaluation.label_matrices import LabelMatrices, label_matrices
from kr_text.evaluation.metrics import compute_metrics, only_logits
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.trainer.kr_trainer import KRTrainer
from kr_text.trainer.softening_trainer import SofteningTrainer
from kr_text.training.checkpointed import Checkpointed


class LabelMatrixRecorder(Checkpointed):
    """A `compute_metrics`, and a callback of the same trainer, that notes the label matrices at each evaluation.

    Attributes:
        trainer: to be set before training, since a trainer is made with its `compute_metrics`.
        matrices: one entry for each evaluation so far, before the checkpoint that training goes on from too.
    """

    def __init__(self) -> None:
        self.trainer: KRTrainer | SofteningTrainer | None = None
        self.matrices: list[LabelMatrices] = []

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """The metrics, as from `kr_text.evaluation.metrics.compute_metrics`."""
        assert self.trainer is not None
        criterion, learned = self.trainer.criterion, None
        if isinstance(criterion, KRLoss) and criterion.residual_matrix.any():  # else it is not learned
            learned = criterion.residual_labels().cpu().double().numpy()
        epoch = float(self.trainer.state.epoch or 0)
        logits, labels = only_logits(prediction.predictions), np.asarray(prediction.label_ids)
        self.matrices.append(label_matrices(logits, labels, learned, epoch))
        return compute_metrics(prediction)

    def record(self) -> list[LabelMatrices]:
        """The entries."""
        return self.matrices

    def restore(self, record: list[LabelMatrices]) -> None:
        """Takes those of before."""
        self.matrices = record
