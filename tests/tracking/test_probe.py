"""Every tracking address that cannot be used is told apart in one line, without importing MLflow."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support import killed_in_a_write

from tracking.probe import masked, masked_text, problem


def table(path, *names):
    connection = sqlite3.connect(path)
    for name in names:
        connection.execute(f"create table {name} (x)")
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


def test_a_running_server_is_usable_with_and_without_a_slash(server):
    assert problem(server.uri) is None
    assert problem(server.uri + "/") is None


def test_a_server_that_refuses_our_host_header_is_told_although_its_health_is_green(server):
    uri = f"http://localhost:{server.port}"
    assert problem(uri) == (
        f"tracking server {uri} refuses the host name 'localhost:{server.port}' (403); "
        f"start it with --allowed-hosts localhost:{server.port}"
    )


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"", "refuses access (401); set MLFLOW_TRACKING_USERNAME"),
        (403, b"Permission denied", "refuses access (403)"),
        (404, b"<html>", "is not an MLflow server (404"),
        (200, b"<html>hello</html>", "is not an MLflow server (200"),
        (500, b"", "is in trouble (500)"),
        (503, b"", "is in trouble (503)"),
    ],
)
def test_a_server_that_answers_something_else_is_told_apart(answering, status, body, said):
    found = problem(answering(status, body))
    assert found is not None
    assert said in found
    assert "\n" not in found


def test_a_server_that_does_not_answer_is_told_with_why():
    assert problem("http://127.0.0.1:9") == (
        "tracking server http://127.0.0.1:9 does not answer (Connection refused); "
        "start it, or give another with --tracking-uri"
    )
    assert "no such host" in (problem("http://no-such-host.invalid:5000", timeout=2) or "")
    assert "nonnumeric port" in (problem("http://127.0.0.1:notaport") or "")


def test_a_server_that_never_answers_is_given_up_after_the_timeout(silent):
    assert "does not answer (timed out)" in (problem(silent, timeout=0.3) or "")


def test_a_user_and_password_are_sent_as_mlflow_sends_them_and_hidden(answering, monkeypatch):
    uri = answering(401, b"")
    address = uri.replace("http://", "http://me:pass@")
    found = problem(address)
    assert "me:***@" in found
    assert "pass" not in found.replace("PASSWORD", "")
    assert answering.headers[-1]["Authorization"] == "Basic bWU6cGFzcw=="
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    problem(uri)
    assert answering.headers[-1]["Authorization"] == "Bearer t0ken"


def test_a_database_that_is_not_there_yet_or_empty_or_mlflows_is_usable(tmp_path, sqlite):
    assert problem(f"sqlite:///{tmp_path / 'new' / 'folder' / 'mlflow.db'}") is None
    assert list(tmp_path.iterdir()) == [], "asking leaves nothing behind"
    (tmp_path / "empty.db").touch()
    assert problem(f"sqlite:///{tmp_path / 'empty.db'}") is None
    from tracking.runs import Tracker

    Tracker(sqlite.uri, "probe", sqlite.artifact_root).close(5)
    assert problem(sqlite.uri) is None


def test_a_database_beside_which_its_files_are_not_was_moved_or_copied(tmp_path):
    from tracking.runs import Tracker

    old, new, copy = (tmp_path / name for name in ("old home", "new", "copy"))
    Tracker(f"sqlite:///{old}/mlflow.db", "a space", old / "artifacts").close(5)
    (old / "artifacts" / "a space").mkdir(parents=True)

    def asked(home):
        return problem(f"sqlite:///{home}/mlflow.db", artifacts=home / "artifacts")

    assert asked(old) is None
    shutil.copytree(old, copy)
    assert asked(copy).startswith(f"{copy} is a copy of {old}: ")
    assert problem(f"sqlite:///{copy}/mlflow.db", artifacts=tmp_path / "another") is None, (
        "a database for several homes"
    )
    old.rename(new)
    told = asked(new)
    assert told.startswith(f"{new} was moved from {old}")
    subprocess.run(told.partition("(")[2].partition(")")[0], shell=True, check=True)
    assert asked(new) is None


def test_a_file_that_is_no_database_of_mlflows_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("this is a long enough text that is no database " * 20)
    assert "is not an SQLite database" in problem(f"sqlite:///{tmp_path / 'text.db'}")
    assert "something else than MLflow" in problem(table(tmp_path / "optuna.db", "studies", "alembic_version"))
    assert "is a folder" in problem(f"sqlite:///{tmp_path}")
    assert "names no file" in problem("sqlite://")
    assert "names no file" in problem("sqlite:///:memory:")


def test_a_database_whose_writer_was_killed_is_rolled_back_and_usable(tmp_path):
    path = tmp_path / "mlflow.db"
    killed_in_a_write(path, "experiments", "runs")
    assert Path(f"{path}-journal").stat().st_size > 0, "nothing is left to roll back"
    assert problem(f"sqlite:///{path}") is None


def test_a_locked_database_is_not_called_damaged(tmp_path):
    uri = table(tmp_path / "mlflow.db", "experiments", "runs")
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    holder.execute("begin exclusive")
    try:
        said = problem(uri)
    finally:
        holder.close()
    assert "cannot be used (database is locked)" in said
    assert "not an SQLite" not in said


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in problem(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")
    if os.geteuid() != 0:  # root writes everywhere
        tmp_path.chmod(0o500)
        assert "cannot be written" in problem(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert "cannot be written" in problem("sqlite:////proc/nowhere/mlflow.db")


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "file:mlruns", "./mlruns", "mlruns"])
def test_plain_folders_are_refused_as_mlflow_refuses_them(uri):
    assert "plain folders" in problem(uri)


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3://bucket", ""])
def test_an_unknown_scheme_is_refused_with_examples(uri):
    found = problem(uri)
    assert "unknown scheme" in found
    assert "sqlite:///mlflow.db" in found


def test_a_database_server_that_does_not_answer_is_told_without_its_password():
    found = problem("postgresql+psycopg://me:secret@127.0.0.1:9/mlflow", timeout=2)
    assert "postgresql+psycopg://me:***@127.0.0.1:9/mlflow" in found
    assert "secret" not in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:p@ss/w:rd@host/db", "postgresql://me:***@host/db"),
        ("http://me:pw@host:5000/a@b", "http://me:***@host:5000/a@b"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("postgresql://me@host/db?password=x&sslmode=off", "postgresql://me@host/db?password=***&sslmode=off"),
        ("no address at all", "no address at all"),
    ],
)
def test_passwords_are_masked_and_nothing_else(uri, shown):
    assert masked(uri) == shown
    assert masked_text(f"see {uri} now") == f"see {shown} now"


def test_asking_a_server_imports_no_mlflow(python, server):
    code = "import sys; from tracking.probe import problem; print(problem(sys.argv[1]), 'mlflow' in sys.modules)"
    assert python(code, server.uri) == "None False\n"


def test_the_light_modules_import_nothing_heavy(python):
    code = (
        "import sys, tracking.probe, tracking.provenance, tracking.figures, tracking.outbox, tracking.runs;"
        "import tracking.server, tracking.registry, tracking.packaging;"
        "print({'mlflow', 'matplotlib', 'keras', 'pandas', 'sqlalchemy', 'requests', 'optuna'} & set(sys.modules))"
    )
    assert python(code) == "set()\n"
    assert sys.modules["tracking.probe"]
