"""A real MLflow server that can be killed and started again, a real SQLite store, and a packaged model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import begin, begin_trial

from bench.places import Server
from tracking.runs import Run, Tracker

PACKAGE = """
import json, sys
from pathlib import Path
import keras
import numpy as np
from tracking import packaging

folder = Path(sys.argv[1])
keras.utils.set_random_seed(1)
network = keras.Sequential([
    keras.Input((8, 8, 3), dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3),
    keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax", dtype="float32"),
])
images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
packaging.save(network, folder, example=images, requirements=packaging.environment_versions(),
               config={"filters": 4}, metadata={"trial": 7})
np.savez(folder.parent / "expected.npz", images=images, probabilities=network.predict(images, verbose=0))
"""


def run_python(code: str, *arguments: str, **environment: str) -> str:
    """Run code in a Python of its own and return what it printed."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | quiet | environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def python() -> Callable[..., str]:
    return run_python


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.kill()


@dataclass(frozen=True)
class Place:
    """A tracking store: its URI, what a Tracker needs to know, and where its files lie on this disk."""

    name: str
    uri: str
    artifact_root: Path | None
    files: Path


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("sqlite")
    return Place("sqlite", f"sqlite:///{folder / 'home' / 'mlflow.db'}", folder / "artifacts", folder / "artifacts")


@pytest.fixture(params=["sqlite", "server"])
def place(request: pytest.FixtureRequest) -> Place:
    """Both kinds of store, one after the other."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite")
    running = request.getfixturevalue("server")
    return Place("server", running.uri, None, running.files)


@pytest.fixture
def tracker(place: Place) -> Iterator[Tracker]:
    opened = Tracker(place.uri, "an experiment", place.artifact_root)
    yield opened
    opened.close(10)


@pytest.fixture
def study(tracker: Tracker) -> Run:
    return begin(tracker, "a study")


@pytest.fixture
def trial(tracker: Tracker, study: Run) -> Run:
    run = begin_trial(tracker, study, 3)
    tracker.set_params(run, {"lr": 0.1})
    return run


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a worker leaves it; expected.npz beside it holds images and their probabilities."""
    folder = tmp_path_factory.mktemp("packaged") / "model"
    run_python(PACKAGE, str(folder), KERAS_BACKEND="tensorflow")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The smallest folder that MLflow takes for a model, for tests that load none."""
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text(json.dumps({"flavors": {}, "model_uuid": "x", "utc_time_created": "2026-01-01"}))
    (folder / "data" / "weights").write_bytes(b"w" * 1000)
    return folder


class Answering:
    """Starts HTTP servers that give every request one answer, and keeps the headers they got."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self._running: list[ThreadingHTTPServer] = []

    def __call__(self, status: int, body: bytes) -> str:
        headers = self.headers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers.append(dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        self._running.append(running)
        return f"http://127.0.0.1:{running.server_address[1]}"

    def close(self) -> None:
        for running in self._running:
            running.shutdown()
            running.server_close()


@pytest.fixture
def answering() -> Iterator[Answering]:
    servers_of_one_answer = Answering()
    yield servers_of_one_answer
    servers_of_one_answer.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
