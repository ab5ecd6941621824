"""The Trainers of Knowledge Refinery and of the losses that it is compared with."""

from kr_text.trainer.kr_trainer import KRTrainer
from kr_text.trainer.softening_trainer import SofteningTrainer

__all__ = ["KRTrainer", "SofteningTrainer"]
