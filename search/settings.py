"""Where things live: the home folder, the study store, the tracking store, the data."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from search.errors import InputError
from tracking import probe
from tracking.probe import masked, tables

REBUILD_HINT = "move it away, then `python -m search reconcile` makes it again from the trials' folders"
STORE_HINT = "give a SQLAlchemy address like sqlite:///study.db or postgresql+psycopg://user@host/optuna"
MISREAD = re.compile(r"\?|%[0-9A-Fa-f]{2}")  # a query; an escaped character


@dataclass(frozen=True, repr=False)
class Settings:
    """Resolved places; its repr hides passwords."""

    home: Path
    storage: str
    tracking_uri: str
    data: Path | None
    pages: str | None = None  # where people see MLflow, where that is not the tracking URI

    @property
    def cache(self) -> Path:
        """Where datasets are kept."""
        return self.home / "data"

    @property
    def models(self) -> Path:
        """Where local copies of registered models are kept."""
        return self.home / "models"

    @property
    def artifacts(self) -> Path:
        """Where MLflow's artifacts go when no server keeps them."""
        return self.home / "artifacts"

    def study_folder(self, study: str) -> Path:
        """Where one study's trials write ahead."""
        return self.home / "studies" / study

    def __repr__(self) -> str:
        return f"Settings(home={self.home}, storage={masked(self.storage)}, tracking_uri={masked(self.tracking_uri)})"


def resolve(
    *,
    home: str | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from flags, then the environment, then the home folder (default ~/.keras-search).

    Raises InputError for a home folder in which no database can be named.
    """
    env = os.environ if environment is None else environment
    folder = _expanded(home or env.get("SEARCH_HOME") or "~/.keras-search")
    data = env.get("SEARCH_DATA")
    return Settings(
        home=folder,
        storage=storage or env.get("SEARCH_STORAGE") or _database(folder, "study.db"),
        tracking_uri=tracking_uri or env.get("MLFLOW_TRACKING_URI") or _database(folder, "mlflow.db"),
        data=_expanded(data) if data else None,
        pages=env.get("SEARCH_UI_URL"),
    )


def _database(home: Path, name: str) -> str:
    """The address of a database in the home folder."""
    # SQLAlchemy and MLflow each read an address in their own way: what they might read as another file is refused.
    found = MISREAD.search(str(home))
    if found:
        raise InputError(
            f"home {home}: a database's address cannot hold {found[0]!r}; choose another with --home or SEARCH_HOME"
        )
    return f"sqlite:///{home / name}"


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:  # ~somebody who is not there
        return Path(path).absolute()


def problems(settings: Settings) -> list[str]:
    """What keeps these places from being used, one line each."""
    found = [_home_problem(settings.home), _storage_problem(settings.storage, settings.home)]
    if settings.data is not None and not settings.data.is_dir():
        found.append(f"SEARCH_DATA={settings.data}: no such folder; create it or unset SEARCH_DATA")
    return [problem for problem in found if problem]


def tracking_problem(settings: Settings) -> str | None:
    """What keeps MLflow from being used here, in one line; None where nothing does."""
    return probe.problem(settings.tracking_uri, artifacts=settings.artifacts)


def _home_problem(home: Path) -> str | None:
    existing = home
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"home {home}: cannot be written ({error.strerror or error}); choose another with --home or SEARCH_HOME"


def hint(reason: str) -> str:
    """What to do about a study store that failed for `reason`."""
    if "malformed" in reason or "not a database" in reason:
        return REBUILD_HINT
    if "locked" in reason:
        return "another program holds it: wait for that or end it"
    return "once it is back, go on: python -m search resume STUDY"


def _storage_problem(storage: str, home: Path) -> str | None:
    try:
        url = make_url(storage)
        dialect = url.get_dialect()
    except (ArgumentError, ValueError):
        shown = (
            masked(storage) if "://" in storage else f"***@{storage.rpartition('@')[2]}" if "@" in storage else storage
        )
        return f"--storage {shown}: not an address; {STORE_HINT}"
    except ModuleNotFoundError as error:
        return f"--storage {masked(storage)}: needs {error.name}; pip install -c constraints.txt -e '.[postgres]'"
    except Exception:
        return f"--storage {masked(storage)}: unknown kind of store; {STORE_HINT}"
    if url.get_backend_name() != "sqlite":
        return _server_problem(storage, dialect.name)
    if url.database in (None, "", ":memory:"):
        return f"--storage {storage}: a store in memory forgets the study; {STORE_HINT}"
    path = Path(url.database or "")
    if not path.is_file():
        return None if path.parent.is_dir() or path.parent == home else f"--storage {storage}: no folder {path.parent}"
    try:
        found = tables(path)
    except sqlite3.OperationalError as error:  # locked, or not to be opened: no word about what it is
        return f"--storage {storage}: {error}; {hint(str(error))}"
    except sqlite3.Error as error:
        return f"--storage {storage}: not a SQLite database ({error}); give another, or, if it was one, {REBUILD_HINT}"
    if found and "studies" not in found:
        return f"--storage {storage}: a database, but not a study store (no table `studies`); {STORE_HINT}"
    return None


def _server_problem(storage: str, name: str) -> str | None:
    from sqlalchemy import create_engine

    timeout = {"connect_timeout": 5} if name in ("postgresql", "mysql") else {}
    try:
        engine = create_engine(storage, connect_args=timeout)
        with engine.connect():
            pass
        engine.dispose()
    except ModuleNotFoundError as error:
        return f"--storage {masked(storage)}: needs {error.name}; pip install -c constraints.txt -e '.[postgres]'"
    except Exception as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        return f"--storage {masked(storage)}: cannot be reached ({reason}); is the server up?"
    return None
