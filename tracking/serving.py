"""How to start MLflow's scoring server on a model folder, and what to ask of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tracking.probe import masked

HEALTH = "/ping"
INVOCATIONS = "/invocations"
EXAMPLE = "serving_input_example.json"


def command(folder: Path, *, host: str, port: int) -> list[str]:
    """Arguments of `mlflow models serve` on a model folder on this machine, in this environment.

    MLflow starts `uvicorn` by that name, so the folder of this Python's programs has to be in the PATH.
    """
    return [sys.executable, "-m", "mlflow", *_serve(str(folder), host, port)]


def stock_command(uri: str, reference: str, backend: str, *, host: str, port: int) -> str:
    """What a person types to have the same from MLflow alone, which does not check the model's files."""
    words = ["mlflow", *_serve(reference, host, port)]
    return f"MLFLOW_TRACKING_URI={shlex.quote(masked(uri))} KERAS_BACKEND={backend} {shlex.join(words)}"


def example(folder: Path, base: str) -> str | None:
    """A request with the images that were packaged with the model; None where there are none."""
    body = folder / EXAMPLE
    if not body.is_file():
        return None
    words = ["curl", "-s", f"{base}{INVOCATIONS}", "-H", "Content-Type: application/json", "-d", f"@{body}"]
    return shlex.join(words)


def _serve(model: str, host: str, port: int) -> list[str]:
    return ["models", "serve", "-m", model, "--env-manager", "local", "--host", host, "--port", str(port)]
