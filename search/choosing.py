"""Which sampler and pruner a study gets: those that were asked for, checked, or those that `auto` chooses, with why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from search.engines import menu, rungs
from search.engines.menu import AUTO, Chosen, Kind
from search.reader import Reader
from search.sizes import combinations
from spaces import Space, declared, reachable

MOST_POINTS = 200_000  # of a grid; Optuna makes a list of them
# What auto chooses where nothing speaks against it, the options as found on the tuning table of bench.quality.
SAMPLER = Chosen("tpe", {"n_startup_trials": 5, "spread": 8, "partial": True})
FOR_SEVERAL, PRUNER = Chosen("tpe"), "asha"


@dataclass(frozen=True)
class Choice:
    """A sampler and a pruner as the menu reads them; `auto` names those that nobody named, `why` says why these."""

    sampler: str
    pruner: str
    auto: tuple[str, ...] = ()
    why: tuple[str, ...] = ()


def choose(
    space: Space | None,
    narrowings: Mapping[str, str],
    read: Reader,
    *,
    sampler: str | None,
    pruner: str | None,
    trials: int,
    epochs: int,
    slots: int,
    only_known: bool = False,
    objectives: int = 1,
) -> Choice:
    """The sampler and pruner for a study; what is wrong with those asked for is noted in `read`.

    `only_known` says that known settings alone are trained.
    """
    sampling, stopping = _asked("sampler", sampler, read), _asked("pruner", pruner, read)
    if stopping is not None and stopping.name in menu.OVER_REPLICATES:
        read.problems.append(
            f"--pruner {stopping.name}: it compares replicates of a configuration, not epochs; use it to repeat: "
            f"python -m search repeat STUDY --pruner {stopping.name}"
        )
    if objectives > 1 and sampling is not None and not menu.member("sampler", sampling.name).several:
        read.problems.append(f"--sampler {sampling.name}: it pursues one objective, here are {objectives}")
    listed = sampling is not None and menu.member("sampler", sampling.name).listed
    if space is not None and sampling is not None and listed:
        _check_listed(space, narrowings, sampling.name, read)
    auto, why = [], []
    if sampling is None:
        sampling, reason = _sampler(space, narrowings, trials, slots, objectives)
        auto.append("sampler")
        why.append(f"sampler {sampling}: {reason}")
    whole = menu.member("sampler", sampling.name).whole
    if whole and stopping is not None and stopping.name != "none":
        read.problems.append(f"--pruner {stopping.name}: {sampling.name} stops trials by itself; leave --pruner out")
    if stopping is None:
        stopping, reason = _pruner(epochs, objectives, sampling.name if whole else "", only_known)
        auto.append("pruner")
        why.append(f"pruner {stopping}: {reason}")
    elif objectives > 1 and stopping.name != "none":
        why.append(f"pruner none, not {stopping}: of several objectives none says alone which trial is hopeless")
        stopping = Chosen("none")
    return Choice(str(sampling), str(stopping), tuple(auto), tuple(why))


def _asked(kind: Kind, text: str | None, read: Reader) -> Chosen | None:
    """What was asked for; None for auto, and where it was wrong."""
    if text is None or text == AUTO:
        return None
    try:
        chosen = menu.read(kind, text)
    except ValueError as error:
        read.problems += [f"--{kind} {text}: {line}" for line in str(error).splitlines()]
        return None
    lacking = menu.missing(kind, chosen.name)
    if lacking:
        read.problems.append(f"--{kind} {chosen.name}: {lacking}")
    return chosen


def _check_listed(space: Space, narrowings: Mapping[str, str], name: str, read: Reader) -> None:
    try:
        parameters = reachable(declared(space, narrowings))
    except Exception:  # said where the space is checked
        return
    endless = [p for p in parameters.values() if math.isinf(p.size())]
    read.problems += [
        f"--sampler {name}: {p.name} is {p.describe()}, without a step; name values: {p.name}={p.low:g},{p.high:g}"
        for p in endless
    ]
    points = math.prod(p.size() for p in parameters.values())  # what is not always active included, as Optuna does
    if not endless and name == "grid" and points > MOST_POINTS:
        read.problems.append(
            f"--sampler grid: the grid has {points:,.0f} points, more than {MOST_POINTS:,}; narrow some "
            "or use --sampler random"
        )


def _sampler(
    space: Space | None, narrowings: Mapping[str, str], trials: int, slots: int, objectives: int
) -> tuple[Chosen, str]:
    try:
        points, endless = combinations(declared(space, narrowings)) if space else (math.inf, [])
    except Exception:  # said where the space is checked
        points, endless = math.inf, []
    if points <= trials and not endless:
        return Chosen("brute"), f"all {points:.0f} configurations can be tried"
    if trials <= 2 * slots:
        return Chosen("qmc"), f"{trials} trials on {slots} slots begin before much is known, so they are spread evenly"
    if objectives > 1:
        return FOR_SEVERAL, "learns from good trials, for several objectives too"
    return SAMPLER, "begins spread evenly, then learns from good trials, also from what stopped ones reached"


def _pruner(epochs: int, objectives: int, whole: str, only_known: bool) -> tuple[Chosen, str]:
    if only_known:
        return Chosen("none"), "known settings are trained to their end"
    if whole:
        return Chosen("none"), f"{whole} stops trials by itself"
    if objectives > 1:
        return Chosen("none"), "of several objectives none says alone which trial is hopeless"
    if not rungs.rungs(epochs):
        return Chosen("none"), f"{epochs} epochs are too few to compare trials before their end"
    return Chosen(PRUNER), "stops all but the best third at each rung"
