"""Writes and removes the files of runs and logged models, wherever the store keeps them."""

from __future__ import annotations

import contextlib
import tempfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from tracking.client import Connection

KEPT = 512  # repositories remembered


class Artifacts:
    """The artifact stores behind one tracking URI. Used by the outbox's thread, and `learn` by any."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._places: OrderedDict[str, str] = OrderedDict()
        self._repositories: OrderedDict[str, Any] = OrderedDict()

    def learn(self, run_id: str, artifact_uri: str) -> None:
        """Remember where a run keeps its files, which saves asking."""
        self._places[run_id] = artifact_uri
        while len(self._places) > KEPT:
            self._places.popitem(last=False)

    def write(self, run_id: str, path: str, content: bytes) -> None:
        """Store `content` as the artifact `path` of a run; the same path again replaces it."""
        target = PurePosixPath(path)
        with tempfile.TemporaryDirectory(prefix="keras-search-") as folder:
            local = Path(folder, target.name)
            local.write_bytes(content)
            self.copy(run_id, local, _folder(target))

    def copy(self, run_id: str, local: Path, folder: str | None) -> None:
        """Store a local file under `folder` of a run's artifacts."""
        self._of_run(run_id).log_artifact(str(local), folder)

    def upload(self, location: str, folder: Path) -> None:
        """Store all files of a local folder at an artifact location."""
        self._repository(location).log_artifacts(str(folder))

    def remove_run(self, run_id: str) -> None:
        """Delete every file of a run; where there are none any more, nothing."""
        self._remove_all(self._connection.client.get_run(run_id).info.artifact_uri)

    def remove_model(self, location: str) -> None:
        """Delete every file of a logged model; where there are none any more, nothing."""
        self._remove_all(location)

    def _remove_all(self, location: str) -> None:
        self._repository(location).delete_artifacts()
        parts = urlsplit(location)
        if parts.scheme in ("", "file"):
            # MLflow leaves the empty folder of the run or model.
            with contextlib.suppress(OSError):
                Path(unquote(parts.path)).parent.rmdir()

    def _of_run(self, run_id: str) -> Any:
        if run_id not in self._places:
            self.learn(run_id, self._connection.client.get_run(run_id).info.artifact_uri)
        return self._repository(self._places[run_id])

    def _repository(self, location: str) -> Any:
        if location not in self._repositories:
            self._repositories[location] = repository(self._connection.uri, location)
            while len(self._repositories) > KEPT:
                self._repositories.popitem(last=False)
        return self._repositories[location]


def repository(uri: str, location: str) -> Any:
    """MLflow's access to an artifact location of the tracking store at `uri`."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(location, tracking_uri=uri)


def _folder(path: PurePosixPath) -> str | None:
    return str(path.parent) if path.parent != PurePosixPath(".") else None
