"""The write-ahead record of one study: its folder, its lock, and each trial's events.jsonl."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from search.errors import StudyBusy
from search.trial.spec import TrialSpec


def trial_folder(study_folder: Path, number: int) -> Path:
    """Where one trial's spec, events, logs, checkpoint and model stand."""
    return study_folder / f"trial-{number:04}"


def write_spec(spec: TrialSpec) -> None:
    """Keep what an attempt was started with."""
    spec.path.mkdir(parents=True, exist_ok=True)
    text = json.dumps(spec.to_json(), indent=2, sort_keys=True)
    (spec.path / f"attempt-{spec.attempt}.json").write_text(text + "\n")


def append(folder: Path, event: dict[str, Any]) -> float:
    """Add one event to a trial's events.jsonl; it is on disk when this returns its time (seconds since 1970)."""
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    line = json.dumps({"time": now, **event}).encode() + b"\n"
    with (folder / "events.jsonl").open("ab+") as file:
        if file.tell() and not _ends_in_newline(file):
            line = b"\n" + line  # a torn line must not swallow the next
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return now


def _ends_in_newline(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def events(folder: Path) -> list[dict[str, Any]]:
    """A trial's events in order; torn lines are left out."""
    path, found = folder / "events.jsonl", []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            found.append(event)
    return found


def epochs(folder: Path) -> list[dict[str, Any]]:
    """A trial's epoch events, one an epoch, in order."""
    by_epoch: dict[int, dict[str, Any]] = {}
    for event in events(folder):
        if event["event"] == "epoch":
            by_epoch.setdefault(event["epoch"], event)
    # Only without a gap: what lies behind a lost epoch is trained again.
    return [by_epoch[number] for number in range(len(by_epoch)) if all(n in by_epoch for n in range(number + 1))]


def remove_weights(folder: Path) -> None:
    """Remove what a finished trial no longer needs: checkpoint and model folder."""
    (folder / "checkpoint.npz").unlink(missing_ok=True)
    shutil.rmtree(folder / "model", ignore_errors=True)


@contextmanager
def owned(study_folder: Path, study: str) -> Iterator[None]:
    """Hold the study while the block runs. Raises StudyBusy, with the owner, where another process does."""
    study_folder.mkdir(parents=True, exist_ok=True)
    with (study_folder / "owner").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StudyBusy(
                f"study {study!r} is run by {file.read().strip() or 'another process'}; wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
        file.truncate(0)


def owner(study_folder: Path) -> str | None:
    """Who runs the study now, as `process 123 on host`; None where nobody does."""
    path = study_folder / "owner"
    if not path.is_file():
        return None
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "another process"
    return None
