"""Training losses by name, for flags, grids and `KRTrainer(loss=...)`; softening_loss.py says how to add a loss."""

import inspect
from typing import Any, TypeVar

from torch import nn

from kr_text.losses.distillation import DistillationLoss, MutualLoss
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.losses.kr_variants import KR_VARIANTS
from kr_text.losses.label_softening import SOFTENING_LOSSES
from kr_text.losses.schedules import make_schedule
from kr_text.losses.softening_loss import SofteningLoss, last_linear

LOSSES: dict[str, dict[str, Any] | None] = {  # settings of KRLoss that differ from its defaults; None: cross-entropy
    "ce": None,
    "ls": {"label_smoothing": 0.1, "alpha": 0.0},
    "kr": {},
    "kr-ls": {"label_smoothing": 0.1},
}

OTHERS: dict[str, type[SofteningLoss]] = {
    **SOFTENING_LOSSES,
    **KR_VARIANTS,
    "kd": DistillationLoss,
    "dml": MutualLoss,
}
NAMES = (*LOSSES, *OTHERS)

Loss = TypeVar("Loss", bound=nn.Module)


def make_loss(
    name: str, model: nn.Module | None, num_labels: int, settings: dict[str, Any]
) -> KRLoss | SofteningLoss | None:
    """The loss with this name, or None for "ce", cross-entropy, which Trainers compute themselves.

    With class weights, "ce" is a `KRLoss` with alpha 0, since the loss of a model knows no class weights.

    Args:
        name: One of `NAMES`.
        model: The classifier, for a loss that needs the width of its features ("lcm").
        num_labels: K, the number of classes.
        settings: Arguments of the loss that differ from its defaults; see `with_settings`.

    Raises:
        ValueError: Unknown name, or settings that the loss does not have or that are out of range.
    """
    if name not in NAMES:
        raise ValueError(f"loss must be one of {', '.join(NAMES)}, got {name!r}")
    if "num_labels" in settings:
        raise ValueError(f"settings of loss {name!r} must leave num_labels to the data, got {settings['num_labels']}")
    if name in OTHERS:
        if OTHERS[name].needs_features and model is not None:
            settings = {**settings, "num_features": last_linear(model, num_labels).in_features}
        return with_settings(OTHERS[name], name, num_labels, settings)
    defaults = {"alpha": 0.0} if name == "ce" and settings.keys() == {"class_weights"} else LOSSES[name]
    if defaults is not None:
        return with_settings(KRLoss, name, num_labels, defaults | settings)
    if settings:
        raise ValueError(f"loss 'ce' has no settings except class_weights, got {', '.join(settings)}")
    return None


def named_loss(name: str, num_labels: int, **settings: Any) -> KRLoss | None:
    """The loss of the paper with this name, or None for "ce", cross-entropy without class weights.

    "ls" is label smoothing of 0.1, "kr" Knowledge Refinery (Eq. 9), and "kr-ls" both (Eq. 13).

    Args:
        name: One of `LOSSES`.
        num_labels: K, the number of classes.
        settings: Arguments of `KRLoss` that differ from the paper's settings, or `until`; see `with_settings`.

    Raises:
        ValueError: Unknown name, or settings that the loss does not have or that are out of range.
    """
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, or a KRLoss; got {name!r}")
    loss = make_loss(name, None, num_labels, settings)
    assert loss is None or isinstance(loss, KRLoss)
    return loss


def with_settings(loss: type[Loss], name: str, num_labels: int, settings: dict[str, Any]) -> Loss:
    """Makes a loss from a user's settings.

    Args:
        loss: Class of the loss.
        name: Name of the loss, for messages.
        num_labels: K, the number of classes.
        settings: Arguments of `loss`. A loss with `gamma` also takes `until`, the number of epochs after which alpha is
            0 (Eq. 15), instead of `gamma`.

    Raises:
        ValueError: Settings that the loss does not have or that are out of range.
    """
    has_schedule = "gamma" in inspect.signature(loss).parameters
    if has_schedule and {"until", "gamma"} <= settings.keys():
        raise ValueError(f"until and gamma must not be given together, got {settings['until']} and {settings['gamma']}")
    try:
        if has_schedule and "until" in settings:
            settings = dict(settings)
            settings["alpha"] = make_schedule(settings.get("alpha", 1.0), until=settings.pop("until"))
        return loss(num_labels, **settings)
    except TypeError as error:
        allowed = f"arguments of {loss.__name__}" + (", or until" if has_schedule else "")
        raise ValueError(f"settings of loss {name!r} must be {allowed}: {error}") from error
