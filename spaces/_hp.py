"""The vocabulary a space draws with: KerasTuner's own, without Keras, over any source of values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np

from spaces.errors import SpaceError

Value = int | float | str | bool | None
Kind = Literal["int", "float", "choice", "boolean", "fixed"]
Sampling = Literal["linear", "log", "reverse_log"]


@dataclass(frozen=True)
class Parameter:
    """One declared hyperparameter: its kind, its range or choices, and when it is active.

    `low` and `high` are inclusive; `step` is additive, or multiplicative where `sampling` is a log,
    as in KerasTuner. `conditions` are (parent, values) pairs that must all hold. `variant` tells it from another
    hyperparameter of the same name, where a space has such.
    """

    name: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    step: float | None = None
    sampling: Sampling = "linear"
    choices: tuple[Value, ...] = ()
    default: Value = None
    conditions: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    variant: str = ""

    @property
    def own_name(self) -> str:
        """A name that no other hyperparameter of the space has: `name`, or `name#variant`."""
        return f"{self.name}#{self.variant}" if self.variant else self.name

    @property
    def single(self) -> bool:
        """Whether only one value is left, so that there is nothing to sample."""
        if self.kind in ("int", "float"):
            return self.low == self.high
        return len(self.choices) == 1

    def grid(self) -> Sequence[float] | None:
        """The values of a stepped numeric parameter in order, or None where it is continuous."""
        if self.kind not in ("int", "float"):
            return None
        low, high, step = cast(float, self.low), cast(float, self.high), self.step
        if self.kind == "int" and (step is None or self.sampling == "linear"):
            return range(int(low), int(high) + 1, int(step or 1))
        if step is None:
            return None
        count = (
            int((high - low) / step + 1e-9)
            if self.sampling == "linear"
            else int(math.log(high / low) / math.log(step) + 1e-9)
        )
        values = [low + i * step if self.sampling == "linear" else low * step**i for i in range(count + 1)]
        if self.sampling == "reverse_log":
            values = [high + low - v for v in reversed(values)]
        if self.kind == "int":
            return tuple(round(v) for v in values)
        return tuple(max(low, min(float(f"{v:.12g}"), high)) for v in values)

    def size(self) -> float:
        """How many values it can take; infinity for a continuous one."""
        if self.kind in ("choice", "boolean", "fixed"):
            return len(self.choices)
        grid = self.grid()
        if grid is not None:
            return len(grid)
        return 1 if self.low == self.high else math.inf

    def contains(self, value: Any) -> bool:
        """Whether `value` is one this parameter can take (a stepped one only on its grid)."""
        if self.kind in ("choice", "boolean", "fixed"):
            return any(value == c and isinstance(value, bool) == isinstance(c, bool) for c in self.choices)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if self.kind == "int" and int(value) != value:
            return False
        grid = self.grid()
        if grid is None:
            return cast(float, self.low) <= value <= cast(float, self.high)
        if isinstance(grid, range):
            return value in grid
        return any(math.isclose(value, g, rel_tol=1e-9, abs_tol=1e-12) for g in grid)

    def describe(self) -> str:
        """Its range as a person would write it, and as `key=value` on the command line takes it."""
        if self.kind in ("choice", "boolean", "fixed"):
            return ",".join(show(c) for c in self.choices)
        extra = "" if self.step is None else f" step {show(self.step)}"
        spacing = "" if self.sampling == "linear" else f" {self.sampling}"
        return f"{show(self.low)}..{show(self.high)}{extra}{spacing}"


def show(value: Any) -> str:
    """A value as people write it: true, 0.001, adam."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_range(kind: str, name: str, low: Any, high: Any) -> None:
    if not (isinstance(low, (int, float)) and isinstance(high, (int, float)) and low <= high):
        raise SpaceError(f"hp.{kind}({name!r}, {low!r}, {high!r}): give two numbers, the lower one first")


def _number(text: str, parameter: Parameter) -> float:
    try:
        return int(text) if parameter.kind == "int" else float(text)
    except ValueError:
        what = "a whole number" if parameter.kind == "int" else "a number"
        raise SpaceError(
            f"{parameter.name}={text}: not {what}; give {what} or a range like "
            f"{parameter.name}={show(parameter.low)}..{show(parameter.high)}"
        ) from None


