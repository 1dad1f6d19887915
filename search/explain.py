"""`explain`: which hyperparameters mattered in a study, in words with figures: printed, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import optuna

from search import figures, report
from search.errors import OK
from search.explained import Explained, examine
from search.settings import Settings
from search.specs import stored_space
from search.words import lines
from spaces import Space
from spaces.errors import SpaceError
from tracking import influence_figures
from tracking.influence_figures import Bar

FILE = "explain.md"  # of a study's run
SHOWN = ("importances", "slices", "contours")  # the pictures in it


def explain(name: str, settings: Settings, as_json: bool) -> int:
    """Print what mattered in a study. Raises InputError where there is none of that name."""
    study = report.load(name, settings)
    try:
        space: Space | None = stored_space(study.user_attrs["plan"])
    except SpaceError:
        space = None  # its file is gone: what depends on what cannot be said
    found = examine(study, space.metric if space else "the objective", space)
    if as_json:
        report.emit(to_json(found))
    else:
        print("\n".join(lines(found)))
    return OK


def to_json(found: Explained) -> dict[str, Any]:
    """A plain dictionary: all figures, and the words as they are printed."""
    known = found.influence
    return {
        "study": found.study,
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


def markdown(found: Explained, pictures: Mapping[str, str]) -> str:
    """The same for the study's run; `pictures` are the paths of their files by title."""
    parts = [f"# What mattered in {found.study}", ""]
    for line in lines(found):
        if line.startswith("  python "):
            parts += ["", f"    {line.strip()}"]
        elif line.startswith("  "):
            parts.append(f"- {line.strip()}")
        else:
            parts += ["", line] if line else []
    parts += ["", *(f"![{title}]({path})\n" for title, path in pictures.items())]
    return "\n".join(parts).rstrip() + "\n"


# ---- with pictures, for the study's run


def drawn(study: optuna.Study, space: Space) -> tuple[dict[str, bytes], list[str]]:
    """Path to content of a study's explanation and of every picture that can be drawn, and a line for each that cannot.

    The importances are those that are explained; of too few trials they are Optuna's own.
    """
    found, skipped = None, []
    try:
        found = examine(study, space.metric, space)
    except Exception as error:  # no picture and no word is worth a study's end
        skipped = [f"no explanation: {type(error).__name__}: {error}".splitlines()[0]]
    pictures, left = figures.pictures(study, space.metric, space.columns, found.contoured() if found else ())
    shown: dict[str, str] = {}
    if found and found.influence:
        known = found.influence
        bars = {n: Bar(s.mean, s.low, s.high, s.chance) for n, s in known.shares.items()}
        pictures["importances.png"] = influence_figures.importances(bars, found.metric, known.trials)
        pictures["importances.html"] = influence_figures.interactive_importances(bars, found.metric, known.trials)
        shown = {title: f"figures/{title}.png" for title in SHOWN if f"{title}.png" in pictures}
    text = markdown(found, shown) if found else skipped[0] + "\n"
    contents = {f"figures/{name}": content for name, content in pictures.items()}
    return contents | {FILE: text.encode()}, [*left, *skipped]
