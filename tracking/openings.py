"""Counts how often the test part of a dataset was opened: one tag of an experiment an opening, written before it."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, replace

from tracking.client import Connection
from tracking.faults import told

PREFIX = "search.opening."


@dataclass(frozen=True)
class Opening:
    """One opening: when (seconds since 1970), of which data, by whom and what for."""

    time: float
    digest: str
    by: str
    purpose: str


def note(connection: Connection, digest: str, by: str, purpose: str) -> None:
    """Write an opening down. Raises TrackingError; then the test part is not to be opened."""
    now = time.time()
    said = {"time": now, "digest": digest, "by": by, "purpose": purpose}
    key = f"{PREFIX}{int(now * 1000):013}-{uuid.uuid4().hex[:8]}"
    with told(connection.uri):
        connection.client.set_experiment_tag(connection.experiment_id, key, json.dumps(said))


def of(connection: Connection, digest: str) -> list[Opening]:
    """Every opening of this data, whatever experiment it was for, the oldest first.

    A tag that cannot be read counts as one: nobody can say that it was none. Raises TrackingError.
    """
    from mlflow.entities import ViewType

    found, token = [], None
    while True:
        with told(connection.uri):
            page = connection.client.search_experiments(ViewType.ALL, max_results=1000, page_token=token)
        for experiment in page:
            texts = (text for key, text in experiment.tags.items() if key.startswith(PREFIX))
            found += [_read(text) or Opening(0.0, digest, "?", "?") for text in texts]
        token = page.token
        if not token:
            break
    return sorted((o for o in found if o.digest == digest), key=lambda o: o.time)


def _read(text: str) -> Opening | None:
    try:
        found = Opening(**json.loads(text))
        return replace(found, time=float(found.time))
    except (ValueError, TypeError):
        return None
