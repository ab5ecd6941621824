"""Text classification with Knowledge Refinery; public names load when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kr_text.classifier import Classifier
    from kr_text.data import load
    from kr_text.losses import KRLoss
    from kr_text.trainer import KRTrainer

__all__ = ["Classifier", "KRLoss", "KRTrainer", "load"]
__version__ = "0.1.0"

_HOMES = {
    "Classifier": "kr_text.classifier",
    "KRLoss": "kr_text.losses",
    "KRTrainer": "kr_text.trainer",
    "load": "kr_text.data",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kr_text' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
