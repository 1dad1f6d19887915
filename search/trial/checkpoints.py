"""A trial's checkpoint files: written whole or not at all, read and proved whole before anything is believed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from spaces.datasets.cache import sync_folder

KEPT = 2  # the newest may be torn or ahead of what was recorded; then the one before it serves
NAME = re.compile(r"checkpoint-(\d{5,})\.npz")
DIGEST = hashlib.sha256().digest_size  # bytes at the end of a file, over all before them


class Unusable(Exception):
    """Raised when a checkpoint cannot be restored; the text says why, without the file's name."""


@dataclass(frozen=True)
class Snapshot:
    """All that the next epoch of a trial depends on, in the host's memory.

    `variables` are the model's (weights, statistics, seed generators) and the optimizer's, `best` the network's
    weights at its best epoch, `history` one record an epoch trained.
    """

    config_hash: str
    variables: Sequence[np.ndarray]
    best: Sequence[np.ndarray]
    history: Sequence[dict[str, float]]

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.history)

    @property
    def size(self) -> int:
        """Bytes, nearly."""
        return sum(array.nbytes for array in (*self.variables, *self.best))


def files(folder: Path) -> list[Path]:
    """A trial's checkpoints, that of the most epochs first."""
    found = [path for path in folder.glob("checkpoint-*.npz") if NAME.fullmatch(path.name)]
    return sorted(found, key=epochs_of, reverse=True)


def epochs_of(path: Path) -> int:
    """How many epochs a checkpoint says, by its name, that it holds."""
    match = NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name} is no checkpoint's name")
    return int(match[1])


def remove(folder: Path) -> None:
    """Remove a trial's checkpoints, half-written ones as well; nothing happens where there are none."""
    for path in (*folder.glob("checkpoint*.npz"), *folder.glob("checkpoint*.part")):
        path.unlink(missing_ok=True)


def write(folder: Path, snapshot: Snapshot) -> Path:
    """Write a checkpoint; it is on disk when this returns. Older ones than the two newest are removed.

    So are any of more epochs: they were passed over when this attempt began, or it would not train those epochs.
    Raises OSError where it cannot be written; what was there before stands.
    """
    path = folder / f"checkpoint-{snapshot.epochs:05}.npz"
    aside = path.with_suffix(".part")
    try:
        with aside.open("w+b") as file:
            # Names of the configuration and history are JSON bytes, so that a file holds no pickles.
            np.savez(file, allow_pickle=False, **_arrays(snapshot))
            file.flush()
            end = file.seek(0, os.SEEK_END)
            digest = _digest(file, end)
            file.seek(end)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    for old in [p for p in files(folder) if epochs_of(p) > snapshot.epochs]:
        old.unlink(missing_ok=True)
    for old in files(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    for torn in folder.glob("checkpoint*.part"):
        torn.unlink(missing_ok=True)
    return path


def read(path: Path) -> Snapshot:
    """The snapshot of a file, every byte of it checked. Raises Unusable where it is not exactly what was written."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END) - DIGEST
            if end <= 0 or _digest(file, end) != file.read(DIGEST):
                raise Unusable("it is torn or corrupt")
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                snapshot = _snapshot({name: stored[name] for name in stored.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Unusable(f"it cannot be read: {type(error).__name__}: {error}") from error
    if snapshot.epochs != epochs_of(path):
        raise Unusable(f"it holds {snapshot.epochs} epochs")
    return snapshot


def _arrays(snapshot: Snapshot) -> dict[str, np.ndarray]:
    about = {
        "config": snapshot.config_hash,
        "history": list(snapshot.history),
        "variables": [array.dtype.name for array in snapshot.variables],
        "best": [array.dtype.name for array in snapshot.best],
    }
    arrays = {f"v{i:05}": _storable(array) for i, array in enumerate(snapshot.variables)}
    arrays |= {f"b{i:05}": _storable(array) for i, array in enumerate(snapshot.best)}
    return arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}


def _snapshot(arrays: dict[str, np.ndarray]) -> Snapshot:
    about: dict[str, Any] = json.loads(arrays["about"].tobytes())
    return Snapshot(
        config_hash=about["config"],
        variables=[arrays[f"v{i:05}"].view(_dtype(name)) for i, name in enumerate(about["variables"])],
        best=[arrays[f"b{i:05}"].view(_dtype(name)) for i, name in enumerate(about["best"])],
        history=about["history"],
    )


def _storable(array: np.ndarray) -> np.ndarray:
    # numpy's files know no bfloat16; its bits are kept as integers.
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _dtype(name: str) -> np.dtype:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # bfloat16 and its kin; comes with TensorFlow and JAX

        return np.dtype(getattr(ml_dtypes, name))


def _digest(file: IO[bytes], end: int) -> bytes:
    """Of the first `end` bytes; the file then stands at `end`."""
    found = hashlib.sha256()
    file.seek(0)
    left = end
    while left > 0 and (block := file.read(min(left, 1 << 20))):
        found.update(block)
        left -= len(block)
    return found.digest()
