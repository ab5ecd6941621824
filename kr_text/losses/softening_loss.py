"""SofteningLoss: the interface of every training loss except cross-entropy and `KRLoss`.

A new loss is a subclass of `SofteningLoss`, in its own file or beside the losses it resembles, and an entry in `OTHERS`
of by_name.py. Then `kr-text train --loss` knows it, and `SofteningTrainer` trains with it.
"""

from torch import Tensor, nn

from kr_text.ranges import require_at_least


class SofteningLoss(nn.Module):
    """Base class of losses that are called as `criterion(logits, labels)`.

    The logits are (N, K), the labels (N,) in 0..K-1. The result is the mean over the rows, in nats, computed in float32
    or wider. Some losses take a third tensor: the features (N, F), which are the input of the model's last linear
    layer; the logits (N, K) of a trained teacher; or the logits (N, K) of a peer that is trained beside the model.
    """

    needs_features = False
    needs_teacher = False
    needs_peer = False

    def __init__(self, num_labels: int, **settings: object) -> None:
        super().__init__()
        require_at_least(2, num_labels=num_labels)
        self.num_labels = num_labels
        self._settings = {"num_labels": num_labels, **settings}

    def begin(self) -> None:
        """Called when training begins, maybe after an interrupted training: resets partial counts, if there are any."""

    def set_epoch(self, epoch: float) -> None:
        """Called before each epoch with the number of completed epochs. Does nothing by default."""

    def end_epoch(self) -> None:
        """Called after each epoch. Does nothing by default."""

    def learned_matrix(self) -> Tensor | None:
        """The (K, K) matrix of logits that the loss learns, without gradient; None if it learns none."""
        return None

    def learned_residual_labels(self) -> Tensor | None:
        """(K, K): row k is the learned distribution over the classes other than k, and 0 for class k itself.

        None if the loss learns no such distribution, or still has the one that it started from.
        """
        return None

    def settings(self) -> dict[str, object]:
        """Settings by name, as JSON values; a schedule as text."""
        return dict(self._settings)

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        return ", ".join(f"{name}={value}" for name, value in self.settings().items())


def last_linear(model: nn.Module, num_labels: int) -> nn.Linear:
    """The last linear layer of a classifier. Its input is the features that a loss with `needs_features` takes.

    Raises:
        ValueError: No linear layer has `num_labels` outputs.
    """
    layers = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == num_labels]
    if not layers:
        raise ValueError(f"model must have a linear layer with {num_labels} outputs, got {type(model).__name__}")
    return layers[-1]
