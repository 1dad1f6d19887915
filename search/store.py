"""The write-ahead record of one study: study.json, its lock, and each trial's trial.json, specs and events.jsonl.

It is whole: the study store and MLflow can both be made again from it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from search import clock, whole
from search.trial.spec import TrialSpec
from spaces.datasets.cache import sync_folder

HALF = re.compile(
    r"((study|trial|weights|warm|version-\d+|attempt-\d+)\.json|events\.jsonl|(error|model_summary)\.txt|checkpoint-\d+"
    r"|[0-9a-f]{12}\.(json|patch)|(images_per_class|samples|augmented_\w+)\.(csv|png)\.\d+)\.part"
)  # what a kill in the middle of writing one of our files leaves


def trial_folder(study_folder: Path, number: int) -> Path:
    """Where one trial's spec, events, logs, checkpoint and model stand."""
    return study_folder / f"trial-{number:04}"


def trial_folders(study_folder: Path) -> dict[int, Path]:
    """Every trial's folder there is, by number."""
    found = (path for path in study_folder.glob("trial-*") if path.is_dir())
    return {int(p.name[6:]): p for p in sorted(found) if p.name[6:].isdigit()}


def pictures_folder(study_folder: Path) -> Path:
    """Where pictures of the data that a study trains on stand."""
    return study_folder / "data"


def pictures_of_data(study_folder: Path) -> list[Path]:
    """Those that are drawn, and the counts beside them."""
    return sorted(p for p in pictures_folder(study_folder).glob("*") if p.suffix in (".png", ".csv"))


def half_written(study_folder: Path) -> list[Path]:
    """Files of ours that a kill left half written; nobody else's are among them."""
    folders = [
        study_folder,
        study_folder / "provenance",
        pictures_folder(study_folder),
        *trial_folders(study_folder).values(),
    ]
    return sorted(path for folder in folders for path in folder.glob("*.part") if HALF.fullmatch(path.name))


def write_spec(spec: TrialSpec) -> None:
    """Keep what an attempt was started with."""
    write_json(spec.path / f"attempt-{spec.attempt}.json", spec.to_json())


def write_json(path: Path, value: Mapping[str, Any], *, crc: bool = True) -> None:
    """Keep a JSON object, whole or not at all: written aside, synced, renamed.

    `crc` adds a checksum by which `read_json` knows one that was changed; not for what is no record of ours.
    """
    write_text(path, json.dumps(whole.sealed(value) if crc else value, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Keep a text, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    # A space may raise with any text: half a surrogate must not end the study.
    with aside.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        _sync(file)
    aside.replace(path)
    if not clock.is_simulated():
        sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file, without its checksum; None where it is missing or damaged."""
    try:
        return whole.parsed(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


def stored_plan(study_folder: Path) -> dict[str, Any] | None:
    """The plan that a study began with or went on with last, by its folder; None where that does not say."""
    plan: dict[str, Any] | None = (read_json(study_folder / "study.json") or {}).get("attributes", {}).get("plan")
    return plan


def append(folder: Path, event: dict[str, Any]) -> float:
    """Add one event to a trial's events.jsonl; it is on disk when this returns its time (seconds since 1970)."""
    folder.mkdir(parents=True, exist_ok=True)
    now = clock.now()
    line = _line({"time": now, **event})
    path = folder / "events.jsonl"
    is_new = not path.exists()
    with path.open("ab+") as file:
        if file.tell() and not _ends_in_newline(file):
            line = b"\n" + line  # a torn line must not swallow the next
        file.write(line)
        _sync(file)
    if is_new and not clock.is_simulated():
        sync_folder(folder)
    return now


def _sync(file: IO[Any]) -> None:
    file.flush()
    if not clock.is_simulated():
        os.fsync(file.fileno())


def _ends_in_newline(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def write_events(folder: Path, recorded: Sequence[Mapping[str, Any]]) -> None:
    """Write a trial's events.jsonl anew."""
    write_text(folder / "events.jsonl", b"".join(map(_line, recorded)).decode())


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(whole.sealed(event)).encode() + b"\n"


def events(folder: Path) -> list[dict[str, Any]]:
    """A trial's events in order; torn and damaged lines are left out."""
    return read_events(folder)[0]


def read_events(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """(a trial's events in order, how many lines of its record are torn or damaged and are left out)."""
    path = folder / "events.jsonl"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = [whole.parsed(line) for line in text.splitlines() if line]
    found = [event for event in lines if event is not None and whole.is_event(event)]
    return found, len(lines) - len(found)


def lines(damaged: int) -> str:
    """So many damaged lines, in words."""
    return "1 damaged line" if damaged == 1 else f"{damaged} damaged lines"


def standing(recorded: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a trial's record says of its rests, as attributes of the study store: where it rests, until when it trains
    then, after which epochs it went on only to be audited. Nothing of what the record does not speak of."""
    found: dict[str, Any] = {}
    for event in recorded:
        if event["event"] == "verdict" and event.get("rest"):
            found["rests"] = event["epochs"]
        elif event["event"] == "promoted":
            found["rests"] = None
            found |= {"until": event["until"]} if "until" in event else {}
            if "oracle" in event:
                found["oracle.more"] = [*found.get("oracle.more", []), event["oracle"]]
        if event["event"] in ("verdict", "promoted") and event.get("audited"):
            found["audited"] = event["epochs"]
    return found


def attempts(folder: Path) -> list[dict[str, Any]]:
    """A trial's attempts as they began: attempt, slot, provenance, time, and what the slot was made of."""
    return [event for event in events(folder) if event["event"] == "attempt"]


def epochs(folder: Path) -> list[dict[str, Any]]:
    """A trial's epoch events, one an epoch, in order."""
    return epochs_of(events(folder))


def epochs_of(recorded: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The epochs among a trial's events, one an epoch, in order."""
    by_epoch: dict[int, dict[str, Any]] = {}
    for event in recorded:
        if event["event"] == "epoch":
            by_epoch.setdefault(event["epoch"], event)
    # Only without a gap: what lies behind a lost epoch is trained again.
    return [by_epoch[number] for number in range(len(by_epoch)) if all(n in by_epoch for n in range(number + 1))]


def measurement(folder: Path) -> dict[str, Any] | None:
    """The event by which a trained trial's figures were written down, the first one; None where they were not."""
    return next((event for event in events(folder) if event["event"] == "measured"), None)


def measured(folder: Path) -> dict[str, float] | None:
    """A trained trial's figures as they were written down; None where they were not."""
    found = measurement(folder)
    return None if found is None else dict(found["figures"])


def remove_model(folder: Path) -> None:
    """Remove the model folder that a finished trial left, and what packagings that were killed left."""
    for path in (folder / "model", *folder.glob(".model*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def locked(study_folder: Path) -> Iterator[str | None]:
    """Lock the study on this machine while the block runs; gives None, or who holds it where another process does."""
    study_folder.mkdir(parents=True, exist_ok=True)
    with (study_folder / "owner").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            yield file.read().strip() or "another process"
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield None
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
