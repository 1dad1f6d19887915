"""Serves a registered model by HTTP with MLflow's own scoring server, its files checked first."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from search import job, listen, registered
from search.errors import INTERRUPTED, SearchError
from search.executors import processes
from search.executors.environment import importable, keras_environment
from search.settings import Settings

START_LIMIT = 180.0  # seconds; importing TensorFlow without .pyc files takes 17
END_LIMIT = 10.0  # seconds for the server to end by itself


def serve(reference: str, settings: Settings, host: str, port: int) -> int:
    """Serve until Ctrl-C. Raises InputError where the port is taken, and what `registered.bring` and the server say."""
    from tracking import serving

    listen.check(host, port)
    found = registered.bring(reference, settings)
    base = listen.url(host, port)
    token = uuid.uuid4().hex
    try:
        with _started(serving.command(found.folder, host=host, port=port), found.backend, token) as process:
            assert process.stdout is not None
            said = _Output(process.stdout)
            _wait(process, said, f"{base}{serving.HEALTH}")
            checked = f"files checked, SHA-256 {found.digest[:12]}" if found.digest else "no digest noted: not checked"
            print(f"{found.title}, {found.backend}, {checked}")
            print(f"serving at {base}{serving.INVOCATIONS}")
            request = serving.example(found.folder, base)
            if request:
                print(f"try it:    {request}")
            stock = serving.stock_command(settings.tracking_uri, found.reference, found.backend, host=host, port=port)
            print(f"by MLflow alone, which checks no files:\n  {stock}")
            print("Ctrl-C ends it", flush=True)
            said.follow()
            raise SearchError(f"the server ended by itself: {said.last(process.wait())}")
    except KeyboardInterrupt:
        return INTERRUPTED


class _Output:
    """What the server says: kept while it starts, shown on standard error from `follow` on."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=20)
        self._shown = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            text = line.decode(errors="replace").rstrip()
            if text and "━" not in text:  # Keras' progress bars
                self._lines.append(text)
                if self._shown.is_set():
                    print(text, file=sys.stderr, flush=True)

    def follow(self) -> None:
        """Show what comes from now on, until the server is gone."""
        self._shown.set()
        self._thread.join()

    def last(self, code: int) -> str:
        """Its last line, else its exit code."""
        self._thread.join(2)
        return self._lines[-1] if self._lines else f"exit {code}"


@contextmanager
def _started(argv: list[str], backend: str, token: str) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process; at the end, however it comes, it and all that it started are gone."""
    # It ends the server where this process is killed and cannot.
    warden = subprocess.Popen(
        [sys.executable, "-m", "search.executors.warden"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=importable(os.environ),
    )
    assert warden.stdin is not None
    process = None
    try:
        warden.stdin.write(f"+{token}\n".encode())
        warden.stdin.flush()
        process = subprocess.Popen(
            argv,
            env=_environment(backend, token),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the server in order
        )
        yield process
    finally:
        if process is not None:
            process.terminate()
            _end(token, process.pid)
            process.wait()
        with suppress(OSError):
            warden.stdin.close()
        warden.wait()


def _environment(backend: str, token: str) -> dict[str, str]:
    found = keras_environment(job.place(), backend) | {processes.TOKEN: token}
    programs = str(Path(sys.executable).parent)
    found["PATH"] = os.pathsep.join((programs, found.get("PATH", os.defpath)))
    patience = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
    return found | ({patience: os.environ[patience]} if patience in os.environ else {})


def _end(token: str, session: int) -> None:
    deadline = time.monotonic() + END_LIMIT
    while processes.find([token], session=session) and time.monotonic() < deadline:
        time.sleep(0.1)
    processes.end([token], session=session)


def _wait(process: subprocess.Popen[bytes], said: _Output, health: str) -> None:
    if listen.answers(process, health, START_LIMIT):
        return
    if process.poll() is None:
        raise SearchError(f"MLflow's scoring server did not answer at {health} within {START_LIMIT:.0f} s")
    raise SearchError(f"MLflow's scoring server ended at once: {said.last(process.returncode)}")
