"""Which model the next trial of a search trains.

First come the trials with known good settings. After them the model that is best so far gets two of three trials, and
the others get the third in turn, since a trial of a network takes as long as many of FastText.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kr_text.experiments.trials import TOO_SLOW, TrialRecord

PERIOD = 3  # one of so many trials goes to a model that is not the best so far
MAX_TOO_SLOW = 2  # trials that were too slow, after which a model gets no more


class ModelTurns:
    """Chooses the parameters that are fixed in the next trial.

    Args:
        models: Names of the models, at least one.
        starts: Parameters of the first trials, as `kr_text.experiments.search_space.starts` returns them.
        given: Values that are not searched.
    """

    def __init__(self, models: Sequence[str], starts: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> None:
        self.models, self.starts, self.given = list(models), list(starts), given
        self.too_slow: Counter[str] = Counter()

    def fixed(self, number: int, best: TrialRecord | None) -> dict[str, Any]:
        """Parameters of a trial for `optuna.Study.enqueue_trial`; the sampler chooses the others.

        Args:
            number: Number of the trial, from 0.
            best: The best trial so far.
        """
        if number < len(self.starts):
            return dict(self.starts[number])
        return {} if "model" in self.given else {"model": self._model(number, best)}

    def add(self, record: TrialRecord) -> None:
        """Notes the outcome of a trial."""
        self.too_slow[record["values"]["model"]] += record["outcome"] == TOO_SLOW

    def _model(self, number: int, best: TrialRecord | None) -> str:
        first: str = best["values"]["model"] if best else self.models[0]
        others = [name for name in self.models if name != first and self.too_slow[name] < MAX_TOO_SLOW]
        if others and number % PERIOD == PERIOD - 1:
            return others[number // PERIOD % len(others)]
        return first
