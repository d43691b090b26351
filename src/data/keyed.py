"""Random numbers that depend on what they are for, not on what was drawn before."""

from typing import Any

import numpy as np

ORDER_SEED = 1 << 40  # of random_order; no training has it


def keyed_uniforms(seed: int, epoch: int, index: np.ndarray, num_draws: int) -> np.ndarray:
    """Return (B, num_draws) float64 in [0, 1), a function of (seed, epoch, index) alone.

    A counter-based generator for a whole batch at once: a draw does not depend on how many others are made. Source:
    Steele et al., Fast Splittable Pseudorandom Number Generators (SplitMix64), 2014.
    """

    def mix(x: Any) -> Any:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        key = mix(np.uint64(seed) * golden + np.uint64(1)) ^ mix(np.uint64(epoch) * golden + np.uint64(2))
        state = mix(key + index.astype(np.uint64) * golden)[:, None]
        draws = mix(state + np.arange(1, num_draws + 1, dtype=np.uint64)[None] * golden)
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


def random_order(count: int) -> np.ndarray:
    """Return (count,) int64: the numbers below `count` in an order that depends on `count` alone."""
    return np.argsort(keyed_uniforms(ORDER_SEED, 0, np.arange(count), 1)[:, 0], kind="stable")
