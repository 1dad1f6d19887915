"""Keeps versions of models worth serving: registers, finds, fetches, promotes, rolls back, each told in one line."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import history, registry_lock
from tracking.artifacts import repository
from tracking.client import connect, or_none
from tracking.errors import NoSuchModel, TrackingError
from tracking.faults import Fault, fault_of, told
from tracking.history import CHAMPION
from tracking.integrity import DIGEST_TAG, folder_digest
from tracking.probe import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

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
    with told(uri):
        client = connect(uri)
        client.get_logged_model(model_id)  # MLflow itself would register a model that is not there
        found = _version_of(client, model_name, model_id, run_id)
        if found is not None:
            _set_tags(client, model_name, found.version, tags)
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


def find(uri: str, reference: str) -> Version:
    """The version that `models:/name@alias`, `name@alias`, `name/3` or `name` (its champion) means.

    Raises NoSuchModel, naming what there is, where it is not there.
    """
    name, alias, number = parse(reference)
    with told(uri):
        client = connect(uri)
        model = _model(client, name, uri)
        there = {str(v.version): v for v in client.search_model_versions(f"name = '{_quoted(name)}'")}
        if alias is not None:
            if alias not in model.aliases:
                known = ", ".join(f"{a} (version {v})" for a, v in sorted(model.aliases.items())) or "none"
                raise NoSuchModel(f"{name} has no alias {alias!r}; there: {known}")
            number = str(model.aliases[alias])
        if number not in there:
            known = ", ".join(sorted(there, key=int)) or "none"
            raise NoSuchModel(f"{name} has no version {number}; there: {known}")
        found = client.get_model_version(name, number)  # the search leaves the aliases out
        return _version(found)


def parse(reference: str) -> tuple[str, str | None, str | None]:
    """Name, alias and version of a reference; of the last two exactly one is given. Raises NoSuchModel."""
    found = re.fullmatch(r"(?:models:/)?([^@/]+)(?:@([^@/]+)|/(\d+))?", reference.strip())
    if found is None:
        raise NoSuchModel(f"{reference!r} is no model; give NAME@champion, NAME/3 or models:/NAME@champion")
    name, alias, number = found[1], found[2], found[3]
    return name, (alias or CHAMPION) if number is None else None, number


def model_name(reference: str) -> str:
    """The name in a reference to a whole model, NAME or NAME@champion. Raises NoSuchModel where it names a version."""
    name, alias, number = parse(reference)
    if number is not None or alias != CHAMPION:
        raise NoSuchModel(f"{reference!r} is one version of model {name!r}; this is about the model: give {name}")
    return name


def fetch(uri: str, version: Version, folder: Path) -> Path:
    """A local copy of a version's model folder below `folder`, whole and checked; a copy that is there is used.

    Raises TrackingError where its files are not those that were registered, and where they are gone.
    """
    return fetch_model(uri, version.model_id, folder, digest=version.tags.get(DIGEST_TAG))


def fetch_model(uri: str, model_id: str, folder: Path, *, digest: str | None = None) -> Path:
    """The same of a logged model; `digest` is that of its files, by default the one noted when it was uploaded."""
    with told(uri):
        client = connect(uri)
        logged = or_none(lambda: client.get_logged_model(model_id))
        if logged is None:
            raise TrackingError(f"model {model_id} is gone from MLflow")
        wanted = digest or logged.tags.get(DIGEST_TAG)
        place = folder / model_id
        if place.is_dir() and wanted and folder_digest(place) == wanted:
            return place
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{model_id}-", dir=folder))
        try:
            repository(uri, logged.artifact_location).download_artifacts("", str(aside))
            found = folder_digest(aside)
            if not (aside / "MLmodel").is_file():
                raise TrackingError(f"the files of model {model_id} are gone from {logged.artifact_location}")
            if wanted and found != wanted:
                raise TrackingError(
                    f"model {model_id} is not what was registered: its files at {masked(logged.artifact_location)} "
                    f"have the digest {found[:12]}, noted is {wanted[:12]}; they were changed, and are not used"
                )
            if place.exists():
                shutil.rmtree(place)
            aside.replace(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return place


def digest_of(uri: str, model_id: str) -> str | None:
    """The digest noted when a logged model was uploaded; None where an older program uploaded it."""
    with told(uri):
        return connect(uri).get_logged_model(model_id).tags.get(DIGEST_TAG)


def run_tags(uri: str, run_id: str) -> dict[str, str]:
    """The tags of a run. Raises TrackingError."""
    with told(uri):
        return dict(connect(uri).get_run(run_id).data.tags)


def add_files(uri: str, model_id: str, name: str, folder: Path) -> None:
    """Put the files of a local folder beside a logged model's own, below `name`. Raises TrackingError."""
    with told(uri):
        logged = connect(uri).get_logged_model(model_id)
        repository(uri, logged.artifact_location).log_artifacts(str(folder), name)


