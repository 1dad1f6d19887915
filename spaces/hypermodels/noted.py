"""What was found out of a stranger's code, noted in the user's cache for as long as none of its files changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spaces.datasets import DataSpec, memo

FORM = 1  # of what is noted


def digest(file: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def recall(reference: str, data: DataSpec) -> dict[str, Any] | None:
    """What was noted; None where nothing was, or its code or what it runs with has changed since."""
    found = memo.recall(_what(reference, data), _stamp())
    return found if found is not None and unchanged(found["about"]["sources"]) else None


def note(reference: str, data: DataSpec, facts: Mapping[str, Any]) -> None:
    """Note it."""
    memo.note(_what(reference, data), _stamp(), dict(facts))


def unchanged(sources: Mapping[str, str]) -> bool:
    """Whether these files have these SHA-256 still."""
    try:
        return all(digest(Path(file)) == known for file, known in sources.items())
    except OSError:
        return False


def _what(reference: str, data: DataSpec) -> str:
    return f"{reference} on images {json.dumps([data.name, *data.input_shape, data.classes])}"


def _stamp() -> str:
    names = ("keras", "keras-tuner", "tensorflow", "jax")
    return " ".join([f"form={FORM}", os.environ.get("KERAS_BACKEND", ""), *(f"{n}={_version(n)}" for n in names)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
