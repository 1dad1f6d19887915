"""`search serve` as a test starts it: asked over HTTP, and watched until no process of it is left."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import numpy as np
import psutil


def free_port():
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def asked(port, body):
    """The predictions that a server on this port answers to a body."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return np.array(json.load(answer)["predictions"], np.float32)


def ours(port):
    """The living processes that have this port among their arguments."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(port) in (process.info["cmdline"] or []):
            found.append(process)
    return found


def gone(port):
    """Whether all processes of a server on this port have ended, within half a minute."""
    deadline = time.monotonic() + 30
    while ours(port) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not ours(port)


@contextmanager
def serving(model, port, env):
    """`search serve`, once it says how to end it; what it said until then is its `told`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "serve", model, "--port", str(port)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.told = []
        for line in process.stdout:
            process.told.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                break
        assert process.poll() is None, process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()
        assert gone(port), "and a server that lost this program ends too"
