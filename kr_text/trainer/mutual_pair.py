"""The two networks of deep mutual learning, as one model."""

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


@dataclass
class MutualOutput(SequenceClassifierOutput):
    """The output of a `MutualPair` in training: `logits` of `first` and `peer_logits` of `second`, both (batch, K)."""

    peer_logits: Tensor | None = None


class MutualPair(nn.Module):
    """Two classifiers that are trained together with `MutualLoss`. Only `first` is evaluated and kept.

    Args:
        first: Model that makes the predictions.
        second: Model for the same inputs and labels that starts from different weights.

    Raises:
        ValueError: The models have different numbers of labels.

    Example::

        pair = MutualPair(first, second)
        loss = make_loss("dml", pair, num_labels, {})
        SofteningTrainer(model=pair, args=args, train_dataset=train_dataset, loss=loss).train()
        pair.first.save_pretrained("classifier")
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
        """Returns the logits of `first`, and in training also those of `second`. `inputs` exclude the labels."""
        logits = cast(Tensor, self.first(**inputs)["logits"])
        if not self.training:
            return SequenceClassifierOutput(logits=logits)
        return MutualOutput(logits=logits, peer_logits=self.second(**inputs)["logits"])
