"""What a study's trials are judged by: which figures they have, the values Optuna is told, the limits they break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.objectives import COUNTS, Direction, Limit, Objective, parse_limit, parse_objective
from search.trial.schedule import History, best_epoch
from search.trial.spec import BESIDE, KNOWN
from spaces import Space
from spaces._space import Config
from spaces.datasets import DataSpec

BYTES = 4  # of a weight

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Goals:
    """The objectives, the first one first, and the limits.

    `metric` is the metric of an epoch by which a trial's best epoch is chosen, in its `direction`: the first objective
    that is one, else the space's own. All figures of a trial are of the weights of that epoch.
    """

    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    metric: str
    direction: Direction

    @property
    def several(self) -> bool:
        """Whether there is a front instead of a best trial."""
        return len(self.objectives) > 1

    @property
    def by_epoch(self) -> bool:
        """Whether each epoch has a value of the one objective, which a pruner can compare."""
        return not self.several and self.objectives[0].name not in BESIDE

    @property
    def plain(self) -> bool:
        """Whether a trial's epochs alone say its value, and nothing limits it."""
        return self.by_epoch and not self.limits

    @property
    def names(self) -> tuple[str, ...]:
        """Every figure that a trial is judged by: objectives first, then what is limited, then the metric."""
        return tuple(dict.fromkeys((*self.shown, self.metric)))

    @property
    def shown(self) -> tuple[str, ...]:
        """The figures that a table shows: of objectives and limits."""
        return tuple(dict.fromkeys([*(o.name for o in self.objectives), *(limit.name for limit in self.limits)]))

    def known(self, space: Space, config: Config, data: DataSpec) -> dict[str, float]:
        """Those figures of a configuration that are known before it is trained."""
        return {name: known(name, space, config, data) for name in self.names if name in KNOWN}

    def figures(self, history: History, known: Figures, measured: Figures) -> dict[str, float]:
        """All figures of a trained trial, from its epochs, its configuration and what its worker measured.

        Raises KeyError where one is missing.
        """
        best = history[best_epoch(history, self.metric, self.direction)]
        sums = {"train_seconds": sum(record["seconds"] for record in history)}
        return {name: ({**best, **sums} | dict(known) | dict(measured))[name] for name in self.names}

    def values(self, figures: Figures) -> list[float]:
        """The objectives' values in order."""
        return [figures[objective.name] for objective in self.objectives]

    def values_of(self, values: Sequence[float], figures: Figures) -> dict[str, float]:
        """What a complete trial is shown with, by name: the `values` Optuna has, and what is limited."""
        every = {**figures, **{o.name: value for o, value in zip(self.objectives, values, strict=False)}}
        return {name: _whole(name, every[name]) for name in self.shown if name in every}

    def constraints(self, figures: Figures) -> dict[str, float]:
        """How far each limit is exceeded, by its text; at most zero where it is kept."""
        return {str(limit): limit.violation(figures[limit.name]) for limit in self.limits if limit.name in figures}

    def broken(self, figures: Figures) -> list[str]:
        """Each limit that these figures break, in words."""
        return [x.words(figures[x.name]) for x in self.limits if x.name in figures and x.broken(figures[x.name])]

    def over(self, figures: Figures) -> str:
        """The same as one reason; empty where all limits are kept."""
        found = self.broken(figures)
        return f"over limit: {', '.join(found)}" if found else ""

    def excess(self, figures: Figures) -> float:
        """The sum of how far limits are exceeded, above zero where one is broken."""
        return sum(each for each in self.constraints(figures).values() if each > 0)


def _whole(name: str, value: float) -> float:
    """A count as the whole number it is: Optuna and MLflow know floats alone."""
    return int(value) if name in COUNTS and value == value // 1 else value


def is_final(key: str) -> bool:
    """Whether a metric of a trial's run is a figure of the whole trial, not one of an epoch."""
    return key in BESIDE or key.startswith("best_")


def final(name: str) -> str:
    """What a figure of a whole trial is called among the metrics of its run."""
    return name if name in BESIDE else f"best_{name}"


def known(name: str, space: Space, config: Config, data: DataSpec) -> float:
    """A figure of KNOWN; `model_mb` is the size of the weights at four bytes each, in 1e6 bytes."""
    if name == "multiply_adds":
        return space.multiply_adds(config, data)
    count = space.params(config, data)
    return count * BYTES / 1e6 if name == "model_mb" else count


def read_goals(objectives: Sequence[str], limits: Sequence[str], own: Objective, *, merged: bool = False) -> Goals:
    """The goals that a plan stores as texts; a space's `own` objective where it names none.

    `merged` trains on all images, so that nothing is left to validate on: training's metrics take the place of
    validation's, and limits on those are gone.
    """
    read = [parse_objective(text) for text in objectives] or [own]
    bounds = [parse_limit(text) for text in limits]
    if merged:
        read = [Objective(o.name.removeprefix("val_"), o.direction) for o in read]
        own = Objective(own.name.removeprefix("val_"), own.direction)
        bounds = [limit for limit in bounds if not limit.name.startswith("val_")]
    judge = next((o for o in read if o.name not in BESIDE), own)
    return Goals(tuple(dict.fromkeys(read)), tuple(bounds), judge.name, judge.direction)
