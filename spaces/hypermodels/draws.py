"""What a stranger's build() draws, step by step, as far as it was seen: after these values comes that question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from spaces._hp import Parameter

Drawn = Sequence[tuple[str, Any]]  # names and values in the order in which they were drawn


@dataclass(frozen=True)
class Built:
    """A network that was built, and how it is trained, as the helper process tells it.

    `labels` are one-hot, sparse or binary; `accuracy` is the name of the metric that is one, empty where there is none.
    `batch_size` and `epochs` are what fit() asks for, `epochs` None where it leaves that open. `remarks` are for
    people.
    """

    params: int
    multiply_adds: int
    activations: int
    labels: str
    loss: str
    accuracy: str
    optimizer: str
    batch_size: int
    epochs: int | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """What comes after some values: a parameter to draw, or the end, which is a network or an error.

    `idle` are parameters met on the way that are switched off. `function` and `line` are those of the error, `fatal`
    says that it is to end the search.
    """

    idle: tuple[Parameter, ...] = ()
    parameter: Parameter | None = None
    built: Built | None = None
    error: str = ""
    function: str = "build"
    line: int = 1
    fatal: bool = False


class Known:
    """The steps that were seen. They are a function of the values drawn, or the stranger's code draws by chance."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}

    def after(self, drawn: Drawn) -> Step | None:
        """The step after these values; None where nobody has been there."""
        return self.steps.get(_key(drawn))

    def note(self, drawn: Drawn, step: Step) -> None:
        """Remember a step."""
        self.steps[_key(drawn)] = step

    def parameters(self) -> Iterator[Parameter]:
        """Every hyperparameter that was met, as often as it was."""
        for step in self.steps.values():
            yield from (*step.idle, *([step.parameter] if step.parameter is not None else []))

    def networks(self) -> Iterator[Built]:
        """Every network that was built."""
        return (step.built for step in self.steps.values() if step.built is not None)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, without errors: what failed once, for want of a network or of memory, may work again."""
        return {key: asdict(step) for key, step in self.steps.items() if not step.error}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Known:
        """What to_json made. Raises TypeError or KeyError for anything else."""
        known = cls()
        known.steps = {key: _step(value) for key, value in values.items()}
        return known


def parameter_of(values: Mapping[str, Any]) -> Parameter:
    """A parameter as JSON has it; its default is moved into its range, which KerasTuner does not ask of it."""
    conditions = tuple((name, tuple(of)) for name, of in values.get("conditions", ()))
    found = Parameter(**{**values, "choices": tuple(values.get("choices", ())), "conditions": conditions})
    return found if found.contains(found.default) else replace(found, default=_near(found))


def _near(parameter: Parameter) -> Any:
    if parameter.choices:
        return parameter.choices[0]
    low, high = parameter.low or 0.0, parameter.high or 0.0
    default = parameter.default if isinstance(parameter.default, (int, float)) else low
    grid = parameter.grid()
    return min(grid, key=lambda v: abs(v - default)) if grid else min(max(default, low), high)


def _step(values: Mapping[str, Any]) -> Step:
    parameter, built = values["parameter"], values["built"]
    return Step(
        idle=tuple(parameter_of(each) for each in values["idle"]),
        parameter=None if parameter is None else parameter_of(parameter),
        built=None if built is None else built_of(built),
        error=values["error"],
        function=values["function"],
        line=values["line"],
    )


def built_of(values: Mapping[str, Any]) -> Built:
    """A network as JSON has it."""
    return Built(**{**values, "remarks": tuple(values["remarks"])})


def _key(drawn: Drawn) -> str:
    return json.dumps([list(each) for each in drawn])
