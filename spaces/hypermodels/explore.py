"""Finds every hyperparameter that a stranger's build() can draw, with as few networks built as that takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from spaces._hp import Defaults, HyperParameters, Parameter, RandomDraws
from spaces.errors import SpaceError

DRAWS = 8  # random configurations, for what is behind several values at once, where something is behind one
MOST = 100  # networks that are built for values tried one by one

Sample = Callable[[HyperParameters], Any]


class Largest(Defaults):
    """Every number at its highest and every switch on, but for what is forced: a loop then goes as far as it can."""

    def draw(self, parameter: Parameter) -> Any:
        """One value for `parameter`."""
        if parameter.contains(self.forced.get(parameter.name)):
            return self.forced[parameter.name]
        if parameter.kind in ("int", "float"):
            return (parameter.grid() or (parameter.high,))[-1]
        return True if parameter.kind == "boolean" and True in parameter.choices else parameter.default


def explored(sample: Sample, narrowings: Mapping[str, str]) -> dict[str, Parameter]:
    """Every hyperparameter, in the order first met; a function of the space alone.

    Each value of a choice and the ends of each range are tried in turn, as well for what is met only then. Raises what
    `sample` raises on the defaults; another configuration that fails is its own fault, met again where it is drawn.
    """
    found: dict[str, Parameter] = {}
    left: deque[dict[str, Any]] = deque()

    def walk(hp: HyperParameters, forced: Mapping[str, Any], *, must: bool = False) -> None:
        try:
            sample(hp)
        except SpaceError:
            if must:
                raise
        new = {name: p for name, p in hp.declared.items() if name not in found}
        found.update(new)
        left.extend({**forced, name: value} for name, p in new.items() for value in _others(p))

    walk(Defaults(narrowings), {}, must=True)
    plain = len(found)
    for _ in range(MOST):
        if not left:
            break
        forced = left.popleft()
        walk(Defaults(narrowings, forced), forced)
    walk(Largest(narrowings), {})
    for seed in range(DRAWS if len(found) > plain else 0):
        walk(RandomDraws(seed, narrowings), {})
    return found


def _others(parameter: Parameter) -> Iterator[Any]:
    """Values to try beside the default."""
    ends = parameter.grid() or (parameter.low, parameter.high)
    tried = parameter.choices or (ends[0], ends[-1])
    return (value for value in tried if value != parameter.default)