def _option(text: str, parameter: Parameter) -> Value:
    for choice in parameter.choices:
        if show(choice) == text.strip().lower() or show(choice) == text.strip():
            return choice
        if isinstance(choice, (int, float)) and not isinstance(choice, bool):
            try:
                if float(text) == choice:
                    return choice
            except ValueError:
                continue
    raise SpaceError(f"{parameter.name}={text}: not one of {', '.join(show(c) for c in parameter.choices)}")


def narrow(parameter: Parameter, text: str) -> Parameter:
    """`parameter` held to what `text` allows: a value, `low..high`, or `a,b,c`.

    Raises SpaceError where the text cannot be read or leaves the declared range.
    """
    text = text.strip()
    if parameter.kind in ("choice", "boolean", "fixed"):
        options = tuple(dict.fromkeys(_option(part, parameter) for part in text.split(",")))
        default = parameter.default if parameter.default in options else options[0]
        return replace(parameter, choices=options, default=default)
    if "," in text:
        listed = tuple(_within(_number(part, parameter), parameter) for part in text.split(","))
        return replace(
            parameter,
            kind="choice",
            choices=listed,
            low=None,
            high=None,
            step=None,
            sampling="linear",
            default=listed[0],
        )
    low_text, dots, high_text = text.partition("..")
    low = _within(_number(low_text, parameter), parameter)
    high = _within(_number(high_text, parameter), parameter) if dots else low
    if low > high:
        raise SpaceError(f"{parameter.name}={text}: the range is empty, {show(low)} is above {show(high)}")
    grid = parameter.grid()
    if grid is not None and parameter.step is not None:
        inside = [v for v in grid if low - 1e-12 <= v <= high + 1e-12]
        if not inside:
            raise SpaceError(f"{parameter.name}={text}: no value of {parameter.describe()} lies in it")
        low, high = inside[0], inside[-1]
    default = min(max(cast(float, parameter.default), low), high)
    return replace(parameter, low=low, high=high, default=default)


def _within(value: float, parameter: Parameter) -> float:
    low, high = cast(float, parameter.low), cast(float, parameter.high)
    if not math.isfinite(value) or not low <= value <= high:
        raise SpaceError(f"{parameter.name}={show(value)}: outside {show(low)}..{show(high)}, the range of this space")
    return value


