"""The samplers that can be asked for by name, each with the rule by which a search resumed proposes the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Ask:
    """One ask for a configuration, which a sampler is made for and then forgotten.

    `seed` is this ask's alone, `study_seed` the same for all; `position` counts along a sequence from 0.
    `dimensions()` gives every hyperparameter the space can draw, those not always active among them.
    """

    seed: int
    study_seed: int
    position: int
    dimensions: Callable[[], Mapping[str, BaseDistribution]]


def _tpe(ask: Ask) -> BaseSampler:
    """Resumes by the trials so far and a seed of each ask's own."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=ask.seed)


def _random(ask: Ask) -> BaseSampler:
    """Resumes by a seed of each ask's own; knows nothing of the trials so far."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=ask.seed)


def _qmc(ask: Ask) -> BaseSampler:
    """Resumes by the study's seed, which fixes one scrambled Sobol sequence, and the position along it.

    The position is one behind the last that a stored trial came from, so what was refused, pruned or repeated
    leaves neither gaps nor repeats, and baselines take no position. Every hyperparameter has a dimension of its
    own, used only where it is active. Optuna alone would count in the study's attributes, of which a copy has
    none, and take its dimensions from the first trial, in which not all are active.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import QMCSampler, RandomSampler

    class Positioned(QMCSampler):
        def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
            return dict(ask.dimensions())

        def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
            return ask.position

    # The other sampler draws what has a range that depends on other values; not with the study's seed, which
    # would give each trial the same.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return Positioned(
            scramble=True,
            seed=ask.study_seed,
            independent_sampler=RandomSampler(seed=ask.seed),
            warn_independent_sampling=False,
        )


SAMPLERS: dict[str, Callable[[Ask], BaseSampler]] = {"tpe": _tpe, "random": _random, "qmc": _qmc}
