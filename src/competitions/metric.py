"""What a metric is; src/metrics.py has those that are known by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from src.core.errors import own_code

Of = Literal["answers", "probabilities"]
Values = Callable[[np.ndarray, np.ndarray, Any], np.ndarray]  # target, predicted, competition -> (N,)
OfWeights = Callable[[np.ndarray | None], float]  # how often each image counts, (N,), or None: once -> the score
Value = Callable[[np.ndarray, np.ndarray, Any], OfWeights]  # target, predicted, competition -> see OfWeights


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How predictions of N images are scored, from `target` (N, num_targets) and `predicted`.

    `of` answers: predicted (N, num_targets) holds what would be handed in, as target does; of probabilities: (N,
    num_outputs), the network's. Either `per_image` gives (N,) values whose mean is the score,
    or `value` gives the score of all images as a function of how often each counts: a bootstrap asks a thousand times.
    """

    name: str
    of: Of = "answers"
    kinds: tuple[str, ...] = ("class",)  # of heads that it can score
    greater_is_better: bool = True
    per_image: Values | None = None
    value: Value | None = None

    def of_weights(self, target: np.ndarray, predicted: np.ndarray, competition: Any) -> OfWeights:
        """Return the score as a function of how often each image counts."""
        if self.per_image is None:
            assert self.value
            return self.value(target, predicted, competition)
        values = self.per_image(target, predicted, competition).astype(np.float64)
        return lambda weight: float(np.average(values, weights=weight))

    def __call__(
        self, target: np.ndarray, predicted: np.ndarray, competition: Any, weight: np.ndarray | None = None
    ) -> float:
        """Return the score; NaN if it is not defined for these images."""
        return float(self.of_weights(target, predicted, competition)(weight))


def own_metric(
    name: str,
    function: Callable[[np.ndarray, np.ndarray], float],
    *,
    of: Of = "answers",
    greater_is_better: bool = True,
) -> Metric:
    """Return a metric of a function of your own: function(target, predicted) -> float, see Metric for the arrays.

    NaN stands for "not defined for these images". The metric raises InputError for whatever the function raises.
    """

    def scored(target: np.ndarray, predicted: np.ndarray) -> float:
        with own_code(f"metric {name}"):
            return float(function(target, predicted))

    def value(target: np.ndarray, predicted: np.ndarray, competition: Any) -> OfWeights:
        def score(weight: np.ndarray | None) -> float:
            if weight is None:
                return scored(target, predicted)
            rows = np.repeat(np.arange(len(target)), weight.astype(np.int64))
            return scored(target[rows], predicted[rows])

        return score

    kinds = ("class", "labels", "ordinal", "number")
    return Metric(name=name, of=of, kinds=kinds, greater_is_better=greater_is_better, value=value)
