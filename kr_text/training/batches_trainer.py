"""KRTrainer and SofteningTrainer for `Batches`, the encoded rows that the command line trains on."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction, TrainOutput

from kr_text.evaluation.metrics import only_logits
from kr_text.kernels.dispatch import HAS_NUMBA
from kr_text.kernels.loop_threads import threads_for_loops
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.losses.softening_loss import SofteningLoss
from kr_text.models.fasttext import FastTextForSequenceClassification
from kr_text.text.batches import Batches, ShuffledRows
from kr_text.text.windows import text_labels, text_logits
from kr_text.trainer.kr_trainer import KRTrainer
from kr_text.trainer.softening_trainer import SofteningTrainer
from kr_text.training.arguments import GROUP_BY_LENGTH
from kr_text.training.run_arguments import RunArguments


class BatchesTrainer(Trainer):
    """A Trainer for `Batches`.

    Groups rows by length with `ShuffledRows`, which also samples by class. Evaluates all rows: `dataloader_drop_last`
    applies to training only. Does not log the gradient norm: PyTorch cannot compute it for sparse gradients. Gives the
    compiled loops of FastText all threads. For windows of texts, predictions, metrics and the loss of an evaluation are
    those of the texts.

    Attributes:
        class_sampling: "balanced" to draw as many training rows from every class; None to train on each row once.
    """

    class_sampling: str | None = None

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trains as `Trainer.train` does."""
        parts = cast(nn.Module, self.model).modules()  # the model may be a pair of FastTexts
        if not (HAS_NUMBA and any(isinstance(part, FastTextForSequenceClassification) for part in parts)):
            return super().train(*args, **kwargs)
        with threads_for_loops():
            return super().train(*args, **kwargs)

    def predict_logits(self, rows: Batches) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Logits (N, K) and labels (N,) of all rows, in their order; of the texts if the rows are windows."""
        loader = self._all_rows(rows, SequentialSampler(rows))
        output = self.evaluation_loop(loader, "Prediction", prediction_loss_only=False)
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, cast(Any, output.metrics))
        return only_logits(output.predictions), cast(npt.NDArray[np.int64], output.label_ids)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Loads all rows for evaluation, in the order of `Trainer`'s sampler; windows in their order."""
        rows = cast(Batches, self.eval_dataset if eval_dataset is None else eval_dataset)
        sampler = self._get_eval_sampler(cast(Any, rows)) if rows.texts is None else SequentialSampler(rows)
        return self._all_rows(rows, sampler)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluates as `Trainer.evaluation_loop` does; turns the predictions for windows into those for texts."""
        texts = cast(Batches, dataloader.dataset).texts
        if texts is None:
            return super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        of_texts = self.compute_metrics
        self.compute_metrics = of_texts and (lambda windows: of_texts(_prediction_for_texts(windows, texts)))
        try:  # the loss of texts needs the predictions
            output = super().evaluation_loop(dataloader, description, False, ignore_keys, metric_key_prefix)
        finally:
            self.compute_metrics = of_texts
        logits, labels = _prediction_for_texts(output, texts)
        loss = -logits[np.arange(len(labels)), labels].mean()
        metrics = {**cast(dict[str, float], output.metrics), f"{metric_key_prefix}_loss": float(loss)}
        return EvalLoopOutput(logits, labels, metrics, len(labels))

    def _all_rows(self, rows: Batches, sampler: Sampler[int] | None) -> DataLoader[Any]:
        loader: DataLoader[Any] = DataLoader(
            rows,
            batch_size=self.args.eval_batch_size,
            sampler=sampler,
            collate_fn=self._get_collator_with_removed_columns(self.data_collator, description="evaluation"),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context=getattr(self.args, "dataloader_multiprocessing_context", None),  # not in 5.0
        )
        return cast(DataLoader[Any], self.accelerator.prepare(loader))

    def _load_callback_state(self) -> None:
        """Leaves the callbacks alone: `Checkpointed` restores its record itself, and the Trainer would replace it."""

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        return grad_norm

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if any(getattr(self.args, name) != value for name, value in GROUP_BY_LENGTH.items()):
            return super()._get_train_sampler(train_dataset)
        rows = cast(Batches, self.train_dataset if train_dataset is None else train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ShuffledRows(rows, batch_size, seed, balanced=self.class_sampling is not None)


def _prediction_for_texts(windows: EvalPrediction | EvalLoopOutput, texts: npt.NDArray[np.int64]) -> EvalPrediction:
    """Predictions (N, K) and labels (N,) of texts, from those of their windows."""
    logits, labels = only_logits(windows.predictions), np.asarray(windows.label_ids)
    return EvalPrediction(text_logits(logits, texts), text_labels(labels, texts))


class ClassifierTrainer(BatchesTrainer, KRTrainer):
    """A KRTrainer for `Batches`."""


class SofteningClassifierTrainer(BatchesTrainer, SofteningTrainer):
    """A SofteningTrainer for `Batches`."""


ClassifierTrainers = ClassifierTrainer | SofteningClassifierTrainer


def make_trainer(run: RunArguments, criterion: KRLoss | SofteningLoss | None, **kwargs: Any) -> ClassifierTrainers:
    """The trainer for a loss; None is cross-entropy. Passes `kwargs` on to the trainer."""
    rate = run.residual_learning_rate
    trainer: ClassifierTrainers
    if isinstance(criterion, SofteningLoss):
        trainer = SofteningClassifierTrainer(loss=criterion, loss_learning_rate=rate, **kwargs)
    else:
        trainer = ClassifierTrainer(loss=criterion or "ce", residual_learning_rate=rate, **kwargs)
    trainer.class_sampling = run.class_sampling
    return trainer
