"""What a study's trials say of its hyperparameters: which mattered, where the good values lie, how sure that is."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from search.goals import Goals
from search.good import LEAST, Good, good, narrowed
from search.influence import SKILLED, Influence, Share, influence
from search.observed import Dimension, Observation, Observed, observe
from search.statistics import Interval
from spaces import Space, declared
from spaces._hp import show

LEAST_TRIALS = 10  # below which nothing is said
ENOUGH = 4  # trials a hyperparameter, below which they are few
PAIRS = 2  # of hyperparameters that belong together, that are told


@dataclass(frozen=True)
class Conditional:
    """Hyperparameters that are active only under a condition: their shares among the trials in which they are.

    `shares` is empty where those are too few.
    """

    names: tuple[str, ...]
    condition: str
    trials: int
    shares: Mapping[str, Share]


@dataclass(frozen=True)
class Together:
    """Two hyperparameters of which one's good values depend on the other's: in each `case` where they lie."""

    names: tuple[str, str]
    share: Share
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of the parameter count with the result, with its 95 % interval."""

    value: float
    interval: Interval
    trials: int


@dataclass(frozen=True)
class Explained:
    """A study explained. `influence` is None where there are too few trials, for the reason in `too_few`.

    `narrow` is what to narrow the space to next, by hyperparameter; `command` does so.
    """

    study: str
    metric: str
    observed: Observed
    too_few: str
    influence: Influence | None = None
    good: Mapping[str, Good] | None = None
    together: tuple[Together, ...] = ()
    conditional: tuple[Conditional, ...] = ()
    parameters: Correlation | None = None
    narrow: Mapping[str, str] | None = None
    command: str = ""

    @property
    def few(self) -> bool:
        """Whether the trials are few for so many hyperparameters."""
        return len(self.observed.trials) < ENOUGH * len(self.observed.dimensions)

    def contoured(self) -> list[str]:
        """Optuna's names of what contours are of, the most important first; none where there are too few trials."""
        if self.influence is None:
            return []
        leading = self.influence.matter
        rest = [name for name in self.influence.shares if name not in leading]
        return [self.observed.dimensions[name].parameter for name in (*leading, *rest)]


def examine(study: optuna.Study, goals: Goals, space: Space | None, objective: int = 0, *, seed: int = 0) -> Explained:
    """Explain one of a study's objectives; `space` says under which conditions a hyperparameter is active."""
    name, stored = study.study_name, study.user_attrs["plan"]
    metric = goals.objectives[objective].name
    observed = observe(study.get_trials(deepcopy=False), goals.objectives[objective].direction, objective)
    trials = observed.trials
    varied = [d for d in observed.dimensions.values() if len(observed.having(d.name)) == len(trials)]
    too_few = _too_few(observed, varied)
    if too_few:
        return Explained(name, metric, observed, too_few)
    found = influence(varied, [t.values for t in trials], [t.value for t in trials], seed)
    places = {each: good(observed, observed.dimensions[each]) for each in found.matter}
    narrow = {n: text for n, g in places.items() if (text := narrowed(observed.dimensions[n], g)) is not None}
    return Explained(
        name,
        metric,
        observed,
        "",
        found,
        places,
        tuple(_together(observed, found, pair) for pair in found.together[:PAIRS]),
        tuple(_conditional(observed, varied, space, seed)),
        _correlation(trials),
        narrow,
        _command(stored, name, narrow) if narrow else "",
    )


def _too_few(observed: Observed, varied: Sequence[Dimension]) -> str:
    count = len(observed.trials)
    if count < LEAST_TRIALS:
        return f"{count} trials with comparable results are too few to say what mattered; {LEAST_TRIALS} are the least"
    if not varied:
        return "no hyperparameter varied over all trials"
    if len({t.value for t in observed.trials}) < 2:
        return "all trials came to the same result"
    return ""


def _together(observed: Observed, found: Influence, pair: tuple[str, str]) -> Together:
    """Where the good values of one lie in each case of the other."""
    first, second = (observed.dimensions[name] for name in pair)
    if not _is_split(first) and not _is_split(second):
        return Together(pair, found.pairs[pair], _corners(observed, first, second))
    split, other = (first, second) if _is_split(first) else (second, first)
    cases = []
    leading = observed.leading()
    for option in split.choices:
        mine = [t for t in leading if t.values[split.name] == option]
        if len(mine) < LEAST:
            continue
        best = mine[: max(2, math.ceil(len(mine) / 4))]
        cases.append(
            f"with {split.name}={show(option)} ({len(mine)} trials) the best {len(best)} have {other.name} "
            f"{_span(other, best)}"
        )
    return Together(pair, found.pairs[pair], tuple(cases))


