"""Every training loss by its name, as flags and grids have it. PyTorch is the only import."""

import inspect
from typing import Any, TypeVar

from torch import nn

from kr_text.losses.distillation import DistillationLoss, MutualLoss
from kr_text.losses.knowledge_refinery import KRLoss
from kr_text.losses.kr_variants import KR_VARIANTS
from kr_text.losses.label_softening import SOFTENING_LOSSES, SofteningLoss
from kr_text.losses.schedules import Truncated

LOSSES: dict[str, dict[str, Any] | None] = {  # the settings of KRLoss that differ from its defaults
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


def named_loss(name: str, num_labels: int, **settings: Any) -> KRLoss | None:
    """The loss that `name` stands for, with the paper's settings; None for "ce", which is the Trainer's own.

    "ls" is label smoothing of 0.1, "kr" Eq. 9, and "kr-ls" Eq. 13, with label smoothing of 0.1.

    Args:
        name: one of `LOSSES`.
        num_labels: K.
        settings: arguments of `KRLoss` that are to differ; `until` has alpha end after so many epochs (Eq. 15).

    Raises:
        ValueError: an unknown name, or settings that the loss does not have.
    """
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, or a KRLoss; got {name!r}")
    defaults = LOSSES[name]
    if defaults is None:
        if settings:
            raise ValueError(f"loss 'ce' has no settings, got {', '.join(settings)}")
        return None
    return with_settings(KRLoss, name, num_labels, defaults | settings)


def with_settings(loss: type[Loss], name: str, num_labels: int, settings: dict[str, Any]) -> Loss:
    """A loss with the settings that a user gave, of which `until` has alpha end after so many epochs (Eq. 15).

    Args:
        loss: the class of the loss; `until` is for those that have `gamma`.
        name: of the loss, for messages.
        num_labels: K.
        settings: what `loss` is given beside it.

    Raises:
        ValueError: settings that the loss does not have, or that are out of range.
    """
    settings, has_schedule = dict(settings), "gamma" in inspect.signature(loss).parameters
    if has_schedule and {"until", "gamma"} <= settings.keys():
        raise ValueError(f"until and gamma must not be given together, got {settings['until']} and {settings['gamma']}")
    try:
        if has_schedule and "until" in settings:
            settings["alpha"] = Truncated(settings.pop("until"), settings.get("alpha", 1.0))
        return loss(num_labels, **settings)
    except TypeError as error:
        allowed = f"arguments of {loss.__name__}" + (", or until" if has_schedule else "")
        raise ValueError(f"settings of loss {name!r} must be {allowed}: {error}") from error


def make_loss(name: str, model: nn.Module, num_labels: int, settings: dict[str, Any]) -> KRLoss | SofteningLoss | None:
    """The loss that `name` stands for, None for cross-entropy.

    Args:
        name: one of `NAMES`.
        model: that is trained with it.
        num_labels: K.
        settings: of the loss, where they differ from the defaults; `until` as for `with_settings`.

    Raises:
        ValueError: settings that the loss does not have, or that are out of range.
    """
    if "num_labels" in settings:
        raise ValueError(f"settings of loss {name!r} must leave num_labels to the data, got {settings['num_labels']}")
    if name not in OTHERS:
        return named_loss(name, num_labels, **settings)
    settings, loss = dict(settings), OTHERS[name]
    if loss.needs_features:
        settings["num_features"] = last_linear(model, num_labels).in_features
    return with_settings(loss, name, num_labels, settings)


def last_linear(model: nn.Module, num_labels: int) -> nn.Linear:
    """The last linear layer of a classifier, whose `in_features` is the `num_features` of `LabelConfusion`.

    Raises:
        ValueError: no layer gives `num_labels` logits.
    """
    layers = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == num_labels]
    if not layers:
        raise ValueError(f"model must have a linear layer with {num_labels} outputs, got {type(model).__name__}")
    return layers[-1]
