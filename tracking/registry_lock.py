"""One writer at a time for a registered model, whatever machine it is on: a lock made of the model's own tags.

MLflow has no compare-and-set. Whoever wants the lock writes a tag of its own and then reads all of them: of two that do
so at once, at least one sees the other, and whoever sees another withdraws and tries again a moment later.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tracking.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "search.lock."
HOLD = 120.0  # seconds after which a lock counts as left behind by a machine that died; the work takes a few
PATIENCE = 30.0  # seconds to wait for somebody else's


class Lock:
    """A lock that is held; `check` before each step that must not happen twice."""

    def __init__(self, client: MlflowClient, model: str, key: str, until: float) -> None:
        self._client, self._model, self._key, self._until = client, model, key, until

    def check(self) -> None:
        """Raises TrackingError where so much time has passed that another may have taken over."""
        if time.time() > self._until - HOLD / 4:
            raise TrackingError(f"{self._model}: MLflow took too long to answer; nothing was changed, try again")


@contextlib.contextmanager
def held(client: MlflowClient, model: str) -> Iterator[Lock]:
    """Hold the lock of a registered model while the block runs.

    A dead owner's is taken over: at once where it ran on this machine, after HOLD seconds where on another. Raises
    TrackingError where it cannot be had in PATIENCE seconds, naming the owner, and what MLflow raises.
    """
    key = f"{PREFIX}{uuid.uuid4().hex}"
    deadline = time.monotonic() + PATIENCE
    while True:
        until = time.time() + HOLD
        client.set_registered_model_tag(model, key, json.dumps(_self() | {"until": until}))
        others = _others(client, model, key)
        if not others:
            break
        client.delete_registered_model_tag(model, key)
        if time.monotonic() > deadline:
            raise TrackingError(f"{model} is being changed by {others[0]}; try again when that is done")
        time.sleep(random.uniform(0.05, 0.5))
    try:
        yield Lock(client, model, key, until)
    finally:
        with contextlib.suppress(Exception):
            client.delete_registered_model_tag(model, key)


def _self() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def _others(client: MlflowClient, model: str, mine: str) -> list[str]:
    """Who else wants or holds the lock; what the dead left is removed."""
    found = []
    for key, text in client.get_registered_model(model).tags.items():
        if not key.startswith(PREFIX) or key == mine:
            continue
        try:
            owner = json.loads(text)
            alive, name = _lives(owner), f"process {owner['pid']} on {owner['host']}"
        except (ValueError, KeyError, TypeError):  # not written by us
            alive, name = False, ""
        if alive:
            found.append(name)
        else:
            with contextlib.suppress(Exception):
                client.delete_registered_model_tag(model, key)
    return found


def _lives(owner: dict[str, Any]) -> bool:
    import psutil

    if time.time() > owner["until"]:
        return False
    if owner["host"] != socket.gethostname():
        return True
    try:
        return abs(psutil.Process(owner["pid"]).create_time() - owner["born"]) < 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
