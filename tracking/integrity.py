"""Tells whether a model's files are still those that were measured: one SHA-256 over all of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

DIGEST_TAG = "search.model.sha256"


def folder_digest(folder: Path) -> str:
    """The hexadecimal SHA-256 over the path and content of every file below `folder`. Raises OSError."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if not p.is_dir()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()
