"""How large a space is: the combinations of what has values to list, and the names of what has none."""

from __future__ import annotations

import math
from collections.abc import Mapping

from spaces import Parameter, reachable


def combinations(parameters: Mapping[str, Parameter]) -> tuple[float, list[str]]:
    """(combinations of all that is not continuous, names of what is); conditional ones count where active."""
    parameters = reachable(parameters)
    continuous = [name for name, p in parameters.items() if math.isinf(p.size())]
    children: dict[str, list[Parameter]] = {}
    for p in parameters.values():
        if p.conditions:
            children.setdefault(p.conditions[-1][0], []).append(p)

    def size(p: Parameter) -> float:
        own = 1.0 if p.name in continuous else p.size()
        mine = children.get(p.name, [])
        if not mine:
            return own
        return sum(
            math.prod(size(child) for child in mine if value in child.conditions[-1][1])
            for value in p.choices or p.grid() or (None,)
        )

    return math.prod(size(p) for p in parameters.values() if not p.conditions), continuous
