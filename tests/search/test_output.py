"""An output that is gone, full or narrow ends no command, and a closed terminal stops a study in good order."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest
from support import environment

SPACES = (sys.executable, "-m", "search", "spaces")
PRINTS = """
import sys
from search import output
output.forgive()
for _ in range(3):
    print("Gr\\u00f6\\u00dfe \\udc80", flush=True)
print("Gr\\u00f6\\u00dfe", file=sys.stderr, flush=True)
sys.exit(7)
"""


def run(folder, *arguments, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    env = environment(folder / "home") | options.pop("env", {})
    return subprocess.run(arguments, cwd=folder, env=env, timeout=60, check=False, **options)


@pytest.fixture
def no_reader():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_a_reader_that_has_gone_changes_no_exit_code(tmp_path, no_reader):
    ran = run(tmp_path, *SPACES, stdout=no_reader)
    assert (ran.returncode, ran.stderr) == (0, b"")
    refused = run(tmp_path, sys.executable, "-m", "search", "run", "nothing", stderr=no_reader)
    assert (refused.returncode, refused.stdout) == (2, b"")


def test_a_closed_terminal_changes_no_exit_code(tmp_path):
    ours, terminal = pty.openpty()
    os.close(ours)
    try:
        ran = run(tmp_path, sys.executable, "-c", PRINTS, stdout=terminal, stderr=terminal)
    finally:
        os.close(terminal)
    assert ran.returncode == 7


def test_characters_that_an_output_lacks_are_replaced(tmp_path):
    ran = run(tmp_path, sys.executable, "-c", PRINTS, env={"PYTHONIOENCODING": "ascii"})
    assert ran.returncode == 7
    assert ran.stdout.splitlines() == [b"Gr\\xf6\\xdfe \\udc80"] * 3
    assert ran.stderr == b"Gr\\xf6\\xdfe\n"


def test_a_full_disk_under_the_output_is_told_and_under_the_progress_is_not(tmp_path):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        told = run(tmp_path, *SPACES, stdout=full)
        refused = run(tmp_path, sys.executable, "-m", "search", "run", "nothing", stderr=full)
    assert told.returncode == 1
    assert told.stderr.startswith(b"error: No space left on device")
    assert len(told.stderr.splitlines()) == 1
    assert refused.returncode == 2


WAITS = """
import signal, sys, time
from search.interrupt import heeded
with heeded() as interrupt:
    print("ready", flush=True)
    until = time.monotonic() + 20
    while not interrupt.count and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)
    print(interrupt.count, flush=True)
    sys.exit(interrupt.exit_code)
"""


def test_a_hang_up_stops_like_sigterm_however_often_it_comes(tmp_path):
    started = subprocess.Popen([sys.executable, "-c", WAITS], env=environment(tmp_path), stdout=subprocess.PIPE)
    assert started.stdout.readline() == b"ready\n"
    for _ in range(3):
        started.send_signal(signal.SIGHUP)
    assert started.communicate(timeout=60)[0] == b"1\n"
    assert started.returncode == 129


def test_nohup_is_heeded():
    code = (
        "import signal; from search.interrupt import heeded\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with heeded() as i:\n    signal.raise_signal(signal.SIGHUP)\n    print(i.count)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == "0\n", ran.stderr


STUDY = ("run", "cnn_digits", "filters=8,16", "conv_layers=1", "--epochs", "3", "--trials", "4", "--study", "s")


def start(folder, **options):
    command = [sys.executable, "-m", "search", *STUDY]
    return subprocess.Popen(command, cwd=folder, env=environment(folder / "home"), **options)


def wait_for_an_epoch(folder):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any('"epoch"' in p.read_text() for p in folder.glob("home/studies/s/trial-*/events.jsonl")):
            return
        time.sleep(0.05)
    raise AssertionError("no trial recorded an epoch")


def ended(folder):
    """(status of the study's run in MLflow, its pictures, the states of its trials)."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/home/mlflow.db")
    experiment = client.get_experiment_by_name("cnn_digits").experiment_id
    (run,) = client.search_runs([experiment], "tags.`search.kind` = 'study'")
    shown = run_json(folder, "show", "s", "--json")
    pictures = client.list_artifacts(run.info.run_id, "figures")
    return run.info.status, bool(pictures), {t["state"] for t in shown}


def run_json(folder, *arguments):
    return json.loads(run(folder, sys.executable, "-m", "search", *arguments).stdout)


@pytest.mark.long
def test_a_study_whose_reader_goes_away_ends_as_if_it_had_not(tmp_path):
    running = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for _ in range(3):
        running.stdout.readline()
    running.stdout.close()
    assert running.wait(300) == 0
    status, pictures, states = ended(tmp_path)
    assert (status, pictures) == ("FINISHED", True)
    assert states <= {"COMPLETE", "PRUNED"}


@pytest.mark.long
@pytest.mark.parametrize("ignored", [True, False], ids=["nohup", "hang-up"])
def test_a_study_whose_terminal_is_closed_ends_in_good_order(tmp_path, ignored):
    ours, terminal = pty.openpty()

    def take_the_terminal():
        os.setsid()
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    running = start(tmp_path, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=take_the_terminal)
    os.close(terminal)
    drain = threading.Thread(target=drained, args=(os.dup(ours),), daemon=True)
    drain.start()
    wait_for_an_epoch(tmp_path)
    CLOSE.set()
    drain.join()
    CLOSE.clear()
    os.close(ours)
    assert running.wait(300) == (0 if ignored else 129)
    status, pictures, _ = ended(tmp_path)
    assert (status, pictures) == (("FINISHED", True) if ignored else ("KILLED", False))
    if not ignored:
        assert run(tmp_path, sys.executable, "-m", "search", "resume", "s").returncode == 0
        assert ended(tmp_path)[:2] == ("FINISHED", True)


CLOSE = threading.Event()


def drained(terminal):
    """Read what is written to a terminal, so that nobody waits for room, until it is closed."""
    with open(terminal, "rb", buffering=0) as file:  # noqa: PTH123
        while not CLOSE.is_set():
            if select.select([file], [], [], 0.1)[0]:
                file.read(65536)
