"""Learning rate of S, the residual matrix: its default, and how it follows the model's schedule."""

import torch
from transformers import Trainer

RESIDUAL_LEARNING_RATE = 1e-2  # peak rate of Adam, for S or for the other parameters that a loss learns


def follow_schedule(optimizer: torch.optim.Optimizer, peak: float, trainer: Trainer) -> None:
    """Sets the learning rate of a loss's optimizer to its peak times the model's `learning_rate_fraction`."""
    optimizer.param_groups[0]["lr"] = peak * learning_rate_fraction(trainer)


def learning_rate_fraction(trainer: Trainer) -> float:
    """Returns the model's current learning rate as a fraction of its peak, in [0, 1].

    The peak is the first of these that exists: `max_lr` (set by `OneCycleLR`) and `initial_lr` (set by other
    schedulers) of the optimizer's first parameter group, the optimizer's default, and `args.learning_rate`.

    The fraction is 1 without a learning rate (a peak of 0, or Adafactor with relative steps), and where the rate
    exceeds the recorded peak: `CyclicLR` records its lowest rate as `initial_lr`.

    Args:
        trainer: A Trainer that is training, and so has an optimizer.
    """
    assert trainer.optimizer is not None
    group = trainer.optimizer.param_groups[0]
    defaults = getattr(trainer.optimizer, "defaults", {})
    peak = group.get("max_lr", group.get("initial_lr", defaults.get("lr", trainer.args.learning_rate)))
    return min(1.0, float(group["lr"] / peak)) if peak and not group.get("relative_step") else 1.0
