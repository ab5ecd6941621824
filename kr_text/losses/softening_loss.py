"""SofteningLoss: the interface of every training loss except cross-entropy and `KRLoss`.

A new loss is a subclass of `SofteningLoss`, in its own file or beside the losses it resembles, and an entry in `OTHERS`
of by_name.py. Then `kr-text train --loss` knows it, and `SofteningTrainer` trains with it.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from kr_text.losses.closed_form import divisor
from kr_text.losses.rows import checked_weights
from kr_text.ranges import require_at_least


class SofteningLoss(nn.Module):
    """Base class of losses that are called as `criterion(logits, labels)`.

    The logits are (N, K), the labels (N,) in 0..K-1. The result is the mean over the rows, in nats, computed in float32
    or wider. Some losses take a third tensor: the features (N, F), which are the input of the model's last linear
    layer; the logits (N, K) of a trained teacher; or the logits (N, K) of a peer that is trained beside the model.

    A subclass has a method `row_losses`, which takes the same tensors and returns the loss of each row, (N,).

    Args:
        num_labels: K, the number of classes.
        class_weights: (K,), factor of the loss of a row by its class. The mean divides by the sum of the rows' weights,
            as `F.cross_entropy` with `weight` does.
        settings: Further settings, for `settings()`.
    """

    row_losses: Callable[..., Tensor]
    class_weights: Tensor | None

    needs_features = False
    needs_teacher = False
    needs_peer = False

    def __init__(
        self, num_labels: int, class_weights: Tensor | Sequence[float] | None = None, **settings: object
    ) -> None:
        super().__init__()
        require_at_least(2, num_labels=num_labels)
        self.num_labels = num_labels
        self._settings = {"num_labels": num_labels, **settings}
        self.register_buffer("class_weights", checked_weights(class_weights, num_labels), persistent=False)
        if self.class_weights is not None:
            self._settings["class_weights"] = self.class_weights.tolist()

    def forward(self, logits: Tensor, labels: Tensor, *further: Tensor) -> Tensor:
        """The mean loss of the rows, a scalar."""
        losses = self.row_losses(logits, labels, *further)
        if self.class_weights is None:
            return losses.mean()
        return (self.class_weights[labels].to(losses.dtype) * losses).sum() / divisor(self.count(labels))

    def count(self, labels: Tensor) -> Tensor | int:
        """Divisor of the mean: the number of labels, or with `class_weights` the sum of their weights."""
        return len(labels) if self.class_weights is None else self.class_weights[labels].sum()

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
