"""SofteningTrainer: the Trainer of transformers with a `SofteningLoss` as its training loss."""

import inspect
import os
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from kr_text.losses.closed_form import divisor, widen
from kr_text.losses.softening_loss import SofteningLoss, last_linear
from kr_text.trainer.epochs import EpochCounter
from kr_text.trainer.loss_checks import check_head, check_loss
from kr_text.trainer.mutual_pair import MutualPair
from kr_text.trainer.residual_checkpoint import SOFTENING_FILE, load_loss, save_loss
from kr_text.trainer.residual_rate import RESIDUAL_LEARNING_RATE, follow_schedule


class SofteningTrainer(Trainer):
    """A `transformers.Trainer` that trains a classifier with a `SofteningLoss`, in one process and on one device.

    The model's output must have `logits` (batch, num_labels), and each batch must have `labels` (batch,);
    ignored labels are not supported.

    The parameters of the loss belong to the loss, not to the model: they have their own Adam optimizer, which steps
    with the model's optimizer, and their own learning rate, which follows the model's schedule. Checkpoints hold the
    loss and its optimizer. Resuming and loading the best model restore both. `eval_loss` is plain cross-entropy.

    Args:
        args: Positional arguments of `Trainer`.
        loss: Training loss. If it needs a teacher, a batch must also have `teacher_logits` (batch, num_labels). If it
            needs a peer, the model must be a `MutualPair`.
        loss_learning_rate: Peak learning rate of the loss's parameters.
        kwargs: Keyword arguments of `Trainer`, except `model_init`.

    Raises:
        ValueError: The loss does not fit the model or the other arguments.

    Example::

        loss = make_loss("ls++", model, num_labels, {})
        trainer = SofteningTrainer(model=model, args=args, train_dataset=train_dataset, loss=loss)
        trainer.train()
        learned = dict(loss.named_parameters())
    """

    def __init__(
        self, *args: Any, loss: SofteningLoss, loss_learning_rate: float = RESIDUAL_LEARNING_RATE, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.criterion = loss
        self._check_arguments()
        loss.to(self.args.device)
        self.loss_learning_rate = loss_learning_rate
        parameters = list(loss.parameters())
        self.loss_optimizer = torch.optim.Adam(parameters, lr=loss_learning_rate) if parameters else None
        self.epochs_ended = 0  # calls of loss.end_epoch()
        self.model_accepts_loss_kwargs = True  # makes the Trainer count the rows of the accumulated batch
        self.label_names = ["labels"]  # the signature of MutualPair.forward does not name them
        self._features: Tensor | None = None
        if loss.needs_features:
            head = last_linear(cast(nn.Module, self.model), loss.num_labels)
            head.register_forward_pre_hook(self._keep_features)
        self.add_callback(_LossCallback(self))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns the loss of one batch, with the model's outputs if requested.

        In training, the sum of the criterion over the rows is divided by `num_items_in_batch`, the number of rows in
        the accumulated batch, or with class weights the sum of their weights. In evaluation, the loss is the mean
        cross-entropy.
        """
        labels = inputs["labels"].long()
        outputs = model(**{name: inputs[name] for name in inputs if name not in ("labels", "teacher_logits")})
        logits = outputs["logits"]
        if torch.is_grad_enabled():
            loss = self.criterion(logits, labels, *self._further_inputs(inputs, outputs))
            if num_items_in_batch is not None:
                loss = loss * (self.criterion.count(labels) / divisor(num_items_in_batch))
        else:
            loss = F.cross_entropy(widen(logits), labels)
        self._features = None
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """Returns the divisor of the accumulated batch's loss: its number of rows, or their class weights."""
        return sum(self.criterion.count(batch["labels"].to(device).long()) for batch in batch_samples)

    def _further_inputs(self, inputs: dict[str, Any], outputs: Any) -> list[Tensor]:
        """Returns the arguments of the loss after the logits and labels."""
        further = []
        if self.criterion.needs_features:
            features = cast(Tensor, self._features)
            if features.dim() != 2:
                shape = tuple(features.shape)
                raise ValueError(f"input of the last linear layer must be (batch, num_features), got {shape}")
            further.append(features)
        if self.criterion.needs_teacher:
            if "teacher_logits" not in inputs:
                raise ValueError(f"a batch must have 'teacher_logits' for this loss, got {', '.join(inputs)}")
            further.append(inputs["teacher_logits"])
        if self.criterion.needs_peer:
            further.append(outputs["peer_logits"])
        return further

    def _keep_features(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        names = ["teacher_logits"]
        if isinstance(self.model, MutualPair):
            names += inspect.signature(self.model.first.forward).parameters
        columns: Any = self._signature_columns  # a list after the call above
        columns.extend(name for name in names if name not in columns)

    def _step_loss(self) -> None:
        """Takes one Adam step for the loss's parameters, at the current fraction of their peak learning rate."""
        if self.loss_optimizer is not None:
            follow_schedule(self.loss_optimizer, self.loss_learning_rate, self)
            self.loss_optimizer.step()
            self.loss_optimizer.zero_grad()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model as `Trainer.save_model` does, and in a checkpoint also the loss and its optimizer."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.args.should_save:
            path = os.path.join(output_dir, SOFTENING_FILE)
            save_loss(path, self.criterion, self.loss_optimizer, epochs_ended=self.epochs_ended)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._load_loss(checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_loss(cast(str, self.state.best_model_checkpoint))

    def _load_loss(self, checkpoint: str) -> None:
        counters = load_loss(os.path.join(checkpoint, SOFTENING_FILE), self.criterion, self.loss_optimizer)
        self.epochs_ended = counters["epochs_ended"]

    def _check_arguments(self) -> None:
        processes = max(self.accelerator.num_processes, self.args.n_gpu)
        if processes > 1:
            raise ValueError(f"SofteningTrainer must run in one process, on one device, got {processes}")
        if self.model_init is not None:
            raise ValueError("model_init must be None: a second model would continue with the loss of the first")
        if self.args.fp16:
            raise ValueError(
                "fp16 must be False, got True: its gradient scaling would reach the parameters of the loss; use bf16"
            )
        check_head(self.model)
        check_loss(self, self.criterion.num_labels)
        if self.criterion.needs_peer and not isinstance(self.model, MutualPair):
            raise ValueError(f"model must be a MutualPair for this loss, got {type(self.model).__name__}")


class _LossCallback(EpochCounter):
    """Reports epochs to the loss, and steps the loss's optimizer with the model's.

    The loss is told the end of an epoch when the next epoch begins. The Trainer writes a checkpoint at the last step
    of an epoch before it ends the epoch, so a run resumed from that checkpoint would never report the end.
    """

    def __init__(self, trainer: SofteningTrainer) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self.trainer.loss_optimizer is not None:
            self.trainer.loss_optimizer.zero_grad()  # clears the gradient of an interrupted run
        if not state.global_step:  # a resumed run has these from its checkpoint
            self.trainer.epochs_ended = 0
            self.trainer.criterion.begin()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_epoch_begin(args, state, control, **kwargs)
        while self.trainer.epochs_ended < self.epochs_completed:
            self.trainer.criterion.end_epoch()
            self.trainer.epochs_ended += 1
        self.trainer.criterion.set_epoch(self.epochs_completed)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer._step_loss()
