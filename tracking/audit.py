"""Reads back what MLflow has of a study: its runs, whole, and the models they logged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.artifacts import repository
from tracking.client import Connection, or_none
from tracking.faults import Fault, fault_of
from tracking.runs import KIND, NUMBER, STUDY
from tracking.values import Point

if TYPE_CHECKING:
    from mlflow.entities import FileInfo, LoggedModel, Run

PAGE = 1000
WEIGHTS = "data/model.keras"
UNCOUNTED = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "config.json"}  # in model_size_bytes


@dataclass(frozen=True)
class Found:
    """One run as MLflow has it; `number` is its trial's by its tags, None where they do not say one.

    Metrics are whole histories; `artifacts` are the names at the top of its folder. Times are in ms since 1970.
    """

    run_id: str
    number: int | None
    started: int
    ended: int | None
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
    location: str
    whole: bool
    registered: bool
    size: int


def runs(connection: Connection, identity: str) -> list[Found]:
    """Every run of a study, deleted ones included, the oldest first. Raises what MLflow raises."""
    return [_found(connection, run) for run in _search(connection, f"tags.`{STUDY}` = '{identity}'")]


def run(connection: Connection, run_id: str) -> Found | None:
    """One run; None where there is none of that id."""
    found = or_none(lambda: connection.client.get_run(run_id))
    return None if found is None else _found(connection, found)


def models(connection: Connection, run_ids: Iterable[str]) -> list[FoundModel]:
    """The logged models of these runs."""
    found = []
    for run_id in run_ids:
        token = None
        while True:
            page = connection.client.search_logged_models(
                [connection.experiment_id],
                filter_string=f"source_run_id = '{run_id}'",
                max_results=50,
                page_token=token,
            )
            found += [_model(connection, logged) for logged in page]
            token = page.token
            if not token:
                break
    return found


def model(connection: Connection, model_id: str) -> FoundModel | None:
    """One logged model; None where there is none of that id."""
    found = or_none(lambda: connection.client.get_logged_model(model_id))
    return None if found is None else _model(connection, found)


def registered(connection: Connection, run_id: str) -> list[Any]:
    """The model versions that were made from a run."""
    return list(connection.client.search_model_versions(f"run_id = '{run_id}'"))


def text(connection: Connection, run_id: str, path: str) -> str | None:
    """An artifact of a run as text; None where it is not there."""
    with tempfile.TemporaryDirectory(prefix="keras-search-") as folder:
        try:
            local = connection.client.download_artifacts(run_id, path, folder)
            return Path(local).read_text(encoding="utf-8", errors="replace")
        except Exception as error:  # each kind of artifact store has its own way to say that there is none
            if fault_of(error) is Fault.AWAY:
                raise
            return None


def place(connection: Connection) -> str:
    """Where the experiment keeps its files."""
    return str(connection.client.get_experiment(connection.experiment_id).artifact_location)


def model_files(connection: Connection, model_id: str, folder: Path) -> bool:
    """Bring the files of a logged model into `folder`, also where its record is gone; False where they are not whole.

    A model's files stand where its experiment keeps them, so they are found without the record.
    """
    location = f"{place(connection).rstrip('/')}/models/{model_id}/artifacts"
    if not is_whole(connection, location):
        return False
    folder.mkdir(parents=True)
    repository(connection.uri, location).download_artifacts("", str(folder))
    return True


def is_whole(connection: Connection, location: str) -> bool:
    """Whether all files of a packaged model stand at an artifact location, none of them cut."""
    from mlflow.models import Model

    files = _all_files(connection, location)
    if "MLmodel" not in files or not files.get(WEIGHTS):
        return False
    with tempfile.TemporaryDirectory(prefix="keras-search-") as folder:
        local = repository(connection.uri, location).download_artifacts("MLmodel", folder)
        try:
            wanted = Model.load(local).model_size_bytes
        except Exception:  # a damaged one raises whatever its content leads to
            return False
    return wanted is None or sum(n for path, n in files.items() if path not in UNCOUNTED) >= wanted


def _model(connection: Connection, logged: LoggedModel) -> FoundModel:
    location = logged.artifact_location
    ready = str(getattr(logged.status, "value", logged.status)) == "READY"
    versions = registered(connection, logged.source_run_id) if logged.source_run_id else []
    return FoundModel(
        model_id=logged.model_id,
        run_id=logged.source_run_id or "",
        location=location,
        whole=ready and is_whole(connection, location),
        registered=logged.model_id in [v.source.rpartition("/")[2] for v in versions],
        size=sum(_all_files(connection, location).values()),
    )


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
    number = run.data.tags.get(NUMBER, "")
    histories = {
        key: [Point(m.key, m.value, m.timestamp, m.step) for m in client.get_metric_history(run_id, key)]
        for key in run.data.metrics
    }
    return Found(
        run_id=run_id,
        number=int(number) if number.isdigit() and run.data.tags.get(KIND) != "study" else None,
        started=run.info.start_time,
        ended=run.info.end_time or None,
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
    try:
        return list(repository(connection.uri, location).list_artifacts(path))
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
