"""Recording a table by really training: gone on with after a kill, equal to what the product trains."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import environment

from search.executors import table

ROOT = Path(__file__).parent.parent.parent
DIGITS = Path(__file__).parent / "grids" / "digits.py"


def start(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "bench.record", str(DIGITS), "--out", str(tmp_path / "t.json.xz"), *arguments],
        cwd=tmp_path,
        env=environment(tmp_path / "home", PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def record(tmp_path, *arguments):
    process = start(tmp_path, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.mark.long
def test_a_recording_that_was_killed_goes_on_and_its_table_is_whole(tmp_path):
    killed = start(tmp_path)
    for told in killed.stdout:
        if told.startswith("2:"):
            break
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    time.sleep(3)  # its processes notice
    assert " 0 of " not in record(tmp_path), "what was recorded before the kill is kept"
    made = table.read(tmp_path / "t.json.xz")
    assert len(made.curves) == 12
    assert len(made.everything()) == 14
    assert all(len(curve.cpu) == 3 and curve.epochs == 3 for curve in made.everything() if not curve.failed)
    assert all(curve.start_cpu > 0 and min(curve.cpu) > 0 for curve in made.everything())
    assert len(made.made) == 2
    assert "0 to go" in record(tmp_path)


@pytest.mark.long
def test_a_recorded_curve_is_what_a_study_trains_with_that_seed(tmp_path):
    record(tmp_path, "--limit", "2", "--cores", "0")
    curve = table.read(tmp_path / "t.json.xz").everything()[0]

    from support import trial_spec

    from search.trial.train import Training
    from spaces import find
    from spaces.datasets import describe, load

    space = find(str(DIGITS))
    folder = tmp_path / "home" / "data" / "digits"
    arrays = load("digits", folder, seed=0, train_limit=space.train_images, validation_limit=space.validation_images)
    spec = trial_spec(tmp_path, space=str(DIGITS), config=dict(curve.config), seed=curve.seed, epochs=3)
    training = Training(space, spec, describe("digits", folder), arrays)
    found = [training.epoch()["val_accuracy"] for _ in range(3)]
    assert found == list(curve.metrics["val_accuracy"])
