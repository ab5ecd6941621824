"""SofteningTrainer: the Trainer of transformers with a `SofteningLoss`, as KRTrainer is it with `KRLoss`."""

import inspect
import os
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from kr_text.losses.closed_form import widen
from kr_text.losses.softening_loss import SofteningLoss, last_linear
from kr_text.trainer.epochs import EpochCounter, share_of_peak
from kr_text.trainer.mutual_pair import MutualPair

LOSS_FILE = "softening_loss.safetensors"


class SofteningTrainer(Trainer):
    """A `transformers.Trainer` that trains a classifier with a `SofteningLoss`.

    For models whose output has `logits` (batch, num_labels), and batches that have `labels` (batch,), all of them
    classes; in one process, on one device. What the loss learns has an Adam optimizer of its own, which steps when the
    model's does, and a learning rate that follows the model's schedule. Checkpoints hold the loss and its optimizer,
    and resuming, or loading the best model, restores both. `eval_loss` is the plain cross-entropy.

    Args:
        args: as for `Trainer`, positional ones too.
        loss: where it needs a teacher, batches have `teacher_logits` (batch, num_labels) too; where it needs a peer,
            the model is a `MutualPair`.
        loss_learning_rate: of the loss's parameters, where the model's schedule is at its peak.
        kwargs: as for `Trainer`, but for `model_init`.

    Raises:
        ValueError: a loss that does not fit the model, or arguments that do not fit the loss.
    """

    def __init__(self, *args: Any, loss: SofteningLoss, loss_learning_rate: float = 1e-2, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.criterion = loss
        self._check_loss()
        loss.to(self.args.device)
        self.loss_learning_rate = loss_learning_rate
        parameters = list(loss.parameters())
        self.loss_optimizer = torch.optim.Adam(parameters, lr=loss_learning_rate) if parameters else None
        self.epochs_ended = 0  # which the loss was told of
        self.model_accepts_loss_kwargs = True  # so the Trainer counts the rows of the accumulated batch
        self.label_names = ["labels"]  # a pair's signature does not tell
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
        """The loss of one batch: in training that of the criterion, in evaluation cross-entropy; or with the outputs.

        In training the sum over the rows is divided by `num_items_in_batch`, the rows of the accumulated batch.
        """
        labels = inputs["labels"].long()
        outputs = model(**{name: inputs[name] for name in inputs if name not in ("labels", "teacher_logits")})
        logits = outputs["logits"]
        if torch.is_grad_enabled():
            loss = self.criterion(logits, labels, *self._needed(inputs, outputs))
            if num_items_in_batch is not None:
                loss = loss * (len(labels) / num_items_in_batch)
        else:
            loss = F.cross_entropy(widen(logits), labels)
        self._features = None
        return (loss, outputs) if return_outputs else loss

    def _needed(self, inputs: dict[str, Any], outputs: Any) -> list[Tensor]:
        """What the loss is called with after logits and labels."""
        needed = []
        if self.criterion.needs_features:
            features = cast(Tensor, self._features)
            if features.dim() != 2:
                raise ValueError(f"the last layer must see one row of features a text, got {tuple(features.shape)}")
            needed.append(features)
        if self.criterion.needs_teacher:
            if "teacher_logits" not in inputs:
                raise ValueError(f"a batch must have 'teacher_logits' for this loss, got {', '.join(inputs)}")
            needed.append(inputs["teacher_logits"])
        if self.criterion.needs_peer:
            needed.append(outputs["peer_logits"])
        return needed

    def _keep_features(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        names = ["teacher_logits"]
        if isinstance(self.model, MutualPair):
            names += inspect.signature(self.model.first.forward).parameters
        columns: Any = self._signature_columns  # a list by now
        columns.extend(name for name in names if name not in columns)

    def _step_loss(self) -> None:
        """One Adam step for the loss's parameters, at their learning rate times where the model's schedule stands."""
        if self.loss_optimizer is not None:
            share = share_of_peak(self.optimizer, self.args.learning_rate)
            self.loss_optimizer.param_groups[0]["lr"] = self.loss_learning_rate * share
            self.loss_optimizer.step()
            self.loss_optimizer.zero_grad()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`; a checkpoint has the loss and its optimizer too."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.args.should_save:
            self._save_loss(output_dir)

    def _save_loss(self, checkpoint: str) -> None:
        tensors = {f"loss.{name}": value for name, value in self.criterion.state_dict().items()}
        if self.loss_optimizer is not None:
            for name, parameter in self.criterion.named_parameters():
                state = self.loss_optimizer.state[parameter]
                tensors |= {f"adam.{name}.{field}": value for field, value in state.items()}
        tensors["epochs_ended"] = torch.tensor(self.epochs_ended)
        save_file({name: value.contiguous() for name, value in tensors.items()}, _loss_file(checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._load_loss(checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_loss(cast(str, self.state.best_model_checkpoint))

    def _load_loss(self, checkpoint: str) -> None:
        """Restores the loss and its optimizer from a checkpoint, bit for bit."""
        path = _loss_file(checkpoint)
        if not os.path.isfile(path):
            raise ValueError(f"{checkpoint} must hold {LOSS_FILE}, and does not; resume from another, or start anew")
        tensors = load_file(path, device=str(self.args.device))
        self.criterion.load_state_dict(_with_prefix(tensors, "loss."))
        if self.loss_optimizer is not None:
            for name, parameter in self.criterion.named_parameters():
                self.loss_optimizer.state[parameter] = _with_prefix(tensors, f"adam.{name}.")
        self.epochs_ended = int(tensors["epochs_ended"])

    def _check_loss(self) -> None:
        loss, processes = self.criterion, max(self.accelerator.num_processes, self.args.n_gpu)
        if processes > 1:
            raise ValueError(f"SofteningTrainer must run in one process, on one device, got {processes}")
        if self.model_init is not None:
            raise ValueError("model_init must be None: the loss would go on from one model to the next")
        if self.args.fp16:
            raise ValueError("fp16 must be False, got True, which scales the gradients of the loss too; use bf16")
        if self.args.label_smoothing_factor:
            raise ValueError(f"label_smoothing_factor must be 0, got {self.args.label_smoothing_factor}")
        if self.compute_loss_func is not None:
            raise ValueError("compute_loss_func must be None: the loss is the argument loss")
        num_labels = getattr(getattr(self.model, "config", None), "num_labels", loss.num_labels)
        if num_labels != loss.num_labels:
            raise ValueError(f"loss must be for the model's {num_labels} labels, got one for {loss.num_labels}")
        if loss.needs_peer and not isinstance(self.model, MutualPair):
            raise ValueError(f"model must be a MutualPair for this loss, got {type(self.model).__name__}")


class _LossCallback(EpochCounter):
    """Tells the loss of epochs, and steps it with the model.

    An epoch ends for the loss when the next one begins: a checkpoint at the last step of an epoch is written before
    the Trainer ends it, and a run that resumes from there would not hear of its end.
    """

    def __init__(self, trainer: SofteningTrainer) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self.trainer.loss_optimizer is not None:
            self.trainer.loss_optimizer.zero_grad()  # what a run that was interrupted has added up
        if not state.global_step:  # else a checkpoint has told
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


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _loss_file(checkpoint: str) -> str:
    return os.path.join(checkpoint, LOSS_FILE)
