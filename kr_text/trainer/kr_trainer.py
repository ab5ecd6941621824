"""KRTrainer: the Trainer of transformers with Knowledge Refinery as its training loss."""

import json
import warnings
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from kr_text.losses.by_name import LOSSES, named_loss
from kr_text.losses.closed_form import widen
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.ranges import require_at_least
from kr_text.trainer.epochs import EpochCounter
from kr_text.trainer.loss_checks import check_head, check_loss, model_num_labels
from kr_text.trainer.residual_checkpoint import (
    LOSS_ENTRY,
    has_residual_matrix,
    load_residual_matrix,
    save_residual_matrix,
)
from kr_text.trainer.residual_rate import RESIDUAL_LEARNING_RATE, follow_schedule

LOGGED_TERMS = ("loss_hard", "loss_residual", "loss_update", "js_divergence", "alpha")


class KRTrainer(Trainer):
    """A `transformers.Trainer` that trains with `KRLoss`.

    The model's output must have `logits` (batch, num_labels) or (batch, seq_len, num_labels), and a batch must have
    `labels`.

    The residual matrix S belongs to the loss, not to the model: it has its own Adam optimizer, which steps with the
    model's optimizer, and its own learning rate, which follows the model's schedule. Checkpoints hold S and its
    optimizer. Resuming and loading the best model restore both. `eval_loss` is plain cross-entropy for every loss.

    Class weights are an argument of the loss: `loss=KRLoss(num_labels, label_smoothing=0.1, class_weights=weights)`,
    and for cross-entropy `loss=KRLoss(num_labels, alpha=0.0, class_weights=weights)`. `eval_loss` stays unweighted.

    In addition to the entries of `Trainer`, the log has the means since the last log of `loss_hard`, `loss_residual`,
    `loss_update` and `js_divergence` (D_JS(p_res || q_res), Fig. 4), in nats, and of `alpha`.

    KRTrainer can be combined with another subclass of `Trainer`: `class MyKRTrainer(KRTrainer, MyTrainer): ...`.

    Args:
        args: Positional arguments of `Trainer`.
        loss: Training loss: "ce", "ls", "kr", "kr-ls" (see `named_loss`) or a `KRLoss`, which keeps its S.
        residual_learning_rate: Peak learning rate of S.
        steps_per_epoch: Number of optimizer steps per epoch in the schedule of alpha. Set it for data without epochs,
            such as an `IterableDataset` with `max_steps`. By default alpha follows the Trainer's epochs.
        kwargs: Keyword arguments of `Trainer`.

    Raises:
        ValueError: The loss does not fit the model, or another argument would change the loss.

    Example::

        trainer = KRTrainer(model=model, args=args, train_dataset=train_dataset, loss="kr")
        trainer.train()
        learned = trainer.criterion.residual_matrix  # (num_labels, num_labels) logits
    """

    def __init__(
        self,
        *args: Any,
        loss: str | KRLoss = "kr-ls",
        residual_learning_rate: float = RESIDUAL_LEARNING_RATE,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.criterion: KRLoss | None = None  # Trainer.__init__ calls call_model_init, which reads it
        super().__init__(*args, **kwargs)
        if steps_per_epoch is not None:
            require_at_least(1, steps_per_epoch=steps_per_epoch)
        if loss == "ce":
            return
        check_head(self.model)
        self.criterion = named_loss(loss, self._num_labels()) if isinstance(loss, str) else loss
        if not isinstance(self.criterion, KRLoss):
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, or a KRLoss; got a {type(loss).__name__}")
        check_loss(self, self.criterion.num_labels)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"a process must use one device, got {self.args.n_gpu} (nn.DataParallel would copy the residual matrix "
                "to each); start the processes with `accelerate launch`"
            )
        self.criterion.to(self.args.device)
        self.residual_learning_rate = residual_learning_rate
        self._initial_matrix = self.criterion.residual_matrix.detach().clone()
        self.residual_optimizer = self._make_residual_optimizer(self.criterion)
        # Makes the Trainer count the labels of the accumulated batch, and use the loss without rescaling it.
        self.model_accepts_loss_kwargs = True
        self.label_names = self.label_names or ["labels"]  # empty for a model whose forward takes no labels
        self._logged_sums = torch.zeros(4, device=self.args.device)
        self._reset_logged_sums()
        self.add_callback(_ResidualCallback(self, self.criterion, steps_per_epoch))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns the loss of one batch, with the model's outputs if requested.

        In training, the loss is Eq. 9 or 13. Its sum over the rows is divided by `num_items_in_batch`, the number of
        labels in the accumulated batch on all processes, so neither gradient accumulation nor the number of processes
        changes the gradient. In evaluation, the loss is the mean cross-entropy. Enabled gradients mean training, since
        `model.training` is unreliable for a wrapped model (DeepSpeed).
        """
        if self.criterion is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if "labels" not in inputs:
            raise ValueError(f"a batch must have 'labels', got {', '.join(inputs)}")
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        if not isinstance(outputs, dict) and outputs[0] is None:  # an empty loss before the logits
            outputs = outputs[1:]
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        if torch.is_grad_enabled():
            loss = self._training_loss(self.criterion, logits, labels, num_items_in_batch)
        else:
            ignored = self.criterion.ignore_index
            loss = F.cross_entropy(widen(logits).flatten(0, -2), labels.flatten().long(), ignore_index=ignored)
        if not return_outputs:
            return loss
        # The Trainer expects the loss first in a tuple, as models return it when given labels.
        return loss, outputs if isinstance(outputs, dict) else (loss, *outputs)

    def _training_loss(
        self, criterion: KRLoss, logits: Tensor, labels: Tensor, num_items: Tensor | int | None
    ) -> Tensor:
        """Returns the loss to backpropagate into the model, and adds the gradient of S to `residual_matrix.grad`.

        S is outside the backward pass, so the Trainer's changes to the model's gradient (scaling for fp16, averaging
        over processes) do not affect it.
        """
        accumulated = 1
        if num_items is None:  # an overridden training_step, which divides the model's loss by `accumulated`
            num_items = self._get_num_items_in_batch([{"labels": labels}], labels.device)
            accumulated = getattr(self, "current_gradient_accumulation_steps", 1)  # exists only in train()
        loss, gradient, terms = criterion.training_step(logits, labels, num_items)
        if accumulated > 1:
            gradient, terms = gradient / accumulated, terms / accumulated
        self._logged_sums += terms
        matrix = criterion.residual_matrix
        if criterion.alpha and matrix.requires_grad:
            matrix.grad = gradient if matrix.grad is None else matrix.grad.add_(gradient)
        processes = self.accelerator.num_processes
        return loss if processes == 1 else loss * processes  # the Trainer averages over processes; this restores a sum

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """Returns the divisor of the accumulated batch's loss: its labels on all processes, or their class weights."""
        if self.criterion is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        if not batch_samples or "labels" not in batch_samples[0]:
            return None
        first, *others = (self.criterion.count(batch["labels"].to(device)) for batch in batch_samples)
        return self._sum_over_processes(sum(others, first))

    def _sum_over_processes(self, x: Tensor) -> Tensor:
        return x if self.accelerator.num_processes == 1 else cast(Tensor, self.accelerator.reduce(x, "sum"))

    def call_model_init(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Returns a new model, as `Trainer.call_model_init` does, and resets S for it."""
        if self.criterion is not None:
            self._reset_residual_matrix(self.criterion)
        model: nn.Module = super().call_model_init(*args, **kwargs)
        return model

    def _reset_residual_matrix(self, criterion: KRLoss) -> None:
        """Resets S to its initial values, and its optimizer."""
        with torch.no_grad():
            criterion.residual_matrix.copy_(self._initial_matrix)
        self.residual_optimizer = self._make_residual_optimizer(criterion)

    def _make_residual_optimizer(self, criterion: KRLoss) -> torch.optim.Adam:
        fused = criterion.residual_matrix.device.type in ("cpu", "cuda")
        return torch.optim.Adam([criterion.residual_matrix], lr=self.residual_learning_rate, fused=fused)

    def _step_residual_matrix(self, criterion: KRLoss) -> None:
        """Takes one Adam step for S, at the current fraction of its peak learning rate."""
        matrix = criterion.residual_matrix
        if matrix.grad is not None:
            matrix.grad = self._sum_over_processes(matrix.grad)
            if not self._skips_step(matrix.grad):
                follow_schedule(self.residual_optimizer, self.residual_learning_rate, self)
                self.residual_optimizer.step()
        self.residual_optimizer.zero_grad()
        self._logged_alpha += criterion.alpha
        self._logged_steps += 1

    def _skips_step(self, gradient: Tensor) -> bool:
        """Returns whether fp16 overflowed in this step. accelerate does not report it for fused optimizers."""
        if self.accelerator.scaler is None and self.accelerator.mixed_precision != "fp16":  # DeepSpeed has no scaler
            return False
        return self.accelerator.optimizer_step_was_skipped or not bool(gradient.isfinite().all())

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs as `Trainer.log` does, and adds the terms of the loss to the training loss."""
        if self.criterion is not None and "loss" in logs and self._logged_steps:
            sums = self._sum_over_processes(self._logged_sums) / self._logged_steps
            means = [*sums.tolist(), self._logged_alpha / self._logged_steps]
            logs = {**logs, **dict(zip(LOGGED_TERMS, means, strict=True))}
            self._reset_logged_sums()
        super().log(logs, *args, **kwargs)

    def _reset_logged_sums(self) -> None:
        self._logged_sums.zero_()
        self._logged_alpha, self._logged_steps = 0.0, 0

    def _discard_unfinished_step(self) -> None:
        """Clears the gradient of S and the log sums of an interrupted run. The Trainer clears the model's gradient."""
        self.residual_optimizer.zero_grad()
        self._reset_logged_sums()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model as `Trainer.save_model` does, and in a checkpoint also S and its optimizer."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.criterion is not None and self.args.should_save:
            save_residual_matrix(self.criterion, self.residual_optimizer, output_dir, self.state)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.criterion is None or checkpoint is None:
            return
        if not load_residual_matrix(self.criterion, self.residual_optimizer, checkpoint):
            warnings.warn(
                f"{checkpoint} was written without KRLoss; the residual matrix starts from its initial values",
                stacklevel=2,
            )
            self._reset_residual_matrix(self.criterion)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        checkpoint = cast(str, self.state.best_model_checkpoint)
        if self.criterion is not None and has_residual_matrix(checkpoint):
            load_residual_matrix(self.criterion, self.residual_optimizer, checkpoint)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Writes the model card of `Trainer.create_model_card`, and appends a section on the loss and its settings."""
        super().create_model_card(*args, **kwargs)
        if self.criterion is not None and self.is_world_process_zero():
            with open(Path(cast(str, self.args.output_dir)) / "README.md", "a", encoding="utf-8") as card:
                card.write(_card_section(self.criterion, self.residual_learning_rate))

    def _num_labels(self) -> int:
        num_labels = model_num_labels(self.model)
        if num_labels is None:
            raise ValueError(
                "model.config must have num_labels to choose a loss by name; or pass loss=KRLoss(num_labels)"
            )
        return num_labels


class _ResidualCallback(EpochCounter):
    """Sets alpha before each optimizer step, and steps S with the model."""

    def __init__(self, trainer: KRTrainer, criterion: KRLoss, steps_per_epoch: int | None) -> None:
        super().__init__()
        self.trainer, self.criterion, self.steps_per_epoch = trainer, criterion, steps_per_epoch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self.trainer._discard_unfinished_step()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        by_steps = self.steps_per_epoch
        self.criterion.set_epoch(self.epochs_completed if by_steps is None else state.global_step // by_steps)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer._step_residual_matrix(self.criterion)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # Trainer.save_state writes no residual matrix, so the state must not record one after the checkpoint.
        cast(dict[str, Any], state.stateful_callbacks).pop(LOSS_ENTRY, None)


def _card_section(criterion: KRLoss, residual_learning_rate: float) -> str:
    settings = {**criterion.settings(), "residual_learning_rate": residual_learning_rate}
    lines = [f"| {name} | {json.dumps(value)} |" for name, value in settings.items()]
    return (
        "\n### Training loss\n\n"
        "`KRLoss` of kr-text: Knowledge Refinery (Ding et al.: Knowledge Refinery: Learning from Decoupled Label, AAAI "
        "2021). The evaluation losses above are plain cross-entropy.\n\n"
        "| setting | value |\n| --- | --- |\n" + "\n".join(lines) + "\n"
    )
