"""Keeps versions of models worth serving, and the aliases champion and previous."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracking.client import connect
from tracking.errors import TrackingAway, TrackingError
from tracking.faults import Fault, fault_of, one_line
from tracking.probe import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, PREVIOUS = "champion", "previous"
_VERSIONS_TAG = "mlflow.modelVersions"


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    version: str
    run_id: str
    model_id: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    source: str


def register(
    uri: str, *, model_name: str, model_id: str, run_id: str, tags: Mapping[str, str], description: str
) -> Version:
    """Make a logged model the next version of `model_name`, which is created if missing.

    A logged model that is a version already stays that version, with these tags: a promotion that was cut off can be
    repeated. Raises TrackingError where the model is gone or the registry refuses.
    """
    with _told(uri):
        client = connect(uri)
        client.get_logged_model(model_id)  # MLflow itself would register a model that is not there
        found = _version_of(client, model_name, model_id, run_id)
        if found is not None:
            for key, value in tags.items():
                client.set_model_version_tag(model_name, found.version, key, value)
            return _version(client.get_model_version(model_name, found.version))
        _ensure_model(client, model_name)
        with _as_default(uri):
            made = client.create_model_version(
                model_name,
                source=f"models:/{model_id}",
                run_id=run_id,
                tags=dict(tags),
                description=description,
                model_id=model_id,
            )
        if not uri.startswith(("http://", "https://")):
            _link(client, model_id, made)
        return _version(made)


def set_champion(uri: str, model_name: str, version: str) -> str | None:
    """Move the alias champion to `version` and the alias previous to the old champion, whose version is returned.

    None where there was no champion, or it was this version. When it fails, the aliases are as before.
    """
    with _told(uri):
        client = connect(uri)
        client.get_model_version(model_name, version)
        aliases = client.get_registered_model(model_name).aliases
        old, older = aliases.get(CHAMPION), aliases.get(PREVIOUS)
        if old is not None and str(old) == str(version):
            return None
        if old is not None:
            client.set_registered_model_alias(model_name, PREVIOUS, str(old))
        try:
            client.set_registered_model_alias(model_name, CHAMPION, str(version))
        except Exception:
            with contextlib.suppress(Exception):
                if older is not None:
                    client.set_registered_model_alias(model_name, PREVIOUS, str(older))
                elif old is not None:
                    client.delete_registered_model_alias(model_name, PREVIOUS)
            raise
        return None if old is None else str(old)


@contextlib.contextmanager
def _as_default(uri: str) -> Iterator[None]:
    """Make `uri` the process' own for a moment: MLflow's SQL registry looks up a models:/ source there only."""
    # Not only the environment variable: an address that a caller gave to mlflow.set_tracking_uri comes before it.
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    name = "MLFLOW_TRACKING_URI"
    before = os.environ.get(name)
    try:
        with _use_tracking_uri(uri):
            yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: MlflowClient, name: str, model_id: str, run_id: str) -> ModelVersion | None:
    """The version that this logged model is already, the newest if several."""
    found = [
        v
        for v in client.search_model_versions(f"run_id = '{run_id}'")
        if v.name == name and model_id in (v.model_id, str(v.source).rpartition("/")[2])
    ]
    return max(found, key=lambda v: int(v.version), default=None)


def _link(client: MlflowClient, model_id: str, made: ModelVersion) -> None:
    """Name the version on the logged model, as a server does by itself, so that the UI shows it there."""
    known = json.loads(client.get_logged_model(model_id).tags.get(_VERSIONS_TAG, "[]"))
    known.append({"name": made.name, "version": made.version})
    client.set_logged_model_tags(model_id, {_VERSIONS_TAG: json.dumps(known)})


def _version(found: ModelVersion) -> Version:
    return Version(
        name=found.name,
        version=str(found.version),
        run_id=found.run_id or "",
        # MLflow keeps no model id of its own for a version from models:/m-<id>.
        model_id=found.model_id or str(found.source).rpartition("/")[2],
        aliases=tuple(found.aliases),
        tags=dict(found.tags),
        source=str(found.source),
    )


@contextlib.contextmanager
def _told(uri: str) -> Iterator[None]:
    """Every failure inside becomes a TrackingError of one line."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:  # MLflow's, requests' and SQLAlchemy's have no common parent
        kind = TrackingAway if fault_of(error) is Fault.AWAY else TrackingError
        raise kind(f"MLflow's registry at {masked(uri)}: {one_line(error)}") from error
