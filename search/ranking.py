"""In which order a study's trials stand: those within its limits first, of several objectives those on the front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.front import front as front_of

FIGURES, TRAINED, BEST_EPOCH = "figures", "trained", "best_epoch"  # attributes where epochs alone do not say it


JUDGED = (FIGURES, TRAINED, BEST_EPOCH)


@dataclass(frozen=True)
class Point:
    """Where a trial stands: the values of all objectives (its best so far, where it has but one), and its limits."""

    number: int
    values: tuple[float, ...]
    within: bool = True


def signs(study: optuna.Study) -> list[int]:
    """1 for each objective of which more is better, else -1."""
    return [1 if direction == StudyDirection.MAXIMIZE else -1 for direction in study.directions]


def within(trial: FrozenTrial) -> bool:
    """Whether a trial keeps all limits, as far as it has been held against them."""
    return all(violation <= 0 for violation in trial.constraints.values())


def over(trial: FrozenTrial) -> bool:
    """Whether a complete trial is over a limit."""
    return trial.state == TrialState.COMPLETE and not within(trial)


def epochs(trial: FrozenTrial) -> int:
    """How many epochs a trial has trained."""
    return int(trial.user_attrs.get(TRAINED, len(trial.intermediate_values)))


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that were trained to their end, also those over a limit."""
    return [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.values]


def value_of(trial: FrozenTrial, study: optuna.Study) -> float | None:
    """A trial's value of the first objective; of one objective, where it is not complete, the best of its epochs."""
    if trial.state == TrialState.COMPLETE:
        return trial.values[0] if trial.values else None
    seen = [v for v in trial.intermediate_values.values() if v == v]
    return max(seen, key=lambda v: signs(study)[0] * v) if seen else None


def point(trial: FrozenTrial, study: optuna.Study) -> Point | None:
    """Where a trial stands; None where that is nowhere."""
    if len(study.directions) > 1:
        done = trial.state == TrialState.COMPLETE and trial.values
        return Point(trial.number, tuple(trial.values), within(trial)) if done else None
    value = value_of(trial, study)
    return None if value is None else Point(trial.number, (value,), within(trial))


def places(points: Sequence[Point], better: Sequence[int]) -> dict[int, tuple[int, float]]:
    """What to sort each point's number by, the best first: (kind, first value), equals being equal.

    Kinds are 0 on the front, or of one objective within the limits, 1 within the limits, 2 over one. `better` are the
    objectives' signs.
    """
    able = [p for p in points if p.within]
    leading = {able[i].number for i in front_of([p.values for p in able], better)} if len(better) > 1 else None

    def kind(p: Point) -> int:
        return 2 if not p.within else int(leading is not None and p.number not in leading)

    return {p.number: (kind(p), _last(-better[0] * p.values[0])) for p in points}


def _last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials within the limits, the best first, the earlier of equals first.

    Of several objectives first those on the front, then the others, each by the first objective.
    """
    able = {t.number: t for t in complete(study) if within(t)}
    found = places([Point(n, tuple(t.values)) for n, t in able.items()], signs(study))
    return [able[n] for n in sorted(able, key=lambda n: (found[n], n))]


def front(study: optuna.Study) -> list[FrozenTrial]:
    """The trials on the front of several objectives, the best in the first one first; of one objective the best."""
    able = ranked(study)
    if len(study.directions) == 1:
        return able[:1]
    leading = {able[i].number for i in front_of([t.values for t in able], signs(study))}
    return [t for t in able if t.number in leading]


def figures_of(trial: FrozenTrial) -> Mapping[str, float]:
    """Every figure that a complete trial is judged by, where its epochs alone do not say its value; else none."""
    return trial.user_attrs.get(FIGURES, {})
