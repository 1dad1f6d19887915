"""Removes runs for good: their files, their logged models, then the run; what was registered stays."""

from __future__ import annotations

from tracking import audit
from tracking.artifacts import Artifacts
from tracking.client import Connection
from tracking.models import Removal


def remove_run(connection: Connection, run_id: str) -> list[str]:
    """Remove a run with its files and models; a run that a registered version came from stays whole.

    Returns these versions as `name version`. Done again it changes nothing. Raises what MLflow raises.
    """
    client, artifacts = connection.client, Artifacts(connection)
    versions = [f"{v.name} version {v.version}" for v in audit.registered(connection, run_id)]
    if versions:
        return versions
    for model in audit.models(connection, [run_id]):
        Removal(client, artifacts, model.model_id)()
    artifacts.remove_run(run_id)
    client.delete_run(run_id)
    return []


def remove_model(connection: Connection, model_id: str) -> None:
    """Remove a logged model that is no registered version."""
    Removal(connection.client, Artifacts(connection), model_id)()
