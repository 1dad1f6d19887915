"""Finds a registered model, brings its files here and checks that they are those that were registered."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import InputError, SearchError
from search.plan import BACKENDS
from search.settings import Settings, masked, tracking_problem
from spaces.datasets import describe
from spaces.errors import UnknownDataset

if TYPE_CHECKING:
    from tracking.described import Described
    from tracking.registry import Version


@dataclass(frozen=True)
class Registered:
    """A version of a registered model and its checked files.

    `shape` is (height, width, channels) of the images it takes; `class_names` is empty where nobody noted them;
    `digest` is the SHA-256 its files were found to have, None where none was noted to compare with. `reference` is the
    asked-for one as MLflow writes it.
    """

    reference: str
    version: Version
    folder: Path
    digest: str | None
    backend: str
    shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name, version and aliases, for people."""
        aliases = f" ({', '.join(self.version.aliases)})" if self.version.aliases else ""
        return f"{self.version.name} version {self.version.version}{aliases}"


def bring(reference: str, settings: Settings) -> Registered:
    """The model that `name@alias`, `name/3`, `name` or `models:/…` means, its files in the home's `models` folder.

    Raises InputError where there is no registry, TrackingError where it does not answer, has no such model or version,
    or where the files are not those that were registered.
    """
    from tracking import described, registry
    from tracking.integrity import DIGEST_TAG

    check_registry(settings)
    name, alias, number = registry.parse(reference)
    version = registry.find(settings.tracking_uri, reference)
    folder = registry.fetch(settings.tracking_uri, version, settings.models)
    said = described.describe(folder)
    backend = str(version.tags.get("search.backend") or said.metadata.get("backend") or BACKENDS[0])
    if backend not in BACKENDS:
        raise SearchError(
            f"{version.name} version {version.version} is noted to run with {backend!r}; known: {', '.join(BACKENDS)}"
        )
    return Registered(
        reference=f"models:/{name}@{alias}" if alias else f"models:/{name}/{number}",
        version=version,
        folder=folder,
        digest=version.tags.get(DIGEST_TAG) or registry.digest_of(settings.tracking_uri, version.model_id),
        backend=backend,
        shape=said.shape,
        classes=said.classes,
        class_names=_class_names(said, version),
    )


def check_registry(settings: Settings) -> None:
    """Raises InputError where the registry cannot be asked, or there is none yet: asking must not make one."""
    from tracking import probe

    place = tracking_problem(settings)
    if place:
        raise InputError(place)
    path = probe.sqlite_path(settings.tracking_uri) if settings.tracking_uri.startswith("sqlite") else None
    if path is not None and not path.is_file():
        raise InputError(
            f"no model in {masked(settings.tracking_uri)}: there is no such file; register one: "
            f"python -m search promote STUDY, or give another --tracking-uri"
        )


def _class_names(said: Described, version: Version) -> tuple[str, ...]:
    """From the model itself; one of an older program names at most its dataset, in the registry."""
    names = tuple(str(name) for name in said.metadata.get("class_names") or ())
    if not names:
        with suppress(UnknownDataset):
            names = describe(str(said.metadata.get("dataset") or version.tags.get("search.dataset") or "")).class_names
    return names if len(names) == said.classes else ()


def own_backend() -> str:
    """The backend for what notes none: KERAS_BACKEND where it is one of ours, else TensorFlow."""
    asked = os.environ.get("KERAS_BACKEND", "")
    return asked if asked in BACKENDS else BACKENDS[0]
