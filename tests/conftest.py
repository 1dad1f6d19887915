"""What several test modules share: a home of their own, the command line as a user runs it, the two backends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

# Everything a user's shell might set and a test must not inherit.
OURS = ("SEARCH_HOME", "SEARCH_DATA", "SEARCH_STORAGE", "SEARCH_SEALED", "MLFLOW_TRACKING_URI", "KERAS_BACKEND")


def environment(home: Path, **extra: str) -> dict[str, str]:
    """A clean environment with its home at `home`."""
    clean = {k: v for k, v in os.environ.items() if k not in OURS}
    return clean | {"SEARCH_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"} | extra


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def cli(home: Path, tmp_path: Path) -> Cli:
    """Runs `python -m search` in an empty folder with a home of its own; returns the finished process."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "search", *arguments],
            cwd=tmp_path,
            env=environment(home, **extra),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
