"""The Trainers for Knowledge Refinery and for the losses it is compared with."""

from kr_text.trainer.kr_trainer import KRTrainer
from kr_text.trainer.mutual_pair import MutualPair
from kr_text.trainer.softening_trainer import SofteningTrainer

__all__ = ["KRTrainer", "MutualPair", "SofteningTrainer"]
