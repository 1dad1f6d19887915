"""Tells whether a model's files are still those that were measured: one SHA-256 over all of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

DIGEST_TAG = "search.model.sha256"
EVALUATION = "evaluation"  # the folder of a report, which comes later and which nothing loads
# What is no part of a model; the second MLflow itself leaves in a local store when somebody loads from it.
UNCOUNTED = (EVALUATION, "registered_model_meta")


def folder_digest(folder: Path) -> str:
    """The hexadecimal SHA-256 over the path and content of every file below `folder`, but for its evaluation and
    for what MLflow leaves there. Raises OSError.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if not p.is_dir()):
        name = path.relative_to(folder)
        if name.parts[0] not in UNCOUNTED:
            digest.update(f"{name.as_posix()} {file_digest(path)}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """The hexadecimal SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