@dataclass
class HyperParameters:
    """Draws values by KerasTuner's vocabulary; a subclass says where a value comes from.

    `values` holds what was drawn and is active; `declared` every parameter met, active or not, after
    narrowing. An inactive parameter of a conditional scope is drawn as None, as KerasTuner does.
    """

    narrowings: Mapping[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    declared: dict[str, Parameter] = field(default_factory=dict)
    _scopes: list[tuple[str, tuple[Value, ...]]] = field(default_factory=list)

    def draw(self, parameter: Parameter) -> Any:
        """One value for `parameter`."""
        raise NotImplementedError

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: Sampling | None = None,
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """A whole number from `min_value` to `max_value`, both included."""
        _check_range("Int", name, min_value, max_value)
        parameter = Parameter(
            name, "int", min_value, max_value, step, sampling or "linear", (), min_value if default is None else default
        )
        return self._register(parameter, parent_name, parent_values)

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: Sampling | None = None,
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """A real number from `min_value` to `max_value`, both included."""
        _check_range("Float", name, min_value, max_value)
        default = float(min_value if default is None else default)
        parameter = Parameter(
            name, "float", float(min_value), float(max_value), step, sampling or "linear", (), default
        )
        return self._register(parameter, parent_name, parent_values)

    def Choice(
        self,
        name: str,
        values: Sequence[Any],
        ordered: bool | None = None,
        default: Any = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """One of `values`."""
        if not values:
            raise SpaceError(f"hp.Choice({name!r}) has no values; give at least one")
        if not all(isinstance(value, (bool, int, float, str, type(None))) for value in values):
            raise SpaceError(f"hp.Choice({name!r}): {values!r} holds more than numbers, strings, booleans and None")
        parameter = Parameter(name, "choice", choices=tuple(values), default=values[0] if default is None else default)
        return self._register(parameter, parent_name, parent_values)

    def Boolean(
        self, name: str, default: bool = False, parent_name: str | None = None, parent_values: Any = None
    ) -> Any:
        """True or False."""
        parameter = Parameter(name, "boolean", choices=(False, True), default=default)
        return self._register(parameter, parent_name, parent_values)

    def Fixed(self, name: str, value: Any, parent_name: str | None = None, parent_values: Any = None) -> Any:
        """Always `value`; it is part of the configuration but nothing is sampled."""
        parameter = Parameter(name, "fixed", choices=(value,), default=value)
        return self._register(parameter, parent_name, parent_values)

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """What is drawn inside is active only where `parent_name` has one of `parent_values`."""
        if parent_name not in self.declared:
            raise SpaceError(f"conditional_scope({parent_name!r}): no such hyperparameter; draw it before the scope")
        self._scopes.append((parent_name, _as_tuple(parent_values)))
        try:
            yield
        finally:
            self._scopes.pop()

    def meet(self, parameter: Parameter, *, active: bool) -> Any:
        """The value of a parameter whose conditions somebody else has looked at; None where it is not active."""
        narrowed = self._narrowed(parameter)
        if active or parameter.name not in self.declared:
            self.declared[parameter.name] = narrowed
        if not active:
            return None
        if parameter.name not in self.values:
            fixed = parameter.kind == "fixed"
            self.values[parameter.name] = narrowed.choices[0] if fixed else self.draw(narrowed)
        return self.values[parameter.name]

    def get(self, name: str) -> Any:
        """The value of an active hyperparameter. Raises KeyError for any other."""
        if name not in self.values:
            raise KeyError(f"hyperparameter {name!r} is not active; active: {', '.join(self.values) or 'none'}")
        return self.values[name]

    def _register(self, parameter: Parameter, parent_name: str | None, parent_values: Any) -> Any:
        conditions = tuple(self._scopes)
        if parent_name is not None:
            conditions += ((parent_name, _as_tuple(parent_values)),)
        name = parameter.name
        known = self.declared.get(name)
        if name in self.values and known is not None:
            if replace(self._narrowed(parameter), conditions=known.conditions) != known:
                raise SpaceError(f"hyperparameter {name!r} is drawn twice with different ranges; rename one")
            return self.values[name]
        self.declared[name] = parameter = self._narrowed(replace(parameter, conditions=conditions))
        if not all(self.values.get(parent) in values for parent, values in conditions):
            return None
        value = parameter.choices[0] if parameter.kind == "fixed" else self.draw(parameter)
        self.values[name] = value
        return value

    def _narrowed(self, parameter: Parameter) -> Parameter:
        text = self.narrowings.get(parameter.name)
        return parameter if text is None else narrow(parameter, text)


def _as_tuple(values: Any) -> tuple[Value, ...]:
    return tuple(values) if isinstance(values, (list, tuple, set)) else (values,)


class Defaults(HyperParameters):
    """Every hyperparameter at its default, or at the value `forced` names."""

    def __init__(self, narrowings: Mapping[str, str] | None = None, forced: Mapping[str, Any] | None = None) -> None:
        super().__init__(narrowings or {})
        self.forced = forced or {}

    def draw(self, parameter: Parameter) -> Any:
        forced = self.forced.get(parameter.name)
        return forced if parameter.contains(forced) else parameter.default


class RandomDraws(HyperParameters):
    """Uniform draws (in the logarithm where the space says so) from one seeded generator."""

    def __init__(self, seed: int, narrowings: Mapping[str, str] | None = None) -> None:
        super().__init__(narrowings or {})
        self.rng = np.random.default_rng(seed)

    def draw(self, parameter: Parameter) -> Any:
        options = parameter.choices or parameter.grid()
        if options:
            return options[int(self.rng.integers(len(options)))]
        low, high = cast(float, parameter.low), cast(float, parameter.high)
        share = float(self.rng.random())
        if parameter.sampling == "linear":
            return low + share * (high - low)
        drawn = min(max(low * (high / low) ** share, low), high)
        return drawn if parameter.sampling == "log" else high + low - drawn


class Replay(HyperParameters):
    """A known configuration drawn again. Raises SpaceError where a value is missing or not in range."""

    def __init__(self, config: Mapping[str, Any], narrowings: Mapping[str, str] | None = None) -> None:
        super().__init__(narrowings or {})
        self.config = config

    def draw(self, parameter: Parameter) -> Any:
        if parameter.name not in self.config:
            raise SpaceError(f"{parameter.name} is missing; the space draws it from {parameter.describe()}")
        value = self.config[parameter.name]
        if not parameter.contains(value):
            raise SpaceError(f"{parameter.name}={show(value)}: not in {parameter.describe()}")
        return value
