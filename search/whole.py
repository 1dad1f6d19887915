"""What of a study's record is whole: the checksum of a JSON object, and what each kind of event holds."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

CRC = "crc"
LATEST = 1e11  # seconds since 1970, far beyond any event


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its checksum."""
    plain = json.loads(json.dumps(value))  # as it will be read, for then the checksum is compared
    return {**plain, CRC: _crc(plain)}


def parsed(text: str) -> dict[str, Any] | None:
    """The JSON object of a text, without its checksum; None where it is none or was changed since it was sealed."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if CRC not in found:  # of an older version, or written by hand
        return found
    crc = found.pop(CRC)
    return found if crc == _crc(found) else None


def _crc(plain: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())


def is_event(found: Mapping[str, Any]) -> bool:
    """Whether an event has all that is read of one of its kind; one of an unknown kind needs a time only."""
    kind, time = found.get("event"), found.get("time")
    if not isinstance(kind, str) or not _is_number(time) or not 0 <= time < LATEST:  # type: ignore[operator]
        return False
    return all(fits(found[name]) if name in found else name in OPTIONAL for name, fits in EVENTS.get(kind, {}).items())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


EVENTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "attempt": {"attempt": _is_count, "slot": _is_text, "devices": _is_numbers, "provenance": _is_text},
    "started": {"split": _is_text},
    "epoch": {"epoch": _is_count, "metrics": _is_numbers},
    "verdict": {"epochs": _is_count, "prune": lambda value: isinstance(value, bool), "notes": _is_object},
    "measured": {"figures": _is_numbers, "best_epoch": _is_count},
    "finished": {
        "state": lambda value: value in ("COMPLETE", "PRUNED", "FAIL"),
        "attributes": _is_object,
        "constraints": lambda value: value is None or _is_numbers(value),
    },
}
OPTIONAL = ("devices", "provenance", "attributes", "constraints")  # what older versions did not write
