"""One owner a study: a lock in its folder for this machine, a lease in the study store for all others."""

from __future__ import annotations

import contextlib
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
from search.errors import StudyBusy

ATTRIBUTE = "lease"
BEAT = 5.0  # seconds between two signs of life
EXPIRES = 30.0  # seconds without one, after which an owner on another machine counts as dead
SETTLE = 1.0  # seconds in which a rival that looked at the same moment has written its claim


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
                if _holder(self.study).get("token") not in (self.token, None):
                    self.lost = True
                    return
                _write(self.study, self.token)

    def release(self) -> None:
        """Give the study back."""
        self._stop.set()
        self._thread.join(BEAT)
        if not self.lost:
            with contextlib.suppress(Exception):  # it expires by itself
                self.study.set_user_attr(ATTRIBUTE, {})


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

    Raises StudyBusy where a live one on another machine holds it.
    """
    held = _holder(study)
    if held:
        owner, silent = _owner(held), time.time() - held["beat"]
        if not _is_dead(held, silent):
            told = f"study {study.study_name!r} is run by {owner}, last heard of {max(0, silent):.0f} s ago; stop it"
            if held["host"] != socket.gethostname():
                told += f" there, or, if it is dead, try again in {max(1, EXPIRES - silent):.0f} s"
            raise StudyBusy(told)
        say(f"taken over from {owner}, which is dead (last heard of {max(0, silent):.0f} s ago)")
    token = uuid.uuid4().hex
    _write(study, token)
    if held and held["host"] != socket.gethostname():
        time.sleep(SETTLE)
        now = _holder(study)
        if now.get("token") != token:
            raise StudyBusy(f"study {study.study_name!r} was taken over by {_owner(now)} at the same moment")
    lease = Lease(study, token)
    try:
        yield lease
    finally:
        lease.release()


def holder(study: optuna.Study) -> str | None:
    """Who runs the study now, on whatever machine, as `process 123 on host`; None where nobody does."""
    held = _holder(study)
    return _owner(held) if held and not _is_dead(held, time.time() - held["beat"]) else None


def _holder(study: optuna.Study) -> dict[str, Any]:
    found = study.user_attrs.get(ATTRIBUTE)
    return dict(found) if isinstance(found, dict) and "beat" in found else {}


def _owner(held: Mapping[str, Any]) -> str:
    return f"process {held.get('pid', '?')} on {held.get('host', '?')}"


def _write(study: optuna.Study, token: str) -> None:
    me = psutil.Process()
    study.set_user_attr(
        ATTRIBUTE,
        {
            "token": token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": me.create_time(),
            "beat": time.time(),
        },
    )


def _is_dead(held: Mapping[str, Any], silent: float) -> bool:
    """Whether an owner is gone: on this machine its process, elsewhere its sign of life."""
    if held["host"] != socket.gethostname():
        return silent > EXPIRES
    try:
        return abs(psutil.Process(held["pid"]).create_time() - held["born"]) > 1.0
    except psutil.NoSuchProcess:
        return True
