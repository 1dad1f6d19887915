"""What a study's trials say of its hyperparameters, on equal terms: the values that can be held against each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search import ranking
from search.engines import optuna as engine

FEW_VALUES = 8  # of a hyperparameter, up to which each is looked at by itself
REACHED = 0.9  # share of the trials that must have reached an epoch for it to stand for all
STOPPED_FEW = 0.1  # share of stopped trials up to which the ends of the others stand for all


@dataclass(frozen=True)
class Dimension:
    """A hyperparameter as it was drawn: `number` from a range, `ordered` from numbers, `choice` from anything.

    `low` and `high` are the ends of the range; `choices` the options, or the few values that there are. `parameter` is
    Optuna's name for it, `log` says that it was drawn evenly over orders of magnitude, `whole` that it is an integer.
    """

    name: str
    parameter: str
    kind: Literal["number", "ordered", "choice"]
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def place(self, value: Any) -> float:
        """Where a value of a number or of ordered options lies, on the scale it was drawn on."""
        if self.kind == "number":
            return math.log(value) if self.log else float(value)
        return float(self.choices.index(value))

    @property
    def ends(self) -> tuple[float, float]:
        """The ends on that scale."""
        if self.kind == "number":
            return self.place(self.low), self.place(self.high)
        return 0.0, float(len(self.choices) - 1)


@dataclass(frozen=True)
class Observation:
    """A trial's hyperparameters (inactive ones are not there) and its `value`, comparable with all others'.

    `end` is its own value where it was trained to the end; `stopped` says that it was pruned before, `over` that it is
    over a limit.
    """

    number: int
    values: Mapping[str, Any]
    value: float
    end: float | None
    stopped: bool
    over: bool
    parameters: int | None


@dataclass(frozen=True)
class Observed:
    """Comparable trials: their values after `epochs`, or at their ends where that is None.

    `counts` are the trials by how they ended: complete, stopped, failed, infeasible, unfinished.
    """

    trials: tuple[Observation, ...]
    dimensions: Mapping[str, Dimension]
    direction: str
    epochs: int | None
    counts: Mapping[str, int]

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.direction == "maximize" else -1

    def having(self, name: str) -> tuple[Observation, ...]:
        """The trials in which a hyperparameter was active."""
        return tuple(t for t in self.trials if name in t.values)

    def leading(self) -> tuple[Observation, ...]:
        """The trials, the best first: those trained to the end by their ends, then the others by how far they came.

        Those over a limit come last.
        """

        def rank(trial: Observation) -> tuple[bool, bool, float, int]:
            reached = trial.value if trial.end is None else trial.end
            return trial.over, trial.end is None, -self.sign * reached, trial.number

        return tuple(sorted(self.trials, key=rank))


def observe(trials: Sequence[FrozenTrial], direction: str, objective: int = 0) -> Observed:
    """The comparable trials among those of a study, by one of its objectives.

    Where many were stopped early, those that were not are a choice of the best; then all are compared by their best
    value within as many epochs as nearly all reached. Failed and infeasible trials have no value.
    """
    counts = Counter(_kind(t) for t in trials if engine.REFUSED not in t.user_attrs)
    ended = [t for t in engine.counted(list(trials)) if _kind(t) in ("complete", "stopped")]
    ended = [t for t in ended if t.intermediate_values or t.state == TrialState.COMPLETE]
    stopped = sum(t.state == TrialState.PRUNED for t in ended)
    epochs = None if stopped <= STOPPED_FEW * len(ended) else _common(ended)
    best = max if direction == "maximize" else min
    found = []
    dimensions = _dimensions(ended)
    for trial in ended:
        end = trial.values[objective] if trial.state == TrialState.COMPLETE and trial.values else None
        seen = [v for step, v in trial.intermediate_values.items() if epochs is None or step <= epochs]
        value = best(seen, default=None) if epochs is not None else end
        if value is None or not math.isfinite(value) or (epochs and max(trial.intermediate_values) < epochs):
            continue
        drawn = {name: _value(trial, d) for name, d in dimensions.items() if d.parameter in trial.params}
        drawn = {
            name: v for name, v in drawn.items() if dimensions[name].kind == "number" or v in dimensions[name].choices
        }
        count = trial.user_attrs.get("parameters")
        stopped, over = trial.state == TrialState.PRUNED, not ranking.within(trial)
        found.append(Observation(trial.number, drawn, float(value), end, stopped, over, count))
    return Observed(tuple(found), dimensions, direction, epochs, dict(counts))


def _kind(trial: FrozenTrial) -> str:
    if not trial.state.is_finished():
        return "unfinished"
    if trial.state == TrialState.FAIL:
        return "failed"
    if trial.state == TrialState.COMPLETE:
        return "complete"
    return "infeasible" if any(v > 0 for v in trial.constraints.values()) else "stopped"


def _common(trials: Sequence[FrozenTrial]) -> int:
    """The most epochs that nearly all trials have reached."""
    reached = sorted((max(t.intermediate_values, default=0) for t in trials), reverse=True)
    return max(1, reached[max(0, math.ceil(REACHED * len(reached)) - 1)])


def _value(trial: FrozenTrial, dimension: Dimension) -> Any:
    config = trial.user_attrs.get("config", {})
    return config.get(dimension.name, trial.params[dimension.parameter])


def _dimensions(trials: Sequence[FrozenTrial]) -> dict[str, Dimension]:
    """Every hyperparameter that was drawn and has two values or more among the trials."""
    newest: dict[str, BaseDistribution] = {}
    for trial in trials:
        newest |= trial.distributions
    found = {}
    for parameter, distribution in newest.items():
        name = parameter.partition("#")[0]
        dimension = _dimension(name, parameter, distribution, trials)
        seen = {repr(_value(t, dimension)) for t in trials if parameter in t.params}
        if len(seen) > 1:
            found[name] = dimension
    return found


def _dimension(name: str, parameter: str, distribution: BaseDistribution, trials: Sequence[FrozenTrial]) -> Dimension:
    if isinstance(distribution, CategoricalDistribution):
        choices = tuple(distribution.choices)
        numbers = [c for c in choices if isinstance(c, (int, float)) and not isinstance(c, bool)]
        ordered = len(numbers) == len(choices) > 2 and sorted(numbers) == numbers
        return Dimension(name, parameter, "ordered" if ordered else "choice", choices=choices)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    plain = Dimension(name, parameter, "number", distribution.low, distribution.high)
    values = [_value(t, plain) for t in trials if parameter in t.params]
    whole, log = all(isinstance(v, int) for v in values), distribution.log and "#reflected" not in parameter
    low, high = distribution.low, distribution.high
    if "#index" in parameter:  # drawn by its place among powers
        low, high, log = min(values), max(values), True
    few = tuple(sorted(set(values)))
    grid = distribution.step is not None and (distribution.high - distribution.low) / distribution.step < FEW_VALUES
    return Dimension(name, parameter, "number", low, high, log, whole, few if grid and len(few) <= FEW_VALUES else ())
