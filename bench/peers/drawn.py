"""A peer's values as a configuration of a table: each at the nearest point of its grid, what is inactive left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spaces import HyperParameters, Parameter, Space
from spaces._space import Config


class _Nearest(HyperParameters):
    def __init__(self, drawn: Mapping[str, Any]) -> None:
        super().__init__()
        self.drawn = drawn

    def draw(self, parameter: Parameter) -> Any:
        value = self.drawn[parameter.name]
        if parameter.choices:
            return next(choice for choice in parameter.choices if choice == value)
        return min(cast(tuple[float, ...], parameter.grid()), key=lambda point: abs(point - value))


def config_of(space: Space, drawn: Mapping[str, Any]) -> Config:
    """The configuration of these values; a peer that knows no conditions has drawn inactive ones too."""
    return space.sample(_Nearest(drawn))


def options(parameter: Parameter) -> list[Any]:
    """Every value of a hyperparameter, in order."""
    return list(parameter.choices or cast(tuple[float, ...], parameter.grid()))
