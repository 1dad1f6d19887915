"""Opens MLflow's pages on what was recorded."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from search import listen, report, shown
from search.errors import FAILED, INTERRUPTED, OK, InputError, SearchError
from search.goals import final
from search.settings import Settings, masked
from tracking import probe, server

if TYPE_CHECKING:
    import optuna

START_LIMIT = 90.0  # seconds


def serve(settings: Settings, host: str, port: int, study: str | None, browser: bool) -> int:
    """Serve MLflow's UI until Ctrl-C; where the tracking URI is a server already, only say where it is.

    Raises InputError where nothing was recorded or the port is taken.
    """
    opened = report.load(study, settings) if study else None
    if settings.tracking_uri.startswith(("http://", "https://")):
        return _open(_url((settings.pages or settings.tracking_uri).rstrip("/"), opened), browser)
    _check(settings, host, port)
    argv, extra = server.command(settings.tracking_uri, artifact_root=settings.artifacts, host=host, port=port)
    process = subprocess.Popen(argv, env=os.environ | extra, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        base = listen.url(host, port)
        _wait(process, base)
        _open(_url(base, opened), browser)
        print("Ctrl-C ends it", flush=True)
        process.communicate()
        return FAILED if process.returncode else OK
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        process.terminate()
        process.wait(20)


def _check(settings: Settings, host: str, port: int) -> None:
    path = settings.tracking_uri.removeprefix("sqlite:///")
    if settings.tracking_uri.startswith("sqlite:///") and not Path(path).is_file():
        raise InputError(
            f"nothing recorded yet in {masked(settings.tracking_uri)}; start: python -m search run cnn_digits"
        )
    place = probe.problem(settings.tracking_uri)
    if place:
        raise InputError(place)
    listen.check(host, port)


def _wait(process: subprocess.Popen[bytes], base: str) -> None:
    if listen.answers(process, f"{base}/health", START_LIMIT):
        return
    if process.poll() is None:
        raise SearchError(f"MLflow's server did not answer at {base} within {START_LIMIT:.0f} s")
    assert process.stderr is not None
    lines = process.stderr.read().decode(errors="replace").strip().splitlines()
    raise SearchError(f"MLflow's server ended at once: {lines[-1] if lines else f'exit {process.returncode}'}")


def _url(base: str, study: optuna.Study | None) -> str:
    """The study's own page where one is named: its trials, the best in the first objective first."""
    attrs = study.user_attrs if study else {}
    if study is None or "mlflow.run_id" not in attrs:
        return base
    first = shown.goals_of(study).objectives[0]
    return server.study_url(
        base,
        attrs["mlflow.experiment_id"],
        attrs["mlflow.run_id"],
        metric=final(first.name),
        maximize=first.direction == "maximize",
    )


def _open(url: str, browser: bool) -> int:
    print(f"MLflow is at {url}", flush=True)
    if browser and sys.stdout.isatty():
        webbrowser.open(url)
    return OK