def read_file(uri: str, model_id: str, name: str) -> bytes | None:
    """The content of one file of a logged model; None where it is not there. Raises TrackingError."""
    with told(uri), tempfile.TemporaryDirectory(prefix="keras-search-") as folder:
        logged = connect(uri).get_logged_model(model_id)
        try:
            return Path(repository(uri, logged.artifact_location).download_artifacts(name, folder)).read_bytes()
        except Exception as error:  # each kind of artifact store has its own way to say that there is none
            if fault_of(error) is Fault.AWAY:
                raise
            return None


def promote(
    uri: str, model: str, version: str, *, expected: str | None, facts: Mapping[str, Any], tags: Mapping[str, str]
) -> str | None:
    """Make a version champion, if the champion is still `expected`; gives the version it replaces.

    Raises ChampionChanged, else TrackingError.
    """
    with told(uri):
        client = connect(uri)
        _set_tags(client, model, version, tags)
        return history.make_champion(client, model, version, expected=expected, by=who(), facts=facts)


def refuse(uri: str, model: str, version: str, *, facts: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Note that a version did not become champion, and make it the challenger. Raises TrackingError."""
    with told(uri):
        client = connect(uri)
        _set_tags(client, model, version, tags)
        history.note_refusal(client, model, version, who(), facts)


def roll_back(uri: str, model: str, facts: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return to the champion before; gives the versions (old, new). Raises NoSuchModel, TrackingError.

    The old one is None where there was no champion any more, its version being deleted.
    """
    with told(uri):
        client = connect(uri)
        _model(client, model, uri)
        return history.roll_back(client, model, who(), facts)


def champion(uri: str, model: str) -> Version | None:
    """The champion; None where there is none or no such model. What a killed promotion left is mended first."""
    with told(uri):
        client = connect(uri)
        found = or_none(lambda: client.get_registered_model(model))
        if found is None:
            return None
        if _heal(client, found):
            found = client.get_registered_model(model)
        number = found.aliases.get(CHAMPION)
        return None if number is None else _version(client.get_model_version(model, str(number)))


def past(uri: str, model: str) -> tuple[list[history.Event], dict[str, str], dict[str, Version]]:
    """A model's events, the oldest first, its aliases, and its versions by number. Raises TrackingError.

    What a killed promotion or rollback left is mended first.
    """
    with told(uri):
        client = connect(uri)
        _heal(client, _model(client, model, uri))
        versions = {str(v.version): _version(v) for v in client.search_model_versions(f"name = '{_quoted(model)}'")}
        return history.events(client, model), history.aliases(client, model), versions


def who() -> str:
    """Who does this, in words: a person's name on a machine."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "somebody"
    return f"{name} on {socket.gethostname()}"


def _model(client: MlflowClient, name: str, uri: str) -> RegisteredModel:
    found = or_none(lambda: client.get_registered_model(name))
    if found is None:
        known = ", ".join(sorted(m.name for m in client.search_registered_models())) or "none"
        raise NoSuchModel(f"no model {name!r} in the registry at {masked(uri)}; there: {known}")
    return found


def _heal(client: MlflowClient, model: RegisteredModel) -> bool:
    """Finish or undo what a killed process left half done; whether there was anything to look at."""
    locked = any(key.startswith(registry_lock.PREFIX) for key in model.tags)
    if not locked and all(event.done for event in history.events(client, model.name)):
        return False
    with registry_lock.held(client, model.name):
        history.heal(client, model.name)
    return True


def _set_tags(client: MlflowClient, model: str, version: str, tags: Mapping[str, str]) -> None:
    """Set the tags that are not so already: each is a request."""
    known = client.get_model_version(model, version).tags
    for key, value in tags.items():
        if known.get(key) != value:
            client.set_model_version_tag(model, version, key, value)


def _quoted(text: str) -> str:
    return text.replace("'", "''")


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
