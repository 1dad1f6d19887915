"""How a trial was trained: from its folder or, where that is on another machine, from what MLflow has of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search import store
from search.errors import InputError
from search.goals import is_final
from tracking import audit
from tracking.client import Connection
from tracking.faults import told


@dataclass(frozen=True)
class Trained:
    """Each epoch's metrics in order, the device, and where it comes from: commit, versions, hardware."""

    history: list[dict[str, float]]
    device: str
    provenance: Mapping[str, Any]


def trained(folder: Path, run_id: str, connection: Connection) -> Trained:
    """How the trial of `folder` and of the run `run_id` was trained.

    Raises InputError where neither has its epochs, TrackingError where MLflow cannot be asked.
    """
    history = [event["metrics"] for event in store.epochs(folder)]
    attempts = store.attempts(folder)
    if history and attempts:
        key = attempts[-1].get("provenance", "")
        return Trained(
            history, attempts[-1]["slot"], store.read_json(folder.parent / "provenance" / f"{key}.json") or {}
        )
    with told(connection.uri):
        found = audit.run(connection, run_id) if run_id else None
        text = audit.text(connection, run_id, "provenance.json") if found else None
    history = epochs(found) if found else []
    if not history:
        raise InputError(
            f"how trial {folder.name} was trained is neither in {folder} nor in MLflow; "
            "on the machine that trained it: python -m search reconcile STUDY"
        )
    return Trained(history, found.tags.get("search.device", "") if found else "", _json(text))


def epochs(found: audit.Found) -> list[dict[str, float]]:
    """A run's metrics epoch by epoch, without those of the whole trial."""
    metrics = {key: points for key, points in found.metrics.items() if not is_final(key)}
    last = max((p.step for p in metrics.get("loss", []) + metrics.get("val_loss", [])), default=-1)
    each: list[dict[str, float]] = [{} for _ in range(last + 1)]
    for key, points in metrics.items():
        for point in points:
            if 0 <= point.step <= last:
                each[point.step][key] = point.value
    return each


def _json(text: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
