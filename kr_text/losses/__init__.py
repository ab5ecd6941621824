"""Knowledge Refinery and the losses that it is compared with. PyTorch is the only import."""

from kr_text.losses.by_name import LOSSES, NAMES, make_loss, named_loss
from kr_text.losses.knowledge_refinery import KRLoss, KRLossParts
from kr_text.losses.schedules import Constant, Exponential, Truncated

__all__ = [
    "LOSSES",
    "NAMES",
    "Constant",
    "Exponential",
    "KRLoss",
    "KRLossParts",
    "Truncated",
    "make_loss",
    "named_loss",
]
