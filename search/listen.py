"""Tells before a server is started whether it can have its address, and how people reach it."""

from __future__ import annotations

import socket

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
