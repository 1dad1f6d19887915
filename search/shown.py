"""How a trial's figures are told, of one objective and of several: as cells of a table, in one line, in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.goals import Goals
from search.objectives import written
from search.specs import stored_goals

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


def goals_of(study: optuna.Study) -> Goals:
    """What the trials of a study are judged by."""
    maximized = study.directions[0].name == "MAXIMIZE"
    return stored_goals(study.user_attrs.get("plan", {}), "maximize" if maximized else "minimize")


def figures(trial: FrozenTrial, goals: Goals) -> dict[str, float]:
    """What a complete trial is shown with, by name; nothing of another."""
    from search.ranking import figures_of

    complete = trial.state.name == "COMPLETE" and trial.values
    return goals.values_of(trial.values, figures_of(trial)) if complete else {}


def columns(goals: Goals) -> tuple[str, ...]:
    """The headings of a trial's figures; parameters, which tables of the best show anyway, are not among them."""
    return ("value",) if goals.plain else tuple(name for name in goals.shown if name != "params")


def cells(trial: FrozenTrial, goals: Goals) -> list[str]:
    """The texts below `columns`."""
    found = figures(trial, goals)
    names = [goals.objectives[0].name] if goals.plain else columns(goals)
    return [written(name, found.get(name)) for name in names]


def line(trial: FrozenTrial, goals: Goals) -> str:
    """A complete trial's figures in words: 0.9731 of one objective, else each with its name."""
    found = figures(trial, goals)
    if goals.plain:
        return written(goals.objectives[0].name, found.get(goals.objectives[0].name))
    return ", ".join(f"{name} {written(name, value)}" for name, value in found.items())


def progress(goals: Goals) -> tuple[str, ...]:
    """The headings of how all trials of a study stand, also those that are not complete."""
    return ("best value",) if goals.plain else (*goals.shown, *(["front"] if goals.several else []))


def progress_cells(study: optuna.Study, trials: Sequence[FrozenTrial], goals: Goals) -> list[list[str]]:
    """The texts below `progress`, for each trial; of one that is not complete only the best of its epochs is known."""
    from search import ranking

    if goals.plain:
        return [[written(goals.objectives[0].name, ranking.value_of(t, study))] for t in trials]
    leading = {t.number for t in ranking.front(study)} if goals.several else set()
    found = [[written(name, figures(t, goals).get(name)) for name in goals.shown] for t in trials]
    marks = [["yes" if t.number in leading else ""] if goals.several else [] for t in trials]
    return [[*cells, *mark] for cells, mark in zip(found, marks, strict=True)]


def best(study: optuna.Study, goals: Goals) -> str:
    """The best trial's figures, and how many are on the front with it; empty where there is none."""
    from search import ranking

    front = ranking.front(study)
    if not front:
        return ""
    return line(front[0], goals) + (f" (front of {len(front)})" if goals.several else "")


def head(study: optuna.Study, goals: Goals) -> str:
    """What stands above the table of a front."""
    from search import ranking

    first, every = goals.objectives[0].name, len(ranking.ranked(study))
    return f"front: {len(ranking.front(study))} of {every} trials, the best {first} first"


def brief(trial: FrozenTrial, goals: Goals) -> dict[str, Any]:
    """The same for JSON: the first objective's value, all by name, and each limit that is broken."""
    from search.ranking import figures_of

    found = figures(trial, goals)
    value = found.get(goals.objectives[0].name)
    return {"value": value, "figures": found, "over_limit": goals.broken(figures_of(trial))}


def none_within(name: str, complete: Sequence[FrozenTrial], goals: Goals) -> str:
    """Why a study has no best trial, and what to do."""
    go_on = f"go on: python -m search resume {name}"
    if not complete:
        return f"study {name!r} has no complete trial yet; {go_on}"
    limits = ", ".join(map(str, goals.limits))
    return f"study {name!r} has {len(complete)} complete trials and none within its limits ({limits}); {go_on}"


def objectives(goals: Goals) -> list[Mapping[str, str]]:
    """The objectives for JSON."""
    return [{"name": o.name, "direction": o.direction} for o in goals.objectives]
