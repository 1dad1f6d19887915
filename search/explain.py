"""`explain`: which hyperparameters mattered in a study, in words with figures: printed, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import optuna

from search import figures, report
from search.errors import OK
from search.explained import Explained, examine
from search.goals import Goals
from search.settings import Settings
from search.shown import goals_of
from search.specs import stored_space
from search.words import lines
from spaces import Space
from spaces.errors import SpaceError
from tracking import influence_figures
from tracking.influence_figures import Bar

FILE = "explain.md"  # of a study's run
SHOWN = ("importances", "slices", "contours")  # the pictures in it


def explain(name: str, settings: Settings, as_json: bool) -> int:
    """Print what mattered in a study, for each of its objectives. Raises InputError where there is no such study."""
    study = report.load(name, settings)
    try:
        space: Space | None = stored_space(study.user_attrs["plan"])
    except SpaceError:
        space = None  # its file is gone: what depends on what cannot be said
    goals = goals_of(study)
    found = [examine(study, goals, space, objective) for objective in range(len(goals.objectives))]
    if as_json:
        report.emit({"study": name, "objectives": [to_json(each) for each in found]})
    else:
        print("\n\n".join("\n".join(lines(each)) for each in found))
    return OK


def to_json(found: Explained) -> dict[str, Any]:
    """An objective explained, as a plain dictionary: all figures, and the words as they are printed."""
    known = found.influence
    return {
        "metric": found.metric,
        "direction": found.observed.direction,
        "trials": len(found.observed.trials),
        "counts": dict(found.observed.counts),
        "after_epochs": found.observed.epochs,
        "too_few": found.too_few or None,
        "few": found.few,
        "skill": known.skill if known else None,
        "hyperparameters": [
            {"name": n, **asdict(s), "matters": n in known.matter, "good": _good_json(found, n)}
            for n, s in known.shares.items()
        ]
        if known
        else [],
        "together": [asdict(t) for t in found.together],
        "conditional": [asdict(c) | {"shares": {n: asdict(s) for n, s in c.shares.items()}} for c in found.conditional],
        "parameters": asdict(found.parameters) if found.parameters else None,
        "narrow": dict(found.narrow or {}),
        "command": found.command or None,
        "words": lines(found),
    }


def _good_json(found: Explained, name: str) -> dict[str, Any] | None:
    each = (found.good or {}).get(name)
    return asdict(each) if each else None


# ---- as Markdown


def markdown(found: Sequence[Explained], pictures: Mapping[str, str]) -> str:
    """The same for the study's run; `pictures` are the paths of their files by title."""
    parts = [f"# What mattered in {found[0].study}", ""]
    for each in found:
        parts += ["", f"## {each.metric}"] if len(found) > 1 else []
        for line in lines(each):
            if line.startswith("  python "):
                parts += ["", f"    {line.strip()}"]
            elif line.startswith("  "):
                parts.append(f"- {line.strip()}")
            else:
                parts += ["", line] if line else []
    parts += ["", *(f"![{title}]({path})\n" for title, path in pictures.items())]
    return "\n".join(parts).rstrip() + "\n"


# ---- with pictures, for the study's run


def drawn(study: optuna.Study, space: Space, goals: Goals) -> tuple[dict[str, bytes], list[str]]:
    """Path to content of a study's explanation and of every picture that can be drawn, and a line for each that cannot.

    The importances are those that are explained; of too few trials they are Optuna's own.
    """
    found: list[Explained] = []
    skipped: list[str] = []
    try:
        found = [examine(study, goals, space, objective) for objective in range(len(goals.objectives))]
    except Exception as error:  # no picture and no word is worth a study's end
        skipped = [f"no explanation: {type(error).__name__}: {error}".splitlines()[0]]
    contoured = {each.metric: each.contoured() for each in found}
    pictures, left = figures.pictures(study, goals, space.columns, contoured)
    titles = []
    for each in found:
        ending = f"_{each.metric}" if goals.several else ""
        if known := each.influence:
            bars = {n: Bar(s.mean, s.low, s.high, s.chance) for n, s in known.shares.items()}
            drawn_of = bars, each.metric, known.trials
            pictures[f"importances{ending}.png"] = influence_figures.importances(*drawn_of)
            pictures[f"importances{ending}.html"] = influence_figures.interactive_importances(*drawn_of)
            titles += [f"{title}{ending}" for title in SHOWN]
    shown = {title: f"figures/{title}.png" for title in titles if f"{title}.png" in pictures}
    text = markdown(found, shown) if found else skipped[0] + "\n"
    contents = {f"figures/{name}": content for name, content in pictures.items()}
    return contents | {FILE: text.encode()}, [*left, *skipped]
