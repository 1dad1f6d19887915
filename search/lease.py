"""One owner a study: a lock in its folder for this machine, a lease in the study store for all others."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import psutil

from search import store
from search.engines import claims
from search.errors import StudyBusy

ATTRIBUTE = "lease"
BEAT = 5.0  # seconds between two signs of life
EXPIRES = 30.0  # seconds in which none is seen, after which an owner on another machine counts as dead
LOOK = 0.5  # seconds between two looks for one


class Lease:
    """Holds a study against other machines: a thread renews it; `lost` says that somebody else took it over."""

    def __init__(self, study: optuna.Study, token: str) -> None:
        self.study, self.token, self.lost = study, token, False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        while not self._stop.wait(BEAT):
            # A store that is away says nothing about the owner; the next beat tries again.
            with contextlib.suppress(Exception):
                found = claims.read(self.study, ATTRIBUTE)
                if _held(found).get("token") not in (self.token, None):
                    self.lost = True
                    return
                claims.swap(self.study, ATTRIBUTE, found, _claim(self.token))

    def release(self) -> None:
        """Give the study back."""
        self._stop.set()
        self._thread.join(BEAT)
        with contextlib.suppress(Exception):  # it expires by itself
            found = claims.read(self.study, ATTRIBUTE)
            if _held(found).get("token") == self.token:
                claims.swap(self.study, ATTRIBUTE, found, {})


@contextmanager
def owned(study_folder: Path, study: str) -> Iterator[None]:
    """Hold the study's folder while the block runs. Raises StudyBusy, with the owner, where a process here does."""
    with store.locked(study_folder) as owner:
        if owner is not None:
            raise StudyBusy(f"study {study!r} is run by {owner}; wait for it or stop it")
        yield


@contextmanager
def leased(study: optuna.Study, say: Any) -> Iterator[Lease]:
    """Hold the study in its store while the block runs; a dead owner's lease is taken over, which is said.

    An owner on another machine is watched first, at most EXPIRES seconds. Raises StudyBusy where a live one holds it.
    """
    found = claims.read(study, ATTRIBUTE)
    held = _held(found)
    if held:
        owner, silent = _owner(held), max(0.0, time.time() - held["beat"])
        if held["host"] != socket.gethostname():
            say(f"held by {owner}, another machine: {EXPIRES:.0f} s without a sign of life say that it is dead")
            found = _watched(study, found)
        elif not _is_dead(held):
            raise StudyBusy(f"study {study.study_name!r} is run by {owner}, last heard of {silent:.0f} s ago; stop it")
        if _held(found):
            say(f"taken over from {owner}, which is dead")
    token = uuid.uuid4().hex
    if not claims.swap(study, ATTRIBUTE, found, _claim(token)):
        now = _held(claims.read(study, ATTRIBUTE))
        raise StudyBusy(f"study {study.study_name!r} was taken by {_owner(now)} at the same moment")
    lease = Lease(study, token)
    try:
        yield lease
    finally:
        lease.release()


def holder(study: optuna.Study) -> str | None:
    """Who runs the study now, on whatever machine, as `process 123 on host`; None where nobody does.

    For people: of another machine it is told from the clocks of both, which may differ.
    """
    held = _held(claims.read(study, ATTRIBUTE))
    if not held:
        return None
    here = held["host"] == socket.gethostname()
    dead = _is_dead(held) if here else time.time() - held["beat"] > EXPIRES
    return None if dead else _owner(held)


def _held(found: str | None) -> dict[str, Any]:
    """What a lease says; nothing where nobody holds the study."""
    try:
        held = json.loads(found or "{}")
    except ValueError:
        return {}
    return held if isinstance(held, dict) and {"host", "pid", "born", "beat"} <= set(held) else {}


def _owner(held: Mapping[str, Any]) -> str:
    return f"process {held.get('pid', '?')} on {held.get('host', '?')}"


def _claim(token: str) -> dict[str, Any]:
    return {
        "token": token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": psutil.Process().create_time(),
        "beat": time.time(),
    }


def _watched(study: optuna.Study, found: str | None) -> str | None:
    """The lease of an owner on another machine once it is free or was not renewed for as long as a lease lasts.

    Clocks of two machines differ, so only what is seen here, by this machine's clock, counts. Raises StudyBusy where
    it is renewed.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < EXPIRES:
        time.sleep(LOOK)
        now = claims.read(study, ATTRIBUTE)
        if now != found and _held(now):
            raise StudyBusy(f"study {study.study_name!r} is run by {_owner(_held(now))}, which lives; stop it there")
        if now != found:
            return now
    return found


def _is_dead(held: Mapping[str, Any]) -> bool:
    """Whether a process of this machine is gone."""
    try:
        process = psutil.Process(held["pid"])
        # One that was killed and that its parent does not ask for stays in the table for as long as the parent.
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - held["born"]) > 1.0
    except psutil.NoSuchProcess:
        return True
