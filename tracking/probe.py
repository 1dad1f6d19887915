"""Asks a tracking URI whether it can be used, without importing MLflow, and says in one line what is wrong."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import sqlite3
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from shlex import quote

HINT = "give --tracking-uri (or MLFLOW_TRACKING_URI) an address like sqlite:///mlflow.db or http://127.0.0.1:5000"
# SQLAlchemy's notation: a password reaches to the last @ before a space, and may hold slashes.
_SQL_PASSWORD = re.compile(r"(\w[\w+.-]*://[^:/@\s]*):([^\s]*)@")
_HTTP_PASSWORD = re.compile(r"(https?://[^:/@\s]*):([^/\s]*)@")
_SECRET_FIELD = re.compile(r"([?&;](?:\w*password|\w*pwd|\w*token|\w*secret)=)[^&;\s]+", re.IGNORECASE)
_SEARCH = "/api/2.0/mlflow/experiments/search"
# HTTPException: what speaks there is no HTTP, or the address has no number for a port.
_NO_ANSWER = (OSError, ValueError, http.client.HTTPException)
_DATABASES = ("postgresql", "mysql", "mssql")


def masked(uri: str) -> str:
    """`uri` with its password replaced by ***."""
    if uri.startswith(("http://", "https://")):
        uri = _HTTP_PASSWORD.sub(r"\1:***@", uri)
    else:
        uri = _SQL_PASSWORD.sub(r"\1:***@", uri)
    return _SECRET_FIELD.sub(r"\1***", uri)


def masked_text(text: str) -> str:
    """`text` with the password of every address in it masked."""
    return " ".join(masked(word) for word in text.split(" "))


def problem(uri: str, timeout: float = 5.0, *, artifacts: Path | None = None) -> str | None:
    """What keeps `uri` from being used as MLflow's tracking store, in one line, or None; `timeout` in seconds.

    `artifacts` is the folder beside an SQLite file where its runs are to have their files; a file that was moved or
    copied has them elsewhere.
    """
    scheme = uri.partition(":")[0].lower() if "://" in uri or uri.startswith("file:") else ""
    if scheme in ("http", "https"):
        return _http_problem(uri.rstrip("/"), timeout)
    if scheme.partition("+")[0] == "sqlite":
        return _sqlite_problem(uri, artifacts)
    if scheme.partition("+")[0] in _DATABASES:
        return _database_problem(uri, timeout)
    if scheme == "file" or (not scheme and uri):
        return f"tracking URI {uri!r}: MLflow keeps no runs in plain folders any more; {HINT}"
    return f"tracking URI {masked(uri)!r}: unknown scheme {scheme!r}; {HINT}"


def _http_problem(uri: str, timeout: float) -> str | None:
    """A real call first: a server that refuses our Host header, or our name, still answers /health with OK."""
    told = f"tracking server {masked(uri)}"
    try:
        status, body = _get(f"{uri}{_SEARCH}?max_results=1", timeout)
    except _NO_ANSWER as error:
        return f"{told} does not answer ({_why(error)}); start it, or give another with --tracking-uri"
    if status == 200 and _is_json_object(body):
        return None
    health = _health(uri, timeout)
    if status == 401 or (status == 403 and b"host header" not in body.lower()):
        return (
            f"{told} refuses access ({status}); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            f"or MLFLOW_TRACKING_TOKEN"
        )
    host = urllib.parse.urlsplit(uri).netloc.rpartition("@")[2]
    if status == 403:
        return f"{told} refuses the host name {host!r} (403); start it with --allowed-hosts {host}"
    if status >= 500 or status == 429:
        return f"{told} is in trouble ({status}); look at its log, or try again later"
    if health:
        return f"{told} does not know MLflow's API ({status} at {_SEARCH}); give the address that its users log to"
    return f"{told} is not an MLflow server ({status} at {_SEARCH}); give another with --tracking-uri"


def _get(url: str, timeout: float) -> tuple[int, bytes]:
    """Status and the first 64 kB of an answer, asked for with MLflow's own credentials."""
    parts = urllib.parse.urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = urllib.request.Request(bare, headers={"User-Agent": "keras-search"})
    authorization = _authorization(parts)
    if authorization:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=_tls()) as answer:
            return answer.status, answer.read(65536)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(65536)


