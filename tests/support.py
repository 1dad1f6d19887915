"""What several test modules import: a clean environment, a process apart, runs to log to, a network's true sizes."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import shutil
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from bench.places import environment

if TYPE_CHECKING:
    from search.settings import Settings
    from search.trial.spec import TrialSpec
    from tracking.runs import Run, Tracker

__all__ = [
    "afresh",
    "apart",
    "begin",
    "begin_trial",
    "champion",
    "command",
    "environment",
    "fetched",
    "killed_in_a_write",
    "layer_outputs",
    "settings_of",
    "trial_spec",
]

KILLED_IN_A_WRITE = """
import os, signal, sqlite3, sys
path, *tables = sys.argv[1:]
database = sqlite3.connect(path, isolation_level=None)
for table in tables:
    database.execute(f"create table if not exists {table} (x)")
database.execute("pragma cache_size = 1")  # so that the open transaction reaches the file
database.execute("begin")
database.executemany(f"insert into {tables[0]} (rowid) values (?)", ((100_000 + n,) for n in range(100_000)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_in_a_write(path: Path, *tables: str) -> None:
    """Leave an SQLite file as a program killed in the middle of a write to the first of these tables leaves it."""
    subprocess.run([sys.executable, "-c", KILLED_IN_A_WRITE, str(path), *tables], check=False)


def fetched(name: str) -> Path:
    """The folder of a real dataset, fetched once per machine."""
    from spaces.datasets import prepare

    cache = os.environ.get("SEARCH_TEST_CACHE") or Path.home() / ".cache" / "keras-search-tests"
    data = os.environ.get("SEARCH_DATA")
    return prepare(name, cache=Path(cache), data=Path(data) if data else None)


def begin(tracker: Tracker, name: str) -> Run:
    """The run of a new study, made in the store."""
    run = tracker.start_study(name, identity=uuid.uuid4().hex, tags={}, note="")
    assert tracker.flush(30), tracker.outbox.failures
    return run


def begin_trial(tracker: Tracker, study: Run, number: int, **options: Any) -> Run:
    """The run of a study's trial, made in the store."""
    identity = study.lane.removeprefix("study ")
    said = {"identity": identity, "name": f"trial {number}", "tags": {}, "fresh": True} | options
    run = tracker.start_trial(study, number, **said)
    assert tracker.flush(30), tracker.outbox.failures
    return run


def champion(uri: str, home: Path, folder: Path, name: str) -> str:
    """Upload a packaged model, register it and make it champion, as a search and a promotion do; its model id."""
    from tracking import client, registry
    from tracking.runs import Tracker

    tracker = Tracker(uri, "an experiment", home / "artifacts")
    run, uploaded = begin(tracker, name), []
    tracker.upload_model(run, folder, name="model", step=0, metrics={}, params={}, on_done=uploaded.append)
    assert tracker.flush(60), tracker.outbox.failures
    tracker.close(10)
    made = registry.register(
        uri, model_name=name, model_id=uploaded[0], run_id=run.run_id, tags={}, description="for a test"
    )
    client.connect(uri).set_registered_model_alias(name, "champion", made.version)
    return uploaded[0]


def trial_spec(folder: Path, **said: Any) -> TrialSpec:
    """The specification of a trial of digits' baseline in `folder`, one epoch long, but for what is `said`."""
    from search.trial.spec import TrialSpec
    from spaces import find

    values: dict[str, Any] = {
        "study": "s",
        "number": 0,
        "attempt": 1,
        "space": "cnn_digits",
        "config": dict(find("cnn_digits").baselines[0].config),
        "config_hash": "h",
        "data_folder": "",
        "data_seed": 0,
        "train_limit": None,
        "validation_limit": None,
        "epochs": 1,
        "milestones": (),
        "patience": 0,
        "seed": 1,
        "metric": "val_accuracy",
        "direction": "maximize",
        "precision": "float32",
        "folder": str(folder),
        "recorded": 0,
        "rungs": (),
    }
    return TrialSpec(**(values | said))


def layer_outputs(model: Any) -> int:
    """The sizes of the outputs of all layers of a Keras model for one image, added up."""
    return sum(math.prod(layer.output.shape[1:]) for layer in model.layers)


def settings_of(home: Path) -> Settings:
    """The settings of a home with nothing else said."""
    from search.settings import resolve

    return resolve(environment={"SEARCH_HOME": str(home)})


def afresh(folder: Path) -> Path:
    """The untouched home in the place of what there is: MLflow's addresses of files are absolute."""
    shutil.rmtree(folder / "home", ignore_errors=True)
    shutil.copytree(folder / "pristine", folder / "home")
    return folder / "home"


def apart(work: Callable[[], Any]) -> Any:
    """What `work` returns, run in a process of its own: stores keep connections to files that a test replaces."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                answer = (True, work())
            except BaseException:
                answer = (False, traceback.format_exc())
            with os.fdopen(writer, "wb") as file:
                pickle.dump(answer, file)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    fine, value = pickle.loads(said)
    assert fine, value
    return value


def command(home: Path, *arguments: str, typed: str = "", **extra: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of the command line, in a process forked off to save its start."""

    def run() -> tuple[int, str, str]:
        from search.cli import main

        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict("os.environ", environment(home, **extra), clear=True),
            mock.patch.object(sys, "argv", ["search", *arguments]),
            mock.patch.object(sys, "stdin", io.StringIO(typed)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
        return code, out.getvalue(), err.getvalue()

    return apart(run)
