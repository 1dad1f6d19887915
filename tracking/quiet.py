"""Settles, before MLflow is imported, how it behaves here: no telemetry, no chatter, no retries of its own."""

from __future__ import annotations

import logging
import os
import sys

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # alembic's migrations and "creating tables" are INFO
    # The outbox retries, in order and without end; MLflow's own seven retries would hold its thread for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds; as long as the end of a program may wait for a dead server
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",  # MLflow imports GitPython, which complains where there is no git
}


def prepare() -> None:
    """Set what the user's environment leaves open. Call it before importing MLflow; calling it again does nothing."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "mlflow" in sys.modules:  # imported by somebody else already: it reads its level only then
        logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])
    # A locked database is retried by the outbox; MLflow would print a traceback each time.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # One line per refused connection, while the outbox says once that the server is away.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
