"""The classification head of a checkpoint, fitted to the classes of the data: kept, reordered or made anew."""

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

logger = logging.getLogger(__name__)


def fit_head(model: PreTrainedModel, classes: Sequence[str], saved: Sequence[str], fresh: Iterable[str]) -> None:
    """Gives the last layer of a classifier one row per class of the data, in their order, and logs what it did.

    The layer is kept if the checkpoint has the same class names; its rows are put in the order of the data if that
    differs; it gets new random weights if a name differs.

    Args:
        model: Classifier of the data's classes, with the weights of the checkpoint.
        classes: Names of the data's classes.
        saved: Names of the checkpoint's classes.
        fresh: Names of the parameters that the checkpoint lacks or has in another shape; their weights are random.
    """
    rows = class_rows(model)
    if not rows.keys().isdisjoint(fresh):
        done = "new: the checkpoint has none for this number of classes"
    elif list(saved) == list(classes):
        done = "kept: the checkpoint has the classes of the data"
    elif sorted(saved) == sorted(classes):
        done = "reordered: the checkpoint has the classes of the data in another order"
        _reorder(model, rows, [saved.index(name) for name in classes])
    else:
        done = f"new: the checkpoint has other classes, {', '.join(saved)}"
        _initialize(model, rows)
    logger.info("%s: the classification head is %s", model.name_or_path, done)


def class_rows(model: PreTrainedModel) -> dict[str, int]:
    """The parameters whose shape depends on the number of classes, with the dimension of the classes."""
    config = copy.deepcopy(model.config)
    config.num_labels = cast(int, config.num_labels) + 1
    with torch.device("meta"):
        wider = dict(type(model)(config).named_parameters())
    return {
        name: dim
        for name, parameter in model.named_parameters()
        for dim, (size, larger) in enumerate(zip(parameter.shape, wider[name].shape, strict=True))
        if size != larger
    }


@torch.no_grad()
def _reorder(model: nn.Module, rows: dict[str, int], order: list[int]) -> None:
    for name, dim in rows.items():
        parameter = model.get_parameter(name)
        parameter.copy_(parameter.index_select(dim, torch.tensor(order)))


@torch.no_grad()
def _initialize(model: PreTrainedModel, rows: dict[str, int]) -> None:
    untrained = AutoModelForSequenceClassification.from_config(model.config)
    for name in rows:
        model.get_parameter(name).copy_(untrained.get_parameter(name))
