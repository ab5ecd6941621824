"""Checks that a loss fits the model and the other arguments of its Trainer."""

from torch import nn
from transformers import Trainer

CE_INSTEAD = "pass loss='ce' to train as transformers.Trainer does"


def check_loss(trainer: Trainer, num_labels: int) -> None:
    """Checks that the loss has the model's number of labels, and that no argument of the Trainer changes the loss.

    Args:
        trainer: Trainer whose `__init__` has run.
        num_labels: Number of labels of the loss.

    Raises:
        ValueError: The loss does not fit.
    """
    expected = model_num_labels(trainer.model)
    if expected not in (None, num_labels):
        raise ValueError(f"loss must have the model's {expected} labels, got {num_labels}")
    if trainer.args.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor must be 0, got {trainer.args.label_smoothing_factor}; set label smoothing in "
            "the loss instead, as in KRLoss(num_labels, label_smoothing=0.1)"
        )
    if trainer.compute_loss_func is not None:
        raise ValueError(
            "compute_loss_func must be None, because loss= sets the loss; for a loss function use transformers.Trainer"
        )


def check_head(model: nn.Module | None) -> None:
    """Checks that each label is one class.

    Raises:
        ValueError: The model's config is for regression or for several labels per row.
    """
    problem_type = getattr(getattr(model, "config", None), "problem_type", None) or "single_label_classification"
    if problem_type != "single_label_classification":
        raise ValueError(
            f"model.config.problem_type must be 'single_label_classification', got {problem_type!r}; {CE_INSTEAD}"
        )
    if model_num_labels(model) == 1:
        raise ValueError(f"model.config.num_labels must be at least 2, got 1, which is regression; {CE_INSTEAD}")


def model_num_labels(model: nn.Module | None) -> int | None:
    """Returns the number of labels in the model's config, None if the model has no such config."""
    num_labels: int | None = getattr(getattr(model, "config", None), "num_labels", None)
    return num_labels
