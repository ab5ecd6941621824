"""Knowledge Refinery and the losses that it is compared with. PyTorch is the only import."""

from kr_text.losses.by_name import LOSSES, NAMES, make_loss, named_loss
from kr_text.losses.knowledge_refinery import KRLoss, KRLossParts, kr_terms
from kr_text.losses.schedules import Constant, Exponential, Truncated
from kr_text.losses.softening_loss import SofteningLoss

__all__ = [
    "LOSSES",
    "NAMES",
    "Constant",
    "Exponential",
    "KRLoss",
    "KRLossParts",
    "SofteningLoss",
    "Truncated",
    "kr_terms",
    "make_loss",
    "named_loss",
]
