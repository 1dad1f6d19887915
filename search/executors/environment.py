"""The environment of a process that trains or predicts: its device, its threads, and nobody's secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from search.executors.devices import Slot

SECRET = re.compile("PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|ACCESS_KEY|API_KEY")


def keras_environment(slot: Slot, backend: str) -> dict[str, str]:
    """This process' environment without addresses and credentials, for Keras with `backend` on the slot's device."""
    threads = str(len(slot.cores))
    found = {name: value for name, value in os.environ.items() if not is_secret(name, value)}
    found |= {
        "CUDA_VISIBLE_DEVICES": "" if slot.gpu is None else str(slot.gpu),
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": "1" if len(slot.cores) == 1 else "2",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    if slot.gpu is None:
        found["JAX_PLATFORMS"] = "cpu"
    return found


def importable(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment, in which a child finds this project wherever it is started."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return {**environment, "PYTHONPATH": path}


def is_secret(name: str, value: str) -> bool:
    """Whether a worker has no business with this variable: stores, credentials, addresses with a password."""
    if name.startswith(("MLFLOW_", "PG", "POSTGRES_", "AWS_", "AZURE_")) or name == "SEARCH_STORAGE":
        return True
    return bool(SECRET.search(name.upper())) or "@" in value.partition("://")[2].partition("/")[0]
