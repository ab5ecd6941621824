"""KRTrainer: the Trainer of transformers with Knowledge Refinery as its loss, and nothing else changed."""

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
from kr_text.trainer.epochs import EpochCounter, share_of_peak
from kr_text.trainer.residual_checkpoint import (
    LOSS_ENTRY,
    has_residual_matrix,
    load_residual_matrix,
    save_residual_matrix,
)

LOGGED_TERMS = ("loss_hard", "loss_residual", "loss_update", "js_divergence", "alpha")


class KRTrainer(Trainer):
    """A `transformers.Trainer` that trains with `KRLoss`.

    It works for every model whose output has `logits`, (batch, num_labels) or (batch, seq_len, num_labels), and whose
    inputs have `labels`. The residual matrix belongs to the loss, not to the model: it has an Adam optimizer of its
    own, which steps when the model's does, and its own learning rate, which follows the model's schedule. Checkpoints
    hold both, and resuming restores them. `eval_loss` is the plain cross-entropy, whatever the training loss.

    Beside what `Trainer` logs there are, as means since the last log, `loss_hard`, `loss_residual`, `loss_update` and
    `js_divergence` (D_JS(p_res || q_res), Fig. 4), all in nats, and `alpha`.

    In front of another subclass of `Trainer` it does the same: `class Mine(KRTrainer, Theirs): ...`.

    Args:
        args: as for `Trainer`, positional ones too.
        loss: "ce", "ls", "kr", "kr-ls" (see `named_loss`) or a `KRLoss`, which brings what it has learned along.
        residual_learning_rate: of the residual matrix, where the model's schedule is at its peak.
        steps_per_epoch: how many optimizer steps make an epoch for alpha, where the training data has no epochs, as an
            `IterableDataset` with `max_steps`; by default alpha follows the Trainer's epochs.
        kwargs: as for `Trainer`.

    Raises:
        ValueError: a loss that does not fit the model, or another argument that would change the loss.
    """

    def __init__(
        self,
        *args: Any,
        loss: str | KRLoss = "kr-ls",
        residual_learning_rate: float = 1e-2,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.criterion: KRLoss | None = None  # so far: a model_init is called in what follows
        super().__init__(*args, **kwargs)
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
        self.steps_per_epoch = steps_per_epoch
        if loss != "ce":
            _check_head(self.model)
        if loss == "ce":
            return
        self.criterion = named_loss(loss, self._num_labels()) if isinstance(loss, str) else loss
        if not isinstance(self.criterion, KRLoss):
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, or a KRLoss; got a {type(loss).__name__}")
        self._check_loss(self.criterion)
        self.criterion.to(self.args.device)
        self.residual_learning_rate = residual_learning_rate
        self._initial_matrix = self.criterion.residual_matrix.detach().clone()
        self.residual_optimizer = self._make_residual_optimizer(self.criterion)
        # So the Trainer counts the labels of the accumulated batch, and leaves the loss as compute_loss gives it.
        self.model_accepts_loss_kwargs = True
        self.label_names = self.label_names or ["labels"]  # which the model need not take
        self._logged_sums = torch.zeros(4, device=self.args.device)
        self._forget_sums()
        self.add_callback(_ResidualCallback(self))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of one batch: Eq. 9 or 13 in training, cross-entropy in evaluation; or with the model's outputs.

        Training is where gradients are enabled: a wrapped model, as DeepSpeed's, need not say whether it trains. There
        the sum over the rows is divided by `num_items_in_batch`, the labels of the accumulated batch on all
        processes, so that neither accumulation nor the number of processes changes the gradient.
        """
        if self.criterion is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if "labels" not in inputs:
            raise ValueError(f"a batch must have 'labels', got {', '.join(inputs)}")
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        if not isinstance(outputs, dict) and outputs[0] is None:  # in the place of the loss
            outputs = outputs[1:]
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        if torch.is_grad_enabled():
            loss = self._training_loss(self.criterion, logits, labels, num_items_in_batch)
        else:
            ignored = self.criterion.ignore_index
            loss = F.cross_entropy(widen(logits).flatten(0, -2), labels.flatten().long(), ignore_index=ignored)
        if not return_outputs:
            return loss
        return loss, outputs if isinstance(outputs, dict) else (loss, *outputs)  # as a model that was given labels

    def _training_loss(
        self, criterion: KRLoss, logits: Tensor, labels: Tensor, num_items: Tensor | int | None
    ) -> Tensor:
        """The loss to backpropagate into the model; the gradient of the residual matrix is added up here, on its own.

        So what the Trainer does to the model's gradient (scaling for fp16, averaging over processes) leaves that of the
        residual matrix alone.
        """
        accumulated = 1
        if num_items is None:  # from a training_step of the user's own, which divides the model's loss by `accumulated`
            num_items = self._get_num_items_in_batch([{"labels": labels}], labels.device)
            accumulated = getattr(self, "current_gradient_accumulation_steps", 1)  # set once training has begun
        loss, gradient, terms = criterion.training_step(logits, labels, num_items)
        if accumulated > 1:
            gradient, terms = gradient / accumulated, terms / accumulated
        self._logged_sums += terms
        matrix = criterion.residual_matrix
        if criterion.alpha and matrix.requires_grad:
            matrix.grad = gradient if matrix.grad is None else matrix.grad.add_(gradient)
        processes = self.accelerator.num_processes
        return loss if processes == 1 else loss * processes  # over which the Trainer averages what num_items adds up

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """What the loss of an accumulated batch is divided by, over all processes."""
        if self.criterion is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        if not batch_samples or "labels" not in batch_samples[0]:
            return None
        first, *others = (self.criterion.count(batch["labels"].to(device)) for batch in batch_samples)
        return self._sum_over_processes(sum(others, first))

    def _sum_over_processes(self, x: Tensor) -> Tensor:
        return x if self.accelerator.num_processes == 1 else cast(Tensor, self.accelerator.reduce(x, "sum"))

    def call_model_init(self, *args: Any, **kwargs: Any) -> nn.Module:
        """As `Trainer.call_model_init`; with a fresh model, as each trial of a search has, S starts anew."""
        if self.criterion is not None:
            self._start_residual_matrix_anew(self.criterion)
        model: nn.Module = super().call_model_init(*args, **kwargs)
        return model

    def _start_residual_matrix_anew(self, criterion: KRLoss) -> None:
        """S as it was given, from zero as a rule, with an optimizer that knows nothing of it."""
        with torch.no_grad():
            criterion.residual_matrix.copy_(self._initial_matrix)
        self.residual_optimizer = self._make_residual_optimizer(criterion)

    def _make_residual_optimizer(self, criterion: KRLoss) -> torch.optim.Adam:
        fused = criterion.residual_matrix.device.type in ("cpu", "cuda")
        return torch.optim.Adam([criterion.residual_matrix], lr=self.residual_learning_rate, fused=fused)

    def _step_residual_matrix(self, criterion: KRLoss) -> None:
        """One Adam step for S, at its own learning rate times where the model's schedule stands."""
        matrix = criterion.residual_matrix
        if matrix.grad is not None:
            matrix.grad = self._sum_over_processes(matrix.grad)
            if not self._skips_step(matrix.grad):
                share = share_of_peak(self.optimizer, self.args.learning_rate)
                self.residual_optimizer.param_groups[0]["lr"] = self.residual_learning_rate * share
                self.residual_optimizer.step()
        self.residual_optimizer.zero_grad()
        self._logged_alpha += criterion.alpha
        self._logged_steps += 1

    def _skips_step(self, gradient: Tensor) -> bool:
        """Whether the numbers of this step are too large for fp16. Fused optimizers keep it from accelerate."""
        if self.accelerator.scaler is None and self.accelerator.mixed_precision != "fp16":  # DeepSpeed scales by itself
            return False
        return self.accelerator.optimizer_step_was_skipped or not bool(gradient.isfinite().all())

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As `Trainer.log`, with the terms of the loss beside the training loss."""
        if self.criterion is not None and "loss" in logs and self._logged_steps:
            sums = self._sum_over_processes(self._logged_sums) / self._logged_steps
            means = [*sums.tolist(), self._logged_alpha / self._logged_steps]
            logs = {**logs, **dict(zip(LOGGED_TERMS, means, strict=True))}
            self._forget_sums()
        super().log(logs, *args, **kwargs)

    def _forget_sums(self) -> None:
        self._logged_sums.zero_()
        self._logged_alpha, self._logged_steps = 0.0, 0

    def _forget_unfinished_step(self) -> None:
        """What a run that was interrupted has added up; the Trainer forgets that of the model."""
        self.residual_optimizer.zero_grad()
        self._forget_sums()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`; a checkpoint has the residual matrix and its optimizer too."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.criterion is not None and self.args.should_save:
            save_residual_matrix(self.criterion, self.residual_optimizer, output_dir, self.state)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.criterion is None or checkpoint is None:
            return
        if not load_residual_matrix(self.criterion, self.residual_optimizer, checkpoint):
            warnings.warn(f"{checkpoint} was written without KRLoss: its residual matrix starts anew", stacklevel=2)
            self._start_residual_matrix_anew(self.criterion)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        checkpoint = self.state.best_model_checkpoint
        if self.criterion is not None and checkpoint and has_residual_matrix(checkpoint):
            load_residual_matrix(self.criterion, self.residual_optimizer, checkpoint)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """As `Trainer.create_model_card`, with a section on the loss and its settings."""
        super().create_model_card(*args, **kwargs)
        if self.criterion is not None and self.is_world_process_zero():
            with open(Path(cast(str, self.args.output_dir)) / "README.md", "a", encoding="utf-8") as card:
                card.write(_card_section(self.criterion, self.residual_learning_rate))

    def _num_labels(self) -> int:
        num_labels = getattr(getattr(self.model, "config", None), "num_labels", None)
        if num_labels is None:
            raise ValueError(
                "model.config must have num_labels to choose a loss by name; or pass loss=KRLoss(num_labels)"
            )
        return int(num_labels)

    def _check_loss(self, criterion: KRLoss) -> None:
        """Refuses what would change the loss behind the user's back."""
        num_labels = getattr(getattr(self.model, "config", None), "num_labels", criterion.num_labels)
        if num_labels != criterion.num_labels:
            raise ValueError(f"loss must be for the model's {num_labels} labels, got one for {criterion.num_labels}")
        if self.args.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor must be 0 beside this loss, got {self.args.label_smoothing_factor}; "
                "pass loss=KRLoss(num_labels, label_smoothing=...)"
            )
        if self.compute_loss_func is not None:
            raise ValueError("compute_loss_func must be None beside loss=; to use it, pass loss='ce'")
        if self.args.n_gpu > 1:
            raise ValueError(
                f"a process must use one device, got {self.args.n_gpu} (nn.DataParallel would give each a copy of the "
                "residual matrix); start with `accelerate launch`"
            )


