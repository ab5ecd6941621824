"""Two classifiers that are trained together (deep mutual learning)."""

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


@dataclass
class MutualOutput(SequenceClassifierOutput):
    """What a pair gives in training: `logits` of the first network, and `peer_logits` of the second."""

    peer_logits: Tensor | None = None


class MutualPair(nn.Module):
    """Two classifiers that are trained together with `MutualLoss`; the first is the one that is kept.

    In evaluation only the first is run.

    Args:
        first: the model that predicts.
        second: another one for the same inputs and labels, which starts from other weights.

    Raises:
        ValueError: the models have different numbers of labels.
    """

    def __init__(self, first: PreTrainedModel, second: PreTrainedModel) -> None:
        super().__init__()
        if first.config.num_labels != second.config.num_labels:
            raise ValueError(
                f"second must have the first's {first.config.num_labels} labels, got {second.config.num_labels}"
            )
        self.first, self.second = first, second
        self.config = first.config

    def forward(self, **inputs: Any) -> SequenceClassifierOutput:
        """The logits for what `first` takes, without labels; in training, both networks'."""
        logits = cast(Tensor, self.first(**inputs)["logits"])
        if not self.training:
            return SequenceClassifierOutput(logits=logits)
        return MutualOutput(logits=logits, peer_logits=self.second(**inputs)["logits"])
