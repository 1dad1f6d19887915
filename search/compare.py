"""Compares trials and model versions: what differs in configuration and figures, and their learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search import comparable, comparison_table
from search.compared import KINDS, Compared, read
from search.comparison import figures_of
from search.differing import differing
from search.errors import OK, InputError
from search.report import emit
from search.settings import Settings
from tracking import comparison_figures
from tracking.comparison_figures import Training

SUFFIXES = (".png", ".html")


def compare(
    references: Sequence[str], settings: Settings, *, everything: bool, curves: str | None, as_json: bool
) -> int:
    """Print what differs between studies' best trials, trials and versions; draw their curves where asked.

    Raises InputError with every problem, TrackingError where MLflow goes away.
    """
    problems: list[str] = []
    place = Path(curves).expanduser() if curves else None
    if place and (problem := _place_problem(place)):
        problems.append(problem)
    things: list[Compared] = []
    notes: list[str] = []
    try:
        things, notes = read(references, settings)
        if len(things) < 2:
            named = f"{things[0].reference} alone" if things else "nothing"
            problems.append(f"{named} is named; give two or more different things to compare: {KINDS}")
    except InputError as error:
        problems += error.problems
    if place and things and not any(thing.history for thing in things):
        problems.append(f"--curves {place}: none of these has a recorded epoch")
    if problems:
        raise InputError(problems)
    notes = comparable.remarks(things) + notes
    if place:
        notes += _draw(things, place)
    if as_json:
        emit(_told(things, notes, place))
    else:
        comparison_table.show(things, notes, everything)
        if place:
            print(f"curves: {place}")
    return OK


def _told(things: Sequence[Compared], notes: Sequence[str], place: Path | None) -> dict[str, Any]:
    """Everything, for --json; a hyperparameter that a configuration does not have is not in it."""
    return {
        "compared": [
            {
                "reference": t.reference,
                "kind": t.kind,
                "name": t.name,
                "study": t.study,
                "trial": t.trial,
                "state": t.state,
                "run_id": t.run_id,
                "config": dict(t.config),
                "setup": dict(t.setup),
                "data": {"digest": t.digest, "split": t.split},
                "metric": t.metric,
                "direction": t.direction,
                "figures": figures_of(t),
                "history": list(t.history),
                "tags": dict(t.tags),
            }
            for t in things
        ],
        "differ": list(differing([t.config for t in things])),
        "notes": list(notes),
        "curves": str(place) if place else None,
    }


def _draw(things: Sequence[Compared], place: Path) -> list[str]:
    """Write the curves; gives a line where not all are drawn. Raises InputError where the file cannot be written."""
    drawn: dict[str, list[Compared]] = {}  # a version and the trial it was made of are one training
    for thing in things:
        if thing.history:
            drawn.setdefault(thing.run_id or thing.reference, []).append(thing)
    trainings = [Training(" = ".join(t.label for t in one), one[0].history, one[0].best) for one in drawn.values()]
    metrics = list(dict.fromkeys(one[0].metric for one in drawn.values()))
    names = list(dict.fromkeys(thing.name for one in drawn.values() for thing in one))
    title = f"Learning curves of {', '.join(names) if len(names) <= 3 else f'{len(trainings)} trainings'}"
    draw = comparison_figures.still if place.suffix.lower() == ".png" else comparison_figures.interactive
    try:
        place.write_bytes(draw(trainings, metrics, title))
    except OSError as error:
        raise InputError(f"--curves {place}: cannot be written ({error.strerror or error})") from error
    most = comparison_figures.MOST
    notes = [f"no curves of {t.reference}: it has no recorded epoch" for t in things if not t.history]
    if len(trainings) > most:
        notes.append(f"{place.name} shows the first {most} of {len(trainings)}: more cannot be told apart")
    return notes


def _place_problem(place: Path) -> str | None:
    """Why curves cannot be written to a file; None where they can."""
    if place.suffix.lower() not in SUFFIXES:
        return f"--curves {place}: give a file that ends in .png or .html"
    if place.is_dir():
        return f"--curves {place}: is a folder; give a file"
    folder = place.absolute().parent
    return None if folder.is_dir() else f"--curves {place}: no folder {folder}"
