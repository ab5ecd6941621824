"""Every training loss by its name, as flags and grids have it."""

from typing import Any

from torch import nn

from kr_text.distillation import DistillationLoss, MutualLoss
from kr_text.kr_variants import KR_VARIANTS
from kr_text.label_softening import SOFTENING_LOSSES, SofteningLoss
from kr_text.losses import KRLoss
from kr_text.paper_losses import LOSSES, named_loss, with_settings
from kr_text.softening_trainer import last_linear

OTHERS: dict[str, type[SofteningLoss]] = {
    **SOFTENING_LOSSES,
    **KR_VARIANTS,
    "kd": DistillationLoss,
    "dml": MutualLoss,
}
NAMES = (*LOSSES, *OTHERS)


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