def _authorization(parts: urllib.parse.SplitResult) -> str | None:
    user = urllib.parse.unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = urllib.parse.unquote(parts.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else None


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _health(uri: str, timeout: float) -> bool:
    try:
        status, body = _get(f"{uri}/health", timeout)
    except _NO_ANSWER:
        return False
    return status == 200 and body.strip() == b"OK"


def _is_json_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict) or not body
    except ValueError:
        return False


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "timed out"
    if isinstance(reason, socket.gaierror):
        return "no such host"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _sqlite_problem(uri: str, artifacts: Path | None) -> str | None:
    path = sqlite_path(uri)
    if path is None:
        return f"tracking URI {uri!r}: names no file; give sqlite:///mlflow.db or sqlite:////absolute/mlflow.db"
    told = f"tracking database {path}"
    if path.is_dir():
        return f"{told} is a folder; give the path of a file with --tracking-uri"
    if path.exists():
        try:
            with path.open("r+b"):
                found = tables(path)
            beside = artifacts if artifacts is not None and artifacts.parent == path.parent else None
            moved = _moved(path, beside) if beside is not None and "experiments" in found else None
        except OSError as error:
            return f"{told} cannot be written ({error.strerror or error}); give another with --tracking-uri"
        except sqlite3.OperationalError as error:  # locked, or not to be opened: no word about what it is
            return f"{told} cannot be used ({error}); end the program that holds it, or give another"
        except sqlite3.DatabaseError as error:
            return f"{told} is not an SQLite database ({error}); give another with --tracking-uri"
        if found and not {"experiments", "runs"} <= found:
            return f"{told} is a database of something else than MLflow; give another with --tracking-uri"
        if moved:
            return moved
    return _folder_problem(told, path.parent)


def _moved(path: Path, artifacts: Path) -> str | None:
    """Why the files of the runs in an SQLite file are not beside it: its folder was moved, or copied."""
    with contextlib.closing(sqlite3.connect(f"file:{urllib.parse.quote(str(path))}?mode=ro", uri=True)) as opened:
        made = opened.execute("select name, artifact_location from experiments").fetchall()
    for name, location in made:
        parts = urllib.parse.urlsplit(location or "")
        place = Path(urllib.parse.unquote(parts.path))
        ours = parts.scheme == "file" and place.name == name and place.parent.name == artifacts.name
        if not ours or place.parent.resolve() == artifacts.resolve():
            continue
        home, old = path.parent, place.parent
        if old.is_dir():
            return (
                f"{home} is a copy of {old.parent}: its runs have their files there, and would change them; "
                f"use that (SEARCH_HOME={old.parent}) or a new home"
            )
        return (
            f"{home} was moved from {old.parent}, where its runs look for their files: say where they are now "
            f"(mkdir -p {quote(str(old.parent))} && ln -s {quote(str(artifacts))} {quote(str(old))}) or move it back"
        )
    return None


def sqlite_path(uri: str) -> Path | None:
    """The file that an sqlite: URI names, None where it names none (in memory)."""
    rest = uri.partition("://")[2].partition("?")[0]
    name = rest[1:] if rest.startswith("/") else ""
    return Path(name).absolute() if name and name != ":memory:" else None


def tables(path: Path) -> set[str]:
    """The names of an existing SQLite file's tables. Raises sqlite3.Error.

    Opened for writing where it can be: a program killed in the middle of a write leaves a journal that only a writer
    may roll back, and until then nobody can read.
    """
    connection = sqlite3.connect(f"file:{urllib.parse.quote(str(path))}?mode=rw", uri=True, timeout=5.0)
    try:
        return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    finally:
        connection.close()


def _folder_problem(told: str, folder: Path) -> str | None:
    """SQLite needs its journal beside the file, so the folder must be writable whether or not the file exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        why = error.strerror or str(error)
        return f"{told}: folder {folder} cannot be written ({why}); give another with --tracking-uri"


def _database_problem(uri: str, timeout: float) -> str | None:
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    told = f"tracking database {masked(uri)}"
    arguments = {"connect_timeout": max(2, round(timeout))} if not uri.startswith("mssql") else {}
    try:
        engine = create_engine(uri, connect_args=arguments)
    except (ArgumentError, ValueError) as error:
        return f"{told}: {_first_line(error)}; {HINT}"
    except ImportError as error:
        return f"{told} needs a driver that is not installed ({error.name}): pip install 'keras-search[postgres]'"
    try:
        tables = set(inspect(engine).get_table_names())
    except (SQLAlchemyError, OSError, UnicodeError) as error:
        return f"{told} cannot be opened ({_first_line(error)}); start it, or give another with --tracking-uri"
    finally:
        engine.dispose()
    if tables and not {"experiments", "runs"} <= tables:
        return f"{told} is a database of something else than MLflow; make one for it alone"
    return None


def _first_line(error: Exception) -> str:
    origin = getattr(error, "orig", None) or error
    return masked_text(next((line.strip() for line in str(origin).splitlines() if line.strip()), "no reason given"))
