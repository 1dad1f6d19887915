"""How sure a figure is: intervals of a share and of a mean, and the paired test between two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Paired:
    """Two models on the same images: how many only the one and only the other gets right.

    `gain` is the difference of their accuracies with its interval; `p` is the chance that, were they equally good, the
    first would be ahead by as much or more (McNemar's test, exact, one-sided).
    """

    images: int
    only_first: int
    only_second: int
    gain: float
    gain_interval: Interval
    p: float


def share_interval(successes: int, images: int, level: float = LEVEL) -> Interval:
    """The exact interval (Clopper and Pearson, 1934) of a share. Raises ValueError where there are no images."""
    from scipy.stats import binomtest

    found = binomtest(successes, images).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's interval of the mean of repeated measurements; both ends NaN for fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return math.nan, math.nan
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean - half, mean + half


def paired(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], level: float = LEVEL) -> Paired:
    """Compare two models by which images each gets right, both of shape (n,).

    McNemar, "Note on the sampling error of the difference between correlated proportions", 1947; exact by the binomial
    distribution of the images on which the two differ. The gain's interval is the large-sample one of paired shares.
    Raises ValueError where the shapes differ or are empty.
    """
    from scipy.stats import binomtest, norm

    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"shapes {first.shape} and {second.shape}: give two of the same (n,)")
    n, b, c = first.size, int((first & ~second).sum()), int((second & ~first).sum())
    p = float(binomtest(b, b + c, 0.5, alternative="greater").pvalue) if b + c else 1.0
    gain = (b - c) / n
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt(max(b + c - (b - c) ** 2 / n, 0.0)) / n
    return Paired(n, b, c, gain, (gain - half, gain + half), p)