class _ResidualCallback(EpochCounter):
    """Sets alpha before each step of the optimizer, and moves the residual matrix with it."""

    def __init__(self, trainer: KRTrainer) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self.trainer._forget_unfinished_step()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.trainer.criterion is not None
        steps_per_epoch = self.trainer.steps_per_epoch
        epoch = self.epochs_completed if steps_per_epoch is None else state.global_step // steps_per_epoch
        self.trainer.criterion.set_epoch(epoch)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.trainer.criterion is not None
        self.trainer._step_residual_matrix(self.trainer.criterion)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        cast(dict[str, Any], state.stateful_callbacks).pop(LOSS_ENTRY, None)  # a `save_state` would have no matrix


def _check_head(model: nn.Module | None) -> None:
    """Refuses heads whose labels are no classes."""
    config = getattr(model, "config", None)
    problem_type = getattr(config, "problem_type", None) or "single_label_classification"
    if problem_type != "single_label_classification":
        raise ValueError(
            f"model.config.problem_type must be 'single_label_classification', got {problem_type!r}; pass loss='ce' to "
            "train it as Trainer does"
        )
    if getattr(config, "num_labels", None) == 1:
        raise ValueError(
            "model.config.num_labels must be at least 2, got 1, which is regression; pass loss='ce' to train it as "
            "Trainer does"
        )


def _card_section(criterion: KRLoss, residual_learning_rate: float) -> str:
    settings = {**criterion.settings(), "residual_learning_rate": residual_learning_rate}
    lines = [f"| {name} | {json.dumps(value)} |" for name, value in settings.items()]
    return (
        "\n### Training loss\n\n"
        "`KRLoss` of kr-text: Knowledge Refinery (Ding et al.: Knowledge Refinery: Learning from Decoupled Label, AAAI "
        "2021). The losses on evaluation rows above are plain cross-entropy.\n\n"
        "| setting | value |\n| --- | --- |\n" + "\n".join(lines) + "\n"
    )
