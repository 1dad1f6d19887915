"""Where a measurement's processes live: a clean environment, and an MLflow server that can be killed and restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from search import listen
from tracking import quiet
from tracking import server as servers

ROOT = Path(__file__).parent.parent
# Everything a user's shell might set and a measurement or a test must not inherit.
OURS = ("SEARCH_HOME", "SEARCH_DATA", "SEARCH_STORAGE", "SEARCH_SEALED", "MLFLOW_TRACKING_URI", "KERAS_BACKEND")
START_LIMIT = 90.0  # seconds for the server to answer


def environment(home: Path, **extra: str) -> dict[str, str]:
    """A clean environment whose home is `home`; what this process settled for its own MLflow is not in it."""
    clean = {k: v for k, v in os.environ.items() if k not in OURS and k not in quiet.DEFAULTS}
    return clean | {"SEARCH_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"} | extra


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """MLflow's clients in this process try again, as a user's do: a server may drop an idle connection."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ[name] = "5"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


class Server:
    """`mlflow server` on a free port of the loopback, started by tracking.server's own command.

    Its database, files and log stand in `folder`.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.files = folder / "artifacts"
        self.database = f"sqlite:///{folder / 'mlflow.db'}"
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError, with its last words, where it does not."""
        arguments, extra = servers.command(self.database, artifact_root=self.files, host="127.0.0.1", port=self.port)
        extra |= {"MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{self.port}"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                arguments, env=os.environ | extra, stdout=log, stderr=log, start_new_session=True
            )
        if not listen.answers(self.process, f"{self.uri}/health", START_LIMIT):
            raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL to it and its child: MLflow's server is two processes."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def requests(self) -> list[str]:
        """Every API request answered so far, as `POST /path`; /health left out."""
        time.sleep(0.2)  # the log line follows the answer
        found = [line.split('"')[1] for line in self.log.read_text().splitlines() if ' HTTP/1.1"' in line]
        return [line.rpartition(" ")[0].partition("?")[0] for line in found if "/health" not in line]
