"""Opens MLflow's client on a tracking store, and an experiment in it, at once or when it is first needed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tracking import quiet
from tracking.errors import TrackingError
from tracking.probe import masked, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

try:
    import fcntl
except ImportError:  # Windows: two searches must not start at once on a new home
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")


class Connection:
    """MLflow's client and one experiment of the store at `uri`, opened where they are first asked for.

    Both properties raise what MLflow raises while the store is away, and work once it is back.
    """

    def __init__(self, uri: str, experiment: str, artifact_root: Path | None) -> None:
        self.uri, self.experiment, self._artifact_root = uri, experiment, artifact_root
        self._lock = threading.Lock()
        self._client: MlflowClient | None = None
        self._experiment_id = ""

    @property
    def client(self) -> MlflowClient:
        """The client of runs and registry."""
        with self._lock:
            if self._client is None:
                self._client = connect(self.uri)
            return self._client

    @property
    def experiment_id(self) -> str:
        """The experiment's id; the experiment is made where it is missing."""
        client = self.client
        with self._lock:
            if not self._experiment_id:
                self._experiment_id = experiment_id(client, self.uri, self.experiment, self._artifact_root)
            return self._experiment_id


def connect(uri: str) -> MlflowClient:
    """A client of `uri` for runs and registry alike, its tables made or brought up to date where it is a database.

    Raises TrackingError where an SQLite file's folder cannot be made, and what MLflow raises.
    """
    quiet.prepare()
    from mlflow import MlflowClient

    with _alone(sqlite_path(uri) if uri.startswith("sqlite") else None):
        # Both said: MLflow would take the registry's address from the process' global state.
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def or_none(ask: Callable[[], T]) -> T | None:
    """What `ask` gets from MLflow; None where there is no such thing. Raises whatever else MLflow raises."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def experiment_id(client: MlflowClient, uri: str, name: str, artifact_root: Path | None) -> str:
    """The id of the experiment `name`, made if missing; a database store's keeps its files in `artifact_root`/`name`.

    Raises TrackingError for a deleted one, saying how to restore it.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        return _new_experiment(client, uri, name, artifact_root)
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {name!r} was deleted in {masked(uri)}; bring it back with MLFLOW_TRACKING_URI={masked(uri)} "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)


def _new_experiment(client: MlflowClient, uri: str, name: str, artifact_root: Path | None) -> str:
    from mlflow.exceptions import MlflowException

    place = None
    if artifact_root is not None and not uri.startswith(("http://", "https://")):
        place = (artifact_root / name).absolute().as_uri()
    try:
        # The kind keeps the UI from guessing which tabs to show.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location=place, tags=kind))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        found = client.get_experiment_by_name(name)  # another process made it meanwhile
        if found is None:
            raise
        return str(found.experiment_id)


@contextlib.contextmanager
def _alone(database: Path | None) -> Iterator[None]:
    """Hold the folder of an SQLite file while MLflow makes its tables or brings them up to date.

    Two processes that do so at once ruin the schema. The folder itself is locked, so no lock file stays behind.
    """
    if database is None:
        yield
        return
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(database.parent, os.O_RDONLY)
    except OSError as error:
        raise TrackingError(f"tracking database {database}: {error.strerror or error}") from error
    try:
        if fcntl is not None:
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
