"""What searches found by when, over their seeds: mean regret with its interval, ranks, and how soon others are reached.

A budget is in full trainings: so many times what a training of the table to its end costs on average, all slots
together, so that a budget of 8 on 8 slots lasts as long as one training. A search's regret at a budget is what the
table's best configuration is worth in the end less what the model that the search has in hand is worth: the one with
the best validation accuracy it has seen, valued as its configuration's best until that epoch, averaged over the
recorded seeds. A model must have been trained to be in hand, so nobody is credited with what a configuration would
have come to. Before the first epoch there is none: the regret is then all there is to lose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES, LEVEL = 10_000, 0.95
Steps = Sequence[tuple[float, float]]  # (budget, what the model in hand is worth from then on)


@dataclass(frozen=True)
class Standing:
    """A method at one budget: mean regret over its seeds, the bootstrap interval of that, its mean rank, its place."""

    method: str
    seeds: int
    mean: float
    low: float
    high: float
    rank: float


def at(steps: Steps, budgets: np.ndarray, best: float) -> np.ndarray:
    """(len(budgets),) the regret of one search at each budget."""
    times = np.array([0.0, *(time for time, _ in steps)])
    values = np.array([0.0, *(value for _, value in steps)])
    return best - values[np.searchsorted(times, budgets, side="right") - 1]


def curves(runs: Mapping[str, Mapping[int, Steps]], budgets: np.ndarray, best: float) -> dict[str, np.ndarray]:
    """By method, (seeds, budgets) regrets, a row a seed in ascending order."""
    return {
        method: np.array([at(by_seed[seed], budgets, best) for seed in sorted(by_seed)])
        for method, by_seed in runs.items()
        if by_seed
    }


def interval(values: np.ndarray) -> tuple[float, float]:
    """The bootstrap interval (percentiles, LEVEL) of a mean; the mean itself twice where there is one value."""
    chosen = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    means = values[chosen].mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def standings(runs: Mapping[str, Mapping[int, Steps]], budget: float, best: float) -> list[Standing]:
    """Every method at a budget, the lowest mean regret first. Ranks count from 1, over the seeds that all have."""
    regrets = {
        method: {seed: float(at(steps, np.array([budget]), best)[0]) for seed, steps in by_seed.items()}
        for method, by_seed in runs.items()
        if by_seed
    }
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in regrets.values()))) if regrets else []
    matrix = np.array([[regrets[method][seed] for method in regrets] for seed in shared])
    ranks = _ranks(matrix).mean(axis=0) if shared else np.full(len(regrets), np.nan)
    found = []
    for (method, by_seed), rank in zip(regrets.items(), ranks, strict=True):
        values = np.array(list(by_seed.values()))
        low, high = interval(values)
        found.append(Standing(method, len(values), float(values.mean()), low, high, float(rank)))
    return sorted(found, key=lambda s: s.mean)


def _ranks(matrix: np.ndarray) -> np.ndarray:
    """(rows, columns) the rank of each value in its row from 1, equal ones sharing theirs."""
    below = (matrix[:, None, :] < matrix[:, :, None] - 1e-12).sum(axis=2)
    same = (np.abs(matrix[:, None, :] - matrix[:, :, None]) <= 1e-12).sum(axis=2)
    return below + (same + 1) / 2


def reached(mean: np.ndarray, budgets: np.ndarray, wanted: float) -> float | None:
    """The first budget at which a mean regret is at most `wanted`; None where it never is."""
    there = np.flatnonzero(mean <= wanted + 1e-12)
    return float(budgets[there[0]]) if len(there) else None
