"""What was found out about a user's files and takes long to find out again, as small JSON files in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spaces.datasets._spec import DataSpec, spec_of

_known: dict[tuple[str, str], DataSpec] = {}


def remembered(what: str, stamp: str, find_out: Callable[[], DataSpec]) -> DataSpec:
    """The facts of the dataset `what`, whose files have this stamp: known to this process, noted, or found out now."""
    found = noted(what, stamp)
    if found is None:
        found = find_out()
        learned(what, stamp, found)
    return found


def noted(what: str, stamp: str) -> DataSpec | None:
    """The facts of the dataset `what` that this process knows or that were noted; None where there are none."""
    if (what, stamp) not in _known:
        with suppress(TypeError):
            _known[what, stamp] = spec_of(recall(what, stamp) or {})
    return _known.get((what, stamp))


def learned(what: str, stamp: str, spec: DataSpec) -> None:
    """Know and note the facts of a dataset."""
    _known[what, stamp] = spec
    note(what, stamp, asdict(spec))


def recall(what: str, stamp: str) -> dict[str, Any] | None:
    """What was noted of `what` when its files had this stamp; None where nothing was, or it cannot be read."""
    try:
        content = json.loads(_path(what).read_text(encoding="utf-8"))
        return dict(content["facts"]) if (content["what"], content["stamp"]) == (what, stamp) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def note(what: str, stamp: str, facts: dict[str, Any]) -> None:
    """Note facts of `what`, at once or not at all; where nothing can be written they are found out again."""
    path = _path(what)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_text(json.dumps({"what": what, "stamp": stamp, "facts": facts}, indent=1), encoding="utf-8")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def _path(what: str) -> Path:
    # A relative XDG_CACHE_HOME is to be ignored, says its specification.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = base if base.is_absolute() else Path("~/.cache").expanduser()
    name = hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:24]
    return root / "keras-search" / "scans" / f"{name}.json"
