"""How to start MLflow's server on what was recorded, and where in its pages a study is."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote, urlencode


def command(
    uri: str, *, artifact_root: Path, host: str = "127.0.0.1", port: int = 5000
) -> tuple[list[str], dict[str, str]]:
    """Arguments and extra environment of `mlflow server` on the database `uri`, with its files in `artifact_root`.

    One worker, since more of them add 44 ms to every request; no job runner, which would be ten processes and 2 GB.
    """
    arguments = [
        sys.executable, "-m", "mlflow", "server",
        "--host", host,
        "--port", str(port),
        "--workers", "1",
        "--artifacts-destination", str(artifact_root.absolute()),
    ]  # fmt: skip
    environment = {
        # Not an argument: it may hold a password, and everybody can read the arguments of a process.
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    return arguments, environment


def study_url(base: str, experiment_id: str, run_id: str, *, metric: str | None = None, maximize: bool = True) -> str:
    """The page of a study in MLflow's UI at `base`: its trials as a run table, the best by `metric` first if given."""
    order = f"metrics.`{metric}`" if metric else "tags.`search.trial.number`"
    state = {
        "workflowType": "machine_learning",  # the UI opens with its GenAI menu otherwise
        "searchFilter": f"tags.`mlflow.parentRunId` = '{run_id}'",
        # Sorted by date, its default, the UI would hide the trials in their folded parent.
        "orderByKey": order,
        "orderByAsc": "false" if metric and maximize else "true",
    }
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(state, quote_via=quote)}"
