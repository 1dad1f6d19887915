"""Reads back what MLflow has of a study: its runs, whole, and the models they logged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracking.client import Connection
from tracking.faults import Fault, fault_of
from tracking.runs import KIND, NUMBER, STUDY
from tracking.values import Point

if TYPE_CHECKING:
    from mlflow.entities import FileInfo, Run

PAGE = 1000


@dataclass(frozen=True)
class Found:
    """One run as MLflow has it; `number` is its trial's, None for the study's own. Metrics are whole histories."""

    run_id: str
    number: int | None
    started: int  # ms
    status: str
    deleted: bool
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, list[Point]]
    datasets: int
    artifacts: frozenset[str]


@dataclass(frozen=True)
class FoundModel:
    """One logged model of a run; `whole` says that it is ready and its files are there, which take `size` bytes."""

    model_id: str
    run_id: str
    whole: bool
    registered: bool
    size: int


def runs(connection: Connection, identity: str) -> list[Found]:
    """Every run of a study, deleted ones included, the oldest first. Raises what MLflow raises."""
    return [_found(connection, run) for run in _search(connection, f"tags.`{STUDY}` = '{identity}'")]


def run(connection: Connection, run_id: str) -> Found | None:
    """One run; None where there is none of that id."""
    from mlflow.exceptions import MlflowException

    try:
        return _found(connection, connection.client.get_run(run_id))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def models(connection: Connection, run_ids: list[str]) -> list[FoundModel]:
    """The logged models of these runs."""
    found = []
    for run_id in run_ids:
        logged = connection.client.search_logged_models(
            [connection.experiment_id], filter_string=f"source_run_id = '{run_id}'", max_results=50
        )
        if not logged:
            continue
        versions = [v.source.rpartition("/")[2] for v in registered(connection, run_id)]
        for model in logged:
            ready = str(getattr(model.status, "value", model.status)) == "READY"
            files = _all_files(connection, model.artifact_location)
            whole = ready and "MLmodel" in files
            size = sum(files.values())
            found.append(FoundModel(model.model_id, run_id, whole, model.model_id in versions, size))
    return found


def registered(connection: Connection, run_id: str) -> list[Any]:
    """The model versions that were made from a run."""
    return list(connection.client.search_model_versions(f"run_id = '{run_id}'"))


def _search(connection: Connection, query: str) -> Iterator[Run]:
    from mlflow.entities import ViewType

    token: str | None = None
    while True:
        page = connection.client.search_runs(
            [connection.experiment_id],
            query,
            run_view_type=ViewType.ALL,
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _found(connection: Connection, run: Run) -> Found:
    client, run_id = connection.client, run.info.run_id
    number = run.data.tags.get(NUMBER)
    histories = {
        key: [Point(m.key, m.value, m.timestamp, m.step) for m in client.get_metric_history(run_id, key)]
        for key in run.data.metrics
    }
    return Found(
        run_id=run_id,
        number=int(number) if number and run.data.tags.get(KIND) == "trial" else None,
        started=run.info.start_time,
        status=run.info.status,
        deleted=run.info.lifecycle_stage == "deleted",
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=histories,
        datasets=len(run.inputs.dataset_inputs) if run.inputs else 0,
        artifacts=frozenset(f.path for f in _files(connection, run.info.artifact_uri)),
    )


def _files(connection: Connection, location: str, path: str | None = None) -> list[FileInfo]:
    """What stands at the top of an artifact location, or in one of its folders; nothing where it is not there."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        return list(get_artifact_repository(location, tracking_uri=connection.uri).list_artifacts(path))
    except Exception as error:
        if fault_of(error) is Fault.AWAY:
            raise
        return []


def _all_files(connection: Connection, location: str, path: str | None = None) -> dict[str, int]:
    """The size of every file below an artifact location, by its path."""
    found: dict[str, int] = {}
    for entry in _files(connection, location, path):
        found |= _all_files(connection, location, entry.path) if entry.is_dir else {entry.path: entry.file_size or 0}
    return found
