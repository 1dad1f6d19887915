"""Two real studies to damage and to delete: one that is done, one that was interrupted."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import environment

FEW = ("filters=8,16", "conv_layers=1", "--keep", "2", "--max-params", "12000", "--trials", "6", "--epochs", "3")
SLOW = ("filters=32", "conv_layers=2", "batch_size=16", "--epochs", "60", "--pruner", "none", "--trials", "3")


@pytest.fixture(scope="session")
def damageable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untouched home, `pristine`, of the studies `done` and `paused`; `support.afresh` copies it.

    What a mender imports is imported here once, before it is forked off.
    """

    import search.reconcile
    import search.remove  # noqa: F401

    folder = tmp_path_factory.mktemp("damageable")
    begin = [sys.executable, "-m", "search", "run", "cnn_digits", "--slots", "2"]
    env = environment(folder / "home")
    ran = subprocess.run(
        [*begin, *FEW, "--study", "done"], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    with (folder / "paused.log").open("wb") as log:
        process = subprocess.Popen([*begin, *SLOW, "--study", "paused"], cwd=folder, env=env, stdout=log, stderr=log)
    events = folder / "home" / "studies" / "paused" / "trial-0000" / "events.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not events.is_file() or events.read_text().count('"epoch"') < 4):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130, (folder / "paused.log").read_text()
    shutil.copytree(folder / "home", folder / "pristine")
    return folder