def _is_split(dimension: Dimension) -> bool:
    return bool(dimension.choices)


def _span(dimension: Dimension, trials: Sequence[Observation]) -> str:
    values = [t.values[dimension.name] for t in trials]
    if dimension.kind == "choice":
        return ", ".join(dict.fromkeys(show(v) for v in values))
    return f"{min(values):.3g}..{max(values):.3g}" if min(values) != max(values) else f"{values[0]:.3g}"


def _corners(observed: Observed, first: Dimension, second: Dimension) -> tuple[str, ...]:
    """The mean result in each of the four corners that two medians make."""
    middles = [float(np.median([d.place(t.values[d.name]) for t in observed.trials])) for d in (first, second)]
    cases = []
    for high_first in (False, True):
        for high_second in (False, True):
            mine = [
                t.value
                for t in observed.trials
                if (first.place(t.values[first.name]) > middles[0]) == high_first
                and (second.place(t.values[second.name]) > middles[1]) == high_second
            ]
            if len(mine) >= LEAST:
                words = ["high" if high else "low" for high in (high_first, high_second)]
                mean = f"mean {np.mean(mine):.4f} ({len(mine)} trials)"
                cases.append(f"{first.name} {words[0]} and {second.name} {words[1]}: {mean}")
    return tuple(cases)


def _conditional(observed: Observed, varied: Sequence[Dimension], space: Space | None, seed: int) -> list[Conditional]:
    """Those active only in some trials, together where they are active in the same."""
    groups: dict[tuple[int, ...], list[Dimension]] = {}
    for dimension in observed.dimensions.values():
        if dimension not in varied:
            numbers = tuple(t.number for t in observed.having(dimension.name))
            groups.setdefault(numbers, []).append(dimension)
    found = []
    for dimensions in groups.values():
        mine = observed.having(dimensions[0].name)
        names = tuple(d.name for d in dimensions)
        shares: dict[str, Share] = {}
        if len(mine) >= LEAST_TRIALS and len({t.value for t in mine}) > 1:
            within = influence([*varied, *dimensions], [t.values for t in mine], [t.value for t in mine], seed)
            if within.skill >= SKILLED:
                shares = {name: within.shares[name] for name in names}
        found.append(Conditional(names, _condition(names[0], space), len(mine), shares))
    return found


def _condition(name: str, space: Space | None) -> str:
    """Under which condition a hyperparameter is active, in words; empty where nobody says."""
    if space is None:
        return ""
    parameter = declared(space).get(name)
    if parameter is None:
        return ""
    return " and ".join(f"{parent}={','.join(show(v) for v in of)}" for parent, of in parameter.conditions)


def _correlation(trials: Sequence[Observation]) -> Correlation | None:
    """None where all networks are of one size. Interval by Fisher's transformation (Fieller and others, 1957)."""
    from scipy.stats import norm, spearmanr

    pairs = [(t.parameters, t.value) for t in trials if t.parameters]
    if len(pairs) < LEAST_TRIALS or len({count for count, _ in pairs}) < 2:
        return None
    value = float(spearmanr(*zip(*pairs, strict=True)).statistic)
    if not math.isfinite(value):
        return None
    half = float(norm.ppf(0.975)) * math.sqrt(1.06 / (len(pairs) - 3))
    middle = math.atanh(min(max(value, -0.999999), 0.999999))
    return Correlation(value, (math.tanh(middle - half), math.tanh(middle + half)), len(pairs))


def _command(stored: Mapping[str, Any], study: str, narrow: Mapping[str, str]) -> str:
    """A new search of the narrower space that learns from this one; it trains alike, so that it can."""
    words = ["python", "-m", "search", "run", str(stored["space"])]
    words += [f"{name}={text}" for name, text in ({**stored["narrowings"], **narrow}).items()]
    words += ["--epochs", str(stored["epochs"])]
    for flag, name in (("--train-images", "train_limit"), ("--validation-images", "validation_limit")):
        words += [flag, str(stored[name])] if stored.get(name) else []
    words += ["--max-params", str(stored["max_params"])] if stored.get("max_params") else []
    for flag, name in (("--objective", "objectives"), ("--limit", "limits")):
        words += [word for text in stored.get(name, ()) for word in (flag, str(text))]
    if stored.get("table"):
        words += ["--executor", "simulate", "--table", str(stored["table"])]
    words += ["--dataset", str(stored["dataset"])] if stored.get("dataset") else []
    words += ["--full"] if stored.get("full") else []
    return shlex.join([*words, "--warm-start", study])
