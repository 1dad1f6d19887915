"""Makes the samplers of the menu that are Optuna's, each with the rule by which a search resumed proposes the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.engines import menu
from search.engines.menu import Chosen

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Ask:
    """One ask for a configuration, which a sampler is made for and then forgotten.

    `seed` is this ask's alone, `study_seed` the same for all; `position` counts along a sequence from 0.
    `dimensions()` gives every hyperparameter the space can draw, those not always active among them. `options` are
    those that were asked for.
    """

    seed: int
    study_seed: int
    position: int
    dimensions: Callable[[], Mapping[str, BaseDistribution]]
    options: Mapping[str, Any] = field(default_factory=dict)


def make(chosen: Chosen, ask: Ask) -> BaseSampler:
    """The sampler that was chosen, for one ask."""
    target = menu.member("sampler", chosen.name).target
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is experimental or deprecated is for the menu to know
        if target is not None:
            made: BaseSampler = target.load()(ask, **chosen.options)
            return made
        return MAKERS[chosen.name](ask)


def _tpe(ask: Ask) -> BaseSampler:
    """Resumes by the trials so far and a seed of each ask's own."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=ask.seed, **{name: o for name, o in ask.options.items() if name not in OURS})


def _random(ask: Ask) -> BaseSampler:
    """Resumes by a seed of each ask's own; knows nothing of the trials so far."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=ask.seed)


def _grid(ask: Ask) -> BaseSampler:
    """Resumes by the study's seed, which fixes the order of the grid, and the position along it.

    A configuration that differs from an earlier one only in what is not active is a repeat, and passed over.
    """
    from optuna.samplers import GridSampler

    class Positioned(GridSampler):
        def before_trial(self, study: Study, trial: FrozenTrial) -> None:
            place = ask.position % len(self._all_grids)
            study._storage.set_trial_system_attr(trial._trial_id, "search_space", self._search_space)
            study._storage.set_trial_system_attr(trial._trial_id, "grid_id", place)

    return Positioned({name: values(d) for name, d in ask.dimensions().items()}, seed=ask.study_seed)


def values(distribution: BaseDistribution) -> list[Any]:
    """Every value of a distribution that has a list or a step."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    assert isinstance(distribution, FloatDistribution)
    assert distribution.step is not None
    low, step = distribution.low, distribution.step
    count = math.floor((distribution.high - low) / step + 1e-9) + 1
    return [min(low + i * step, distribution.high) for i in range(count)]


def is_listed(distribution: BaseDistribution) -> bool:
    """Whether a distribution has a list of values or a step."""
    from optuna.distributions import FloatDistribution

    return not isinstance(distribution, FloatDistribution) or distribution.step is not None


def _brute(ask: Ask) -> BaseSampler:
    """Resumes by the trials so far and a seed of each ask's own."""
    from optuna.samplers import BruteForceSampler

    return BruteForceSampler(seed=ask.seed, avoid_premature_stop=True)


def _qmc(ask: Ask) -> BaseSampler:
    """Resumes by the study's seed, which fixes one scrambled sequence, and the position along it.

    The position is one behind the last that a stored trial came from, so what was refused, pruned or repeated
    leaves neither gaps nor repeats, and baselines take no position. Every hyperparameter has a dimension of its
    own, used only where it is active. Optuna alone would count in the study's attributes, of which a copy has
    none, and take its dimensions from the first trial, in which not all are active.
    """
    from optuna.samplers import QMCSampler, RandomSampler

    class Positioned(QMCSampler):
        def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
            return dict(ask.dimensions())

        def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
            return ask.position

    # The other sampler draws what has a range that depends on other values; not with the study's seed, which
    # would give each trial the same.
    return Positioned(
        **{"scramble": True, **ask.options},
        seed=ask.study_seed,
        independent_sampler=RandomSampler(seed=ask.seed),
        warn_independent_sampling=False,
    )


def _cmaes(ask: Ask) -> BaseSampler:
    """Resumes by what it noted with each trial (its distribution, its generation) and a seed of each ask's own."""
    from optuna.samplers import CmaEsSampler, RandomSampler

    return CmaEsSampler(
        seed=ask.seed,
        independent_sampler=RandomSampler(seed=ask.seed),
        warn_independent_sampling=False,
        **ask.options,
    )


def _gp(ask: Ask) -> BaseSampler:
    """Resumes by the trials so far and a seed of each ask's own."""
    from optuna.samplers import GPSampler, RandomSampler

    return GPSampler(
        seed=ask.seed,
        independent_sampler=RandomSampler(seed=ask.seed),
        warn_independent_sampling=False,
        **ask.options,
    )


def _nsga2(ask: Ask) -> BaseSampler:
    """Resumes by the generation noted with each trial and a seed of each ask's own."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=ask.seed, **ask.options)


def _nsga3(ask: Ask) -> BaseSampler:
    """Resumes by the generation noted with each trial and a seed of each ask's own."""
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(seed=ask.seed, **ask.options)


# Options of `tpe` that are ours, for whoever asks it: `spread`, so many first proposals from a Sobol sequence instead;
# `partial`, a trial that was stopped counts by the best it reached, where Optuna puts it behind all complete ones.
OURS = ("spread", "partial")
WALKING = ("grid", "qmc")  # along a sequence, each ask at its own place

MAKERS: dict[str, Callable[[Ask], BaseSampler]] = {
    "tpe": _tpe,
    "random": _random,
    "grid": _grid,
    "brute": _brute,
    "qmc": _qmc,
    "cmaes": _cmaes,
    "gp": _gp,
    "nsga2": _nsga2,
    "nsga3": _nsga3,
}


def grid_size(dimensions: Mapping[str, BaseDistribution]) -> int:
    """How many points the grid of a space has, those that differ only in what is not active counted apart."""
    return math.prod(len(values(d)) for d in dimensions.values())
