"""How much of the variance of a study's results each hyperparameter explains, and how sure that is.

Shares are fANOVA's (see `search.fanova`). A number is taken on the scale it was drawn on: of a learning rate drawn over
orders of magnitude each order counts the same. Beside each share stands what chance gives where there is nothing to
explain: the share that comes out with the results shuffled.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.fanova import Array, Axis, Fanova, expanded
from search.observed import Dimension

FORESTS, TREES = 5, 32
SHUFFLES, SHUFFLED_TREES = 20, 16
MOST = 300  # trials that are looked at
SURE = 0.95  # a share above so many of those that chance gives is no chance
WORTH = 0.03  # of the variance, below which nothing is worth a word
SKILLED = 0.1  # R², below which a forest knows nothing that it could attribute
PAIRED = 5  # hyperparameters whose interplay is looked at

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Share:
    """A share of the variance: the mean over forests, the least and the most of them, and what chance gives."""

    mean: float
    low: float
    high: float
    chance: float

    @property
    def stands_out(self) -> bool:
        """Whether it is more than chance, and worth a word."""
        return self.mean > self.chance and self.mean >= WORTH


@dataclass(frozen=True)
class Influence:
    """The shares by hyperparameter, the largest first; those of pairs beyond what each explains alone.

    `skill` is the R² with which a forest foretells trials that it has not seen: 1 is perfect, 0 no better than the
    mean. `trials` is how many it rests on.
    """

    shares: Mapping[str, Share]
    pairs: Mapping[tuple[str, str], Share]
    skill: float
    trials: int

    @property
    def together(self) -> list[tuple[str, str]]:
        """The pairs whose interplay matters, the largest first."""
        found = [pair for pair, share in self.pairs.items() if self.skill >= SKILLED and share.stands_out]
        return sorted(found, key=lambda pair: -self.pairs[pair].mean)

    @property
    def matter(self) -> list[str]:
        """The hyperparameters that matter, by themselves or with another, the most important first."""
        if self.skill < SKILLED:
            return []
        paired = {name for pair in self.together for name in pair}
        return [name for name, share in self.shares.items() if share.stands_out or name in paired]


def influence(dimensions: Sequence[Dimension], rows: Rows, results: Sequence[float], seed: int = 0) -> Influence:
    """The influence of these hyperparameters, which every row has, on the results.

    The same `seed` gives the same figures. Raises ValueError where there are no two different results.
    """
    values = np.asarray(results, dtype=float)
    if len(np.unique(values)) < 2 or not dimensions:
        raise ValueError("all results are the same, or nothing was varied")
    rng = np.random.default_rng(seed)
    if len(rows) > MOST:
        chosen = np.sort(rng.choice(len(rows), MOST, replace=False))
        rows, values = [rows[i] for i in chosen], values[chosen]
    axes, points = [_axis(d) for d in dimensions], _points(dimensions, rows)
    forests = [Fanova(axes, points, values, trees=TREES, seed=seed + i) for i in range(FORESTS)]
    by_chance = [
        Fanova(axes, points, rng.permutation(values), trees=SHUFFLED_TREES, seed=seed + i) for i in range(SHUFFLES)
    ]
    single = [_share([f.share(i) for f in forests], [f.share(i) for f in by_chance]) for i in range(len(axes))]
    order = sorted(range(len(axes)), key=lambda i: -single[i].mean)
    pairs = {
        (dimensions[i].name, dimensions[j].name): _share(
            [f.beyond(i, j) for f in forests], [f.beyond(i, j) for f in by_chance]
        )
        for i, j in itertools.combinations(order[:PAIRED], 2)
    }
    skill = _skill(expanded(axes, points), values, seed)
    return Influence({dimensions[i].name: single[i] for i in order}, pairs, skill, len(rows))


def _share(found: Sequence[float], by_chance: Sequence[float]) -> Share:
    return Share(float(np.mean(found)), min(found), max(found), float(np.quantile(by_chance, SURE)))


def _axis(dimension: Dimension) -> Axis:
    return Axis(options=len(dimension.choices)) if dimension.kind == "choice" else Axis(*dimension.ends)


def _points(dimensions: Sequence[Dimension], rows: Rows) -> Array:
    return np.array(
        [[float(d.choices.index(r[d.name])) if d.kind == "choice" else d.place(r[d.name]) for d in dimensions]
         for r in rows]
    )  # fmt: skip


def _skill(points: Array, values: Array, seed: int) -> float:
    """R² out of the bag."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=100, oob_score=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trial that every tree has seen
        forest.fit(points, values)
    return float(forest.oob_score_)
