"""A study explained in words with figures, a line each: as it is printed, and as Markdown makes it of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from search.explained import LEAST_TRIALS, Conditional, Explained, Together
from search.good import LEAST, Good, Group
from search.influence import SKILLED, Share
from search.statistics import Interval
from spaces._hp import show

ENDED = {
    "complete": "trained to the end",
    "stopped": "stopped early",
    "failed": "failed",
    "infeasible": "did not fit",
    "unfinished": "unfinished",
}


def lines(found: Explained) -> list[str]:
    """The explanation, a line each."""
    said = [f"{found.study}, {found.metric}: {_counts(found.observed.counts)}"]
    if found.influence is None:
        return [*said, f"{found.too_few}; go on: python -m search resume {found.study} --trials MORE"]
    said += ["", *_rests_on(found)]
    known = found.influence
    for name in known.matter:
        alone = "" if known.shares[name].stands_out else "; no more than chance by itself, but see below"
        said += ["", f"{name}: {_share(known.shares[name])}{alone}"]
        said += [f"  {line}" for line in _place(found, (found.good or {})[name])]
    for pair in found.together:
        said += ["", *_pair(pair)]
    rest = [f"{name} ({known.shares[name].mean:.2f})" for name in known.shares if name not in known.matter]
    if rest:
        said += ["", f"no more than chance: {', '.join(rest)}"]
    for each in found.conditional:
        said += ["", _conditional(each, found)]
    if found.parameters:
        said += ["", _parameters(found)]
    return [*said, "", *_next(found)]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[kind]} {words}" for kind, words in ENDED.items() if counts.get(kind)) or "no trials"


def _rests_on(found: Explained) -> list[str]:
    """On which trials and values this rests, and how sure it is."""
    observed, known = found.observed, found.influence
    assert known is not None
    count, stopped = len(observed.trials), sum(t.stopped for t in observed.trials)
    if observed.epochs is None:
        basis = f"rests on the {found.metric} of {count} trials" + (
            f" ({stopped} of them stopped early are left out)" if stopped else ""
        )
    else:
        basis = (
            f"rests on the best {found.metric} within {_epochs(observed.epochs)} of {count} trials, {stopped} of which "
            "were stopped early: the ends of the others alone would be a choice of the best"
        )
    said = [basis]
    over = sum(t.over for t in observed.trials)
    said += [f"{over} of these are over a limit and stand behind all others"] if over else []
    if known.trials < count:
        said.append(f"shares are of {known.trials} trials of these, drawn at random")
    if known.skill < SKILLED:
        said.append(
            f"a forest cannot foretell trials that it has not seen (R² {known.skill:.2f}): no share below is more than "
            "chance"
        )
    else:
        said.append(f"a forest foretells trials that it has not seen with R² {known.skill:.2f} (1 is perfect)")
    if found.few:
        said.append(
            f"{count} trials are few for {len(observed.dimensions)} hyperparameters: take what follows as a hint"
        )
    return said


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _share(share: Share) -> str:
    return (
        f"{share.mean:.2f} of the variance ({share.low:.2f} to {share.high:.2f} over forests; chance gives up to "
        f"{share.chance:.2f})"
    )


def _place(found: Explained, each: Good) -> list[str]:
    """Where the good values of a hyperparameter lie, and what others cost."""
    said = []
    worse = "lower" if found.observed.sign > 0 else "higher"
    if each.options:
        among = ", ".join(f"{show(g.what)} {g.good}" for g in each.groups if g.good)
        said.append(f"the best quarter ({each.best} trials) by value: {among}")
        said += [f"{show(g.what)}: {_mean(g, found.metric)}{_gap(g, worse)}{_stopped(g)}" for g in each.groups]
    else:
        said.append(f"the best quarter ({each.best} trials) lies in {_number(each.low)}..{_number(each.high)}")
        said += [f"{g.what}: {_mean(g, found.metric)}{_gap(g, worse)}{_stopped(g)}" for g in each.groups]
    if each.edge:
        said.append(f"half of the best or more lie at the {each.edge} end of the range: a wider one may hold better")
    return said


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _mean(group: Group, metric: str) -> str:
    if group.trials == 1:
        return f"{metric} {group.mean:.4f}, one trial alone"
    return f"mean {metric} {group.mean:.4f}{_interval(group.interval)}, {group.trials} trials"


def _interval(interval: Interval) -> str:
    return f" ({interval[0]:.4f} to {interval[1]:.4f})" if all(map(math.isfinite, interval)) else ""


def _gap(group: Group, worse: str) -> str:
    if math.isnan(group.difference) or group.trials < LEAST:
        return ""
    if not group.clear:
        return ", no clear difference"
    low, high = group.difference_interval
    return f", {worse} by {group.difference:.4f} ({low:.4f} to {high:.4f})"


def _stopped(group: Group) -> str:
    return f", {group.stopped} stopped early" if group.stopped else ""


def _pair(each: Together) -> list[str]:
    first, second = each.names
    head = (
        f"{first} and {second} belong together: {each.share.mean:.2f} of the variance beyond what each explains alone"
    )
    return [head, *(f"  {case}" for case in each.cases)]


def _conditional(each: Conditional, found: Explained) -> str:
    when = f"with {each.condition}" if each.condition else "in some trials"
    names = ", ".join(each.names)
    head = f"only {when} ({each.trials} trials): {names}"
    if not each.shares:
        few = f"{LEAST_TRIALS} are the least" if each.trials < LEAST_TRIALS else "nothing can be foretold there"
        return f"{head}; too few to say what they do ({few})" if each.trials < LEAST_TRIALS else f"{head}; {few}"
    told = [f"{n} {s.mean:.2f}" + ("" if s.stands_out else " (no more than chance)") for n, s in each.shares.items()]
    return f"{head}; of the variance there: {', '.join(told)}"


def _parameters(found: Explained) -> str:
    known = found.parameters
    assert known is not None
    low, high = known.interval
    said = f"parameter count and {found.metric}: rank correlation {known.value:.2f} ({low:.2f} to {high:.2f})"
    if low <= 0 <= high:
        return f"{said}, which may be none"
    better = known.value * found.observed.sign > 0
    return f"{said}: {'larger' if better else 'smaller'} networks were better"


def _next(found: Explained) -> list[str]:
    if found.command:
        return ["narrow next:", f"  {found.command}"]
    more = 2 * sum(found.observed.counts.values())
    return [f"nothing to narrow yet; more trials: python -m search resume {found.study} --trials {more}"]
