"""A server's address: whether it can be had, how people reach it, and when the server answers there."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request

from search.errors import InputError


def check(host: str, port: int) -> None:
    """Raises InputError where `host` is no address of this machine or `port` is taken."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
    except OSError as error:
        raise InputError(f"--host {host}: not an address of this machine ({error.strerror})") from None
    with socket.socket(family) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, port))
        except OSError as error:
            raise InputError(
                f"--port {port}: cannot listen on {host}:{port} ({error.strerror}); choose another --port"
            ) from None


def url(host: str, port: int) -> str:
    """Where a browser on this machine finds what listens there."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def answers(process: subprocess.Popen[bytes], health: str, limit: float) -> bool:
    """Wait until the server answers at `health`; False where it ended, or did not answer within `limit` seconds."""
    deadline = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=2):
                return True
        except OSError:
            time.sleep(0.2)
    return False
