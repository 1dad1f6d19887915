"""A configuration that is known, as Optuna would have drawn it: also what it draws under other names than the space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from optuna.distributions import BaseDistribution
from optuna.trial import FixedTrial

from search.engines.optuna import OptunaDraws, Proposal
from search.fits import typed
from spaces import Parameter, Space


class _Told(FixedTrial):
    """A trial that suggests `value`, under whatever name it is asked for: its place in `grid`, or its reflection."""

    value: Any = None
    grid: Sequence[float] = ()

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        suggested = self.value
        if name.endswith("#index"):
            suggested = min(range(len(self.grid)), key=lambda i: abs(self.grid[i] - self.value))
        elif name.endswith("#reflected"):
            low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
            suggested = min(max(math.fsum((high, low, -self.value)), low), high)
        self._params[name] = suggested
        return super()._suggest(name, distribution)


class _Known(OptunaDraws):
    """Draws the values it is told."""

    def __init__(self, values: Mapping[str, Any], narrowings: Mapping[str, str]) -> None:
        super().__init__(_Told({}), narrowings)
        self.known = values

    def draw(self, parameter: Parameter) -> Any:
        if parameter.single:
            return super().draw(parameter)
        trial = cast(_Told, self.trial)
        trial.value = typed(parameter, self.known[parameter.name])
        trial.grid = parameter.grid() or ()
        super().draw(parameter)
        return trial.value  # and not what was made of it and back


def known(space: Space, values: Mapping[str, Any], narrowings: Mapping[str, str]) -> Proposal:
    """The proposal with these values of hyperparameters. Raises KeyError where one that the space draws is missing."""
    hp = _Known(values, narrowings)
    config = space.sample(hp)
    trial = cast(_Told, hp.trial)
    return Proposal(config, dict(trial.params), dict(trial.distributions))
