"""A registered model's past: who was champion when, by which figures, why it changed; and back to the one before."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

from search.errors import OK
from search.report import emit, print_table
from search.settings import Settings
from tracking import registry
from tracking.history import CHAMPION, MOVES, Event


def roll_back(model: str, reason: str, settings: Settings, as_json: bool) -> int:
    """Return to the champion before. Raises TrackingError where there is none."""
    name = registry.model_name(model)
    old, new = registry.roll_back(settings.tracking_uri, name, {"reason": reason or "rolled back by hand"})
    if as_json:
        emit({"model": name, "champion": new, "before": old})
    else:
        before = f"version {old} was rolled back" if old else "there was none, its version being deleted"
        print(f"{name} version {new} is champion again; {before}")
    return OK


def show_history(model: str, settings: Settings, as_json: bool) -> int:
    """Print every promotion, refusal and rollback, the oldest first. Raises TrackingError where there is no model."""
    name = registry.model_name(model)
    events, aliases, versions = registry.past(settings.tracking_uri, name)
    champion = aliases.get(CHAMPION)
    moves = [event for event in events if event.kind in MOVES and event.done]
    elsewhere = champion is not None and (not moves or moves[-1].version != champion)
    if as_json:
        emit(
            {
                "model": name,
                "champion": champion,
                "aliases": aliases,
                "set_elsewhere": elsewhere,
                "events": [asdict(event) for event in events],
            }
        )
        return OK
    print_table(
        ("when", "what", "version", "before", "test accuracy", "study", "by", "why"),
        [_row(event, set(versions)) for event in events],
    )
    said = f"version {champion} is champion" if champion else "there is no champion"
    others = ", ".join(f"{alias} is version {v}" for alias, v in sorted(aliases.items()) if alias != CHAMPION)
    print(f"{name}: {said}" + (f"; {others}" if others else ""))
    if champion is None and moves:
        print("the alias champion was taken away by other means than ours, or its version was deleted")
    if elsewhere:
        print(f"version {champion} was made champion by other means than `promote`: what came before it is above")
    return OK


def _row(event: Event, there: set[str]) -> tuple[str, ...]:
    facts: dict[str, Any] = event.facts
    figure = ""
    with suppress(TypeError, ValueError, IndexError, KeyError):  # somebody may have edited the tag
        figure = f"{facts['accuracy']:.4f}"
        figure += f" ({facts['interval'][0]:.4f} to {facts['interval'][1]:.4f})"
    return (
        datetime.fromtimestamp(event.time).strftime("%Y-%m-%d %H:%M:%S"),
        event.kind if event.done else f"{event.kind} (begun)",
        event.version + ("" if event.version in there else " (deleted)"),
        event.before or "-",
        figure,
        f"{facts['study']}, trial {facts.get('trial', '?')}" if "study" in facts else "",
        event.by,
        str(facts.get("reason", "")),
    )
