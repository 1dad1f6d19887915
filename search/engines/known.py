"""A configuration that is known, as Optuna would have drawn it: also what it draws under other names than the space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from optuna.trial import FixedTrial

from search.engines.optuna import OptunaDraws, Proposal
from search.fits import typed
from spaces import Parameter, Space


class _Told(OptunaDraws):
    """Draws the values it is told, each turned into what Optuna would have suggested for it."""

    def __init__(self, values: Mapping[str, Any], narrowings: Mapping[str, str]) -> None:
        self.told: dict[str, Any] = {}
        super().__init__(FixedTrial(self.told), narrowings)
        self.known = values

    def draw(self, parameter: Parameter) -> Any:
        if parameter.single:
            return super().draw(parameter)
        value = typed(parameter, self.known[parameter.name])
        self.told |= _suggested(parameter, value)
        super().draw(parameter)
        return value  # and not what was made of it and back


def known(space: Space, values: Mapping[str, Any], narrowings: Mapping[str, str]) -> Proposal:
    """The proposal with these values of hyperparameters. Raises KeyError where one that the space draws is missing."""
    hp = _Told(values, narrowings)
    config = space.sample(hp)
    trial = cast(FixedTrial, hp.trial)
    return Proposal(config, dict(trial.params), dict(trial.distributions))


def _suggested(parameter: Parameter, value: Any) -> dict[str, Any]:
    """Optuna's name and value for a value of a hyperparameter, as `OptunaDraws.draw` reads it back."""
    name = parameter.name
    grid = parameter.grid()
    if grid is not None and parameter.sampling != "linear" and parameter.step is not None:
        return {f"{name}#index": min(range(len(grid)), key=lambda i: abs(grid[i] - value))}
    if parameter.sampling == "reverse_log" and not parameter.choices:
        low, high = cast(float, parameter.low), cast(float, parameter.high)
        return {f"{name}#reflected": min(max(high + low - value, low), high)}
    return {name: value}
