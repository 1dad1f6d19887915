"""The Pareto front: those of which no other is at least as good in everything and better in something."""

from __future__ import annotations

import math
from collections.abc import Sequence

Values = Sequence[float]


def dominates(one: Values, other: Values, signs: Sequence[int]) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better; a sign is 1 where more is better, else -1."""
    pairs = [(sign * a, sign * b) for a, b, sign in zip(one, other, signs, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def front(points: Sequence[Values], signs: Sequence[int]) -> list[int]:
    """The indexes of the points on the front, in order; equals are on it together, what has a NaN never is."""
    able = [i for i, point in enumerate(points) if not any(math.isnan(value) for value in point)]
    found: list[int] = []
    # The best in the first objective first, of equals the best in the next: nobody is dominated by one behind.
    for i in sorted(able, key=lambda i: [-sign * value for sign, value in zip(signs, points[i], strict=True)]):
        if not any(dominates(points[j], points[i], signs) for j in found):
            found.append(i)
    return sorted(found)
