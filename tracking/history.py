"""Who was champion when, and why it changed: events kept as tags of the registered model, and the aliases they move.

An event is written before the aliases move and marked done after it, so a process killed in between leaves what the
next one needs to finish or to undo the move. The champion itself changes in one request: it is the old or the new one.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tracking.errors import TrackingError
from tracking.registry_lock import Lock, held

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
PROMOTED, REFUSED, ROLLED_BACK = "promoted", "refused", "rolled back"
PREFIX = "search.event."
MOVES = (PROMOTED, ROLLED_BACK)


@dataclass(frozen=True)
class Event:
    """One thing that happened to a registered model.

    `version` is whom it is about, `before` the champion before it, `previous` the version that the alias `previous`
    named before it; `time` is in seconds since 1970. `done` is False while the aliases are being moved.
    """

    key: str
    kind: str
    version: str
    before: str | None
    previous: str | None
    time: float
    by: str
    done: bool
    facts: dict[str, Any] = field(default_factory=dict)


class ChampionChanged(TrackingError):
    """Raised when somebody else moved the champion since it was looked at."""


def events(client: MlflowClient, model: str) -> list[Event]:
    """What happened to a registered model, the oldest first; a tag that is none of ours is left out."""
    found = []
    for key, text in client.get_registered_model(model).tags.items():
        if key.startswith(PREFIX):
            event = _read(key, text)
            found += [event] if event else []
    return sorted(found, key=lambda event: event.key)


def _read(key: str, text: str) -> Event | None:
    """The event of a tag; None where somebody wrote something else there."""
    try:
        event = Event(key=key, **json.loads(text))
        datetime.fromtimestamp(event.time)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    texts = (event.kind, event.version, event.by, event.before or "", event.previous or "")
    plain = all(isinstance(text, str) for text in texts) and isinstance(event.facts, dict)
    return event if plain and event.done in (True, False) else None


def aliases(client: MlflowClient, model: str) -> dict[str, str]:
    """The version behind each alias of a registered model."""
    return {name: str(version) for name, version in client.get_registered_model(model).aliases.items()}


def note_refusal(client: MlflowClient, model: str, version: str, by: str, facts: Mapping[str, Any]) -> None:
    """Write down that a version was refused, and give it the alias `challenger`; the champion is left alone."""
    with held(client, model) as lock:
        heal(client, model)
        now = aliases(client, model)
        # An event of its own kind: nothing moves but the alias challenger, so there is nothing to undo.
        _write(client, model, _event(REFUSED, version, now.get(CHAMPION), now.get(PREVIOUS), by, facts, done=True))
        lock.check()
        if now.get(CHAMPION) != version:
            client.set_registered_model_alias(model, CHALLENGER, version)


def make_champion(
    client: MlflowClient, model: str, version: str, *, expected: str | None, by: str, facts: Mapping[str, Any]
) -> str | None:
    """Move the alias `champion` to `version` and `previous` to the old champion, whose version is returned.

    `expected` is the champion that `version` was compared with (None: there was none). Where it is champion already,
    nothing changes. Raises ChampionChanged where it is another by now, TrackingError and what MLflow raises; then the
    aliases are as before.
    """
    with held(client, model) as lock:
        heal(client, model)
        now = aliases(client, model)
        champion = now.get(CHAMPION)
        if champion == version:
            return now.get(PREVIOUS)
        if champion != expected:
            raise ChampionChanged(f"{model}: the champion is version {champion} by now, not {expected}")
        event = _event(PROMOTED, version, champion, now.get(PREVIOUS), by, facts)
        _move(client, model, lock, event, champion or event.previous)
        return champion


def roll_back(client: MlflowClient, model: str, by: str, facts: Mapping[str, Any]) -> tuple[str | None, str]:
    """Make the champion before this one champion again; gives the versions (old, new).

    Called again it goes back further; a rollback that was cut off is only finished. Where the champion's version was
    deleted, old is None. Raises TrackingError where there is none to go back to, and what MLflow raises.
    """
    with held(client, model) as lock:
        open_still = [event for event in events(client, model) if not event.done and event.kind == ROLLED_BACK]
        heal(client, model)
        now = aliases(client, model)
        champion = now.get(CHAMPION)
        if open_still and open_still[-1].version == champion:  # whoever asks again has not heard that it was done
            return open_still[-1].before, open_still[-1].version
        before = reigns(client, model)
        if champion is None and not before:
            raise TrackingError(
                f"{model} has no champion to roll back from; promote one: python -m search promote STUDY"
            )
        if not before:
            gone = any(version != champion for version in _line(client, model))
            why = "those before it are deleted" if gone else "it is the first champion"
            raise TrackingError(f"{model}: there is none to go back to from version {champion}: {why}")
        target, older = before[-1], (before[-2] if len(before) > 1 else None)
        event = _event(ROLLED_BACK, target, champion, now.get(PREVIOUS), by, facts)
        _move(client, model, lock, event, older)
        return champion, target


def reigns(client: MlflowClient, model: str) -> list[str]:
    """The versions that a rollback can return to, the last one first to be taken; deleted versions are left out."""
    there = {str(v.version) for v in client.search_model_versions(f"name = '{_quoted(model)}'")}
    champion = aliases(client, model).get(CHAMPION)
    return [version for version in _line(client, model) if version in there and version != champion]


def _line(client: MlflowClient, model: str) -> list[str]:
    """The champions before this one, the last one last, as promotions and rollbacks left them."""
    now = aliases(client, model)
    stack: list[str] = []
    for event in events(client, model):
        if event.kind not in MOVES or not event.done:
            continue
        if event.before is not None and (not stack or stack[-1] != event.before):
            stack.append(event.before)  # made champion by other means than ours
        if event.kind == ROLLED_BACK and event.version in stack:
            del stack[len(stack) - stack[::-1].index(event.version) :]
        else:
            stack.append(event.version)
    champion, previous = now.get(CHAMPION), now.get(PREVIOUS)
    if champion is not None and champion in stack:
        del stack[len(stack) - 1 - stack[::-1].index(champion) :]
    elif champion is not None and not stack and previous not in (None, champion):
        stack.append(str(previous))
    return stack


def heal(client: MlflowClient, model: str) -> list[str]:
    """Finish or undo what a killed process left half done; says what was mended. Call it with the lock held."""
    said = []
    for event in events(client, model):
        if event.done:
            continue
        if aliases(client, model).get(CHAMPION) == event.version:
            _finish(client, model, event)
            said.append(f"version {event.version} had become champion; that is noted now")
        else:
            _undo(client, model, event)
            said.append(f"version {event.version} had not become champion; the aliases are as before it")
    return said


def _move(client: MlflowClient, model: str, lock: Lock, event: Event, previous: str | None) -> None:
    """Write the event, move `previous`, then `champion`, and mark the event done."""
    with _undone_where_it_fails(client, model, event):
        _write(client, model, event)
        lock.check()
        _set_previous(client, model, previous)
        lock.check()
        client.set_registered_model_alias(model, CHAMPION, event.version)
    _finish(client, model, event)


def _set_previous(client: MlflowClient, model: str, wanted: str | None) -> None:
    now = aliases(client, model).get(PREVIOUS)
    if wanted is None and now is not None:
        client.delete_registered_model_alias(model, PREVIOUS)
    elif wanted is not None and now != wanted:
        client.set_registered_model_alias(model, PREVIOUS, wanted)


@contextmanager
def _undone_where_it_fails(client: MlflowClient, model: str, event: Event) -> Iterator[None]:
    try:
        yield
    except BaseException:
        try:
            if aliases(client, model).get(CHAMPION) == event.version:  # it was done, only the answer was lost
                return
            _undo(client, model, event)
        except Exception:  # the registry is away: the event says that it was begun, and the next one heals it
            pass
        raise


def _undo(client: MlflowClient, model: str, event: Event) -> None:
    _set_previous(client, model, event.previous)
    client.delete_registered_model_tag(model, event.key)


def _finish(client: MlflowClient, model: str, event: Event) -> None:
    if aliases(client, model).get(CHALLENGER) == event.version:
        client.delete_registered_model_alias(model, CHALLENGER)
    _write(client, model, replace(event, done=True))


def _event(
    kind: str,
    version: str,
    before: str | None,
    previous: str | None,
    by: str,
    facts: Mapping[str, Any],
    *,
    done: bool = False,
) -> Event:
    now = time.time()
    key = f"{PREFIX}{int(now * 1000):013}-{uuid.uuid4().hex[:8]}"
    return Event(key, kind, version, before, previous, now, by, done, dict(facts))


def _write(client: MlflowClient, model: str, event: Event) -> None:
    said = asdict(event)
    key = said.pop("key")
    client.set_registered_model_tag(model, key, json.dumps(said, sort_keys=True))


def _quoted(text: str) -> str:
    return text.replace("'", "''")
