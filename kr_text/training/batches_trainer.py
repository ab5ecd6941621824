"""The trainers of the command line: KRTrainer and SofteningTrainer for `Batches`."""

from typing import Any, cast

import torch
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import TrainOutput

from kr_text.kernels.dispatch import HAS_NUMBA
from kr_text.kernels.loop_threads import threads_for_loops
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.losses.softening_loss import SofteningLoss
from kr_text.models.fasttext import FastTextForSequenceClassification
from kr_text.text.batches import Batches, ShuffledRows
from kr_text.trainer.kr_trainer import KRTrainer
from kr_text.trainer.softening_trainer import SofteningTrainer
from kr_text.training.arguments import GROUP_BY_LENGTH, RunArguments


class BatchesTrainer(Trainer):
    """A Trainer for `Batches`.

    It takes the norm of gradients for clipping only, since torch has none for those of a sparse table, and groups rows
    by length in a moment. FastText trains with all threads in its loops.
    """

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`."""
        parts = cast(nn.Module, self.model).modules()  # a pair has two of them
        if not (HAS_NUMBA and any(isinstance(part, FastTextForSequenceClassification) for part in parts)):
            return super().train(*args, **kwargs)
        with threads_for_loops():
            return super().train(*args, **kwargs)

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> torch.utils.data.DataLoader[Any]:
        """As `Trainer.get_eval_dataloader`, of all rows: what `dataloader_drop_last` drops are rows of training."""
        given, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return super().get_eval_dataloader(*args, **kwargs)
        finally:
            self.args.dataloader_drop_last = given

    def _load_callback_state(self) -> None:
        """Nothing: ours read their records by themselves, and the Trainer would put other callbacks in their place."""

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        return grad_norm

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        if any(getattr(self.args, name) != value for name, value in GROUP_BY_LENGTH.items()):
            return super()._get_train_sampler(train_dataset)
        rows = cast(Batches, self.train_dataset if train_dataset is None else train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ShuffledRows(rows, batch_size, seed)


class ClassifierTrainer(BatchesTrainer, KRTrainer):
    """A KRTrainer for `Batches`."""


class SofteningClassifierTrainer(BatchesTrainer, SofteningTrainer):
    """A SofteningTrainer for `Batches`."""


ClassifierTrainers = ClassifierTrainer | SofteningClassifierTrainer


def make_trainer(run: RunArguments, criterion: KRLoss | SofteningLoss | None, **kwargs: Any) -> ClassifierTrainers:
    """The trainer for a loss, with what every Trainer takes."""
    rate = run.residual_learning_rate
    if isinstance(criterion, SofteningLoss):
        return SofteningClassifierTrainer(loss=criterion, loss_learning_rate=rate, **kwargs)
    return ClassifierTrainer(loss=criterion or "ce", residual_learning_rate=rate, **kwargs)
