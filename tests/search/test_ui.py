"""`ui` serves MLflow on loopback on what was recorded, and says where."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from support import environment


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_ui_opens_at_the_study_and_ends_with_ctrl_c(tmp_path):
    env = environment(tmp_path / "home")
    subprocess.run(
        [sys.executable, "-m", "search", "run", "cnn_digits", "--trials", "1", "--epochs", "1", "--study", "u"],
        cwd=tmp_path,
        env=env,
        check=True,
        capture_output=True,
    )
    port = free_port()
    served = subprocess.Popen(
        [sys.executable, "-m", "search", "ui", "--no-browser", "--port", str(port), "--study", "u"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = served.stdout.readline()
    assert f"http://127.0.0.1:{port}/" in line
    body = json.dumps({"experiment_ids": ["1"], "max_results": 10}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
    )
    runs = json.load(urllib.request.urlopen(request, timeout=20))["runs"]
    assert len(runs) == 2
    served.send_signal(signal.SIGINT)
    served.communicate(timeout=30)
    assert served.returncode == 130
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.2)
    pytest.fail("the server is still there")


def test_ui_says_that_nothing_is_recorded_or_that_the_port_is_taken(cli, home):
    nothing = cli("ui", "--no-browser")
    assert nothing.returncode == 2
    assert "nothing recorded yet" in nothing.stderr
    home.mkdir()
    (home / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = cli("ui", "--no-browser", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot listen on" in done.stderr
