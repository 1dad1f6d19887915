"""Whether a configuration of another space, or of an earlier version of one, is one of this space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spaces import HyperParameters, Parameter, Replay, Space
from spaces._hp import show
from spaces.datasets import describe
from spaces.errors import SpaceError


class Misfit(Exception):
    """Raised where a configuration is none of a space; the message says why, alike for like reasons."""


@dataclass(frozen=True)
class Fit:
    """A configuration in a space's own terms.

    `values` are its hyperparameters by name. `assumed` are those that it lacked, at the space's defaults; `aside` is
    what it had besides and the space does not draw.
    """

    config: dict[str, Any]
    values: dict[str, Any]
    assumed: dict[str, Any]
    aside: dict[str, Any]


@dataclass
class _Filled(HyperParameters):
    """Draws known values, and the default of what is not known."""

    known: Mapping[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)

    def draw(self, parameter: Parameter) -> Any:
        if parameter.name not in self.known:
            self.assumed[parameter.name] = parameter.default
            return parameter.default
        value = self.known[parameter.name]
        if not parameter.contains(value):
            raise Misfit(_outside(parameter, value))
        return typed(parameter, value)


def typed(parameter: Parameter, value: Any) -> Any:
    """A value that `parameter` contains, as it gives it: 8 is 8.0 of a Float, and the very option of a Choice."""
    if parameter.choices:
        return next(c for c in parameter.choices if c == value and isinstance(c, bool) == isinstance(value, bool))
    return int(value) if parameter.kind == "int" else float(value)


def fit(space: Space, values: Mapping[str, Any], narrowings: Mapping[str, str]) -> Fit:
    """The configuration of `space`, narrowed, that has these values of hyperparameters.

    What the space draws and `values` lack takes the space's default. Raises Misfit where a value, or such a default,
    is not in range, or where the space's own code fails on it.
    """
    hp = _Filled(known=values)
    try:
        config = space.sample(hp)
        for name, value in config.items():
            if name in values and not _same(values[name], value):  # Fixed, or made from others
                raise Misfit(f"{name}={show(values[name])} is not in this space")
        if narrowings:
            space.sample(_Narrowed(hp.values, narrowings))
    except Misfit:
        raise
    except SpaceError as error:
        raise Misfit(str(error)) from error
    except Exception as error:  # whatever a space's own code raises on a configuration it never drew
        raise Misfit(f"the space fails on it ({type(error).__name__})") from error
    aside = {name: value for name, value in values.items() if name not in hp.values and name not in config}
    assumed = {name: value for name, value in hp.assumed.items() if hp.values.get(name) == value}
    return Fit(config, dict(hp.values), assumed, aside)


def parameters(space: Space, config: dict[str, Any]) -> int:
    """How many parameters the network of a configuration has. Raises Misfit where the space's own code fails on it."""
    try:
        return space.params(config, describe(space.dataset))
    except Exception as error:  # whatever it raises
        raise Misfit(f"the space fails on it ({type(error).__name__})") from error


class _Narrowed(Replay):
    """A configuration drawn again from a narrower space."""

    def draw(self, parameter: Parameter) -> Any:
        value = self.config[parameter.name]
        if not parameter.contains(value):
            raise Misfit(_outside(parameter, value))
        return value


def reasons(counts: Mapping[str, int]) -> str:
    """Reasons, the most frequent first, with how often each where there are several."""
    several = len(counts) > 1
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return "; ".join(f"{why} ({count})" if several else why for why, count in ordered)


def _outside(parameter: Parameter, value: Any) -> str:
    """Why a value is not one of a hyperparameter's, the same for every value outside a range."""
    if parameter.choices:
        return f"{parameter.name}={show(value)} is not in this space"
    return f"{parameter.name} is outside {parameter.describe()}"


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
