"""Where the good values of a hyperparameter lie, what lies outside them costs, and what to narrow it to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.observed import Dimension, Observation, Observed
from search.statistics import Interval, mean_interval

QUARTER = 0.25
LEAST = 3  # trials that a mean is worth saying of
NARROWER = 2 / 3  # of a range, above which narrowing it is not worth it
EDGE = 0.05  # of a range, within which its end is touched


@dataclass(frozen=True)
class Group:
    """Trials that share a value, or lie on one side of the good ones: their mean result with its interval.

    `difference` is how much worse their mean is than that of the trials in the good range, or of the best option, with
    its interval; NaN for those themselves. `stopped` of these `trials` were stopped early, `good` are among the best
    quarter.
    """

    what: str
    trials: int
    mean: float
    interval: Interval
    stopped: int
    good: int = 0
    difference: float = math.nan
    difference_interval: Interval = (math.nan, math.nan)

    @property
    def clear(self) -> bool:
        """Whether its mean is surely worse."""
        return self.trials >= LEAST and self.difference_interval[0] > 0


@dataclass(frozen=True)
class Good:
    """Where the best quarter of the trials lies: `low` to `high` of a number, `options` of anything else.

    `edge` names an end of the space that the best lie at, "" where they lie inside.
    """

    name: str
    best: int
    low: Any
    high: Any
    options: tuple[Any, ...]
    groups: tuple[Group, ...]
    edge: str


def good(observed: Observed, dimension: Dimension) -> Good:
    """Where the good values of a hyperparameter lie, among the trials in which it was active."""
    name = dimension.name
    leading = [t for t in observed.leading() if name in t.values]
    best = leading[: max(LEAST, math.ceil(QUARTER * len(leading)))]
    values = [t.values[name] for t in best]
    if dimension.kind == "choice" or dimension.choices:
        seen = tuple(c for c in dimension.choices if c in [t.values[name] for t in leading])
        counted = Counter(repr(v) for v in values)
        by_option = {repr(o): [t for t in leading if t.values[name] == o] for o in seen}
        tried = [trials for trials in by_option.values() if len(trials) >= LEAST]
        most = max(tried, key=lambda trials: observed.sign * float(np.mean([t.value for t in trials])), default=None)
        groups = tuple(
            _group(observed, o, by_option[repr(o)], counted[repr(o)], None if by_option[repr(o)] is most else most)
            for o in seen
        )
        options = tuple(option for option in seen if counted[repr(option)])
        low, high = (None, None) if dimension.kind == "choice" else (min(values), max(values))
        return Good(name, len(best), low, high, options, groups, _edge(dimension, low, high, values))
    low, high = min(values), max(values)
    inside = [t for t in leading if low <= t.values[name] <= high]
    sides = {"in it": inside, "below it": [t for t in leading if t.values[name] < low],
             "above it": [t for t in leading if t.values[name] > high]}  # fmt: skip
    groups = tuple(
        _group(observed, side, trials, len(best) if side == "in it" else 0, inside if side != "in it" else None)
        for side, trials in sides.items()
        if trials
    )
    return Good(name, len(best), low, high, (), groups, _edge(dimension, low, high, values))


def _group(
    observed: Observed,
    what: Any,
    trials: Sequence[Observation],
    among: int,
    against: Sequence[Observation] | None = None,
) -> Group:
    results = [t.value for t in trials]
    worse, interval = math.nan, (math.nan, math.nan)
    if against:
        worse, interval = difference([t.value for t in against], results, observed.sign)
    return Group(
        what,
        len(trials),
        float(np.mean(results)),
        mean_interval(results),
        sum(t.stopped for t in trials),
        among,
        worse,
        interval,
    )


def difference(better: Sequence[float], worse: Sequence[float], sign: int = 1) -> tuple[float, Interval]:
    """How much lower (`sign` 1) or higher (-1) the second mean is than the first, with Welch's 95 % interval.

    The interval's ends are NaN where either has fewer than two values.
    """
    from scipy.stats import ttest_ind

    gap = sign * (float(np.mean(better)) - float(np.mean(worse)))
    if min(len(better), len(worse)) < 2:
        return gap, (math.nan, math.nan)
    if np.ptp(better) == 0 and np.ptp(worse) == 0:  # no spread to tell an interval from
        return gap, (gap, gap)
    found = ttest_ind(np.multiply(sign, better), np.multiply(sign, worse), equal_var=False).confidence_interval(0.95)
    return gap, (float(found.low), float(found.high))


def _edge(dimension: Dimension, low: Any, high: Any, best: Sequence[Any]) -> str:
    """The end of its range at which half of the best lie."""
    if dimension.kind == "choice":
        return ""
    bottom, top = dimension.ends
    places, width = [dimension.place(v) for v in best], dimension.ends[1] - dimension.ends[0]
    at_top = sum(place >= top - EDGE * width for place in places)
    at_bottom = sum(place <= bottom + EDGE * width for place in places)
    if 2 * max(at_top, at_bottom) < len(best):
        return ""
    return "upper" if at_top > at_bottom else "lower"


def narrowed(dimension: Dimension, found: Good) -> str | None:
    """What to narrow a hyperparameter to, as the command line takes it; None where that is not worth it.

    An option that too few trials had is not dropped.
    """
    if found.options:
        tried = {repr(g.what): g for g in found.groups}
        kept = [
            option
            for option in dimension.choices
            if option in found.options or repr(option) not in tried or tried[repr(option)].trials < LEAST
        ]
        if dimension.kind != "choice":  # nothing is cut out of the middle
            kept = [c for c in dimension.choices if kept[0] <= c <= kept[-1]]
        if len(kept) == len(dimension.choices) or any(isinstance(c, str) and "," in c for c in kept):
            return None
        if dimension.kind == "number" and len(kept) > 1:  # a list would forget its order
            return f"{written(kept[0])}..{written(kept[-1])}"
        return ",".join(written(option) for option in kept)
    low, high = dimension.place(found.low), dimension.place(found.high)
    bottom, top = dimension.ends
    if high - low > NARROWER * (top - bottom) or low == high:
        return None
    if dimension.whole:
        return f"{found.low}..{found.high}"
    return f"{_rounded(found.low, dimension.low, up=False)}..{_rounded(found.high, dimension.high, up=True)}"


def written(value: Any) -> str:
    """A value as the command line takes it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _rounded(value: float, end: float, *, up: bool) -> str:
    """Two digits of a number, outward and within the range that ends at `end`."""
    if value == 0:
        return "0.0"
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    shorter = (math.ceil if up else math.floor)(round(value / unit, 9)) * unit
    kept = min(shorter, end) if up else max(shorter, end)
    return repr(end) if kept == end else f"{kept:.2g}"
