"""A proxy in front of an MLflow server that can lose a request or its answer, and tell of it at that instant."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PASSED_ON = ("content-type", "content-encoding", "content-disposition")


def kind_of(command: str, path: str) -> str:
    """A request without what differs from run to run: `POST /api/2.0/mlflow/runs/create`."""
    return f"{command} {re.sub(r'm-[0-9a-f]{32}|[0-9a-f]{32}', 'ID', path.partition('?')[0])}"


@dataclass
class Trap:
    """Springs at the `nth` request whose kind holds `wanted`: `action` is called and the caller never hears an answer.

    With `accepted` the server has done what was asked by then, without it the server never hears of it.
    """

    wanted: str
    nth: int
    accepted: bool
    action: Callable[[], None]
    sprung: threading.Event = field(default_factory=threading.Event)
    caught: str = ""  # the request
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def matches(self, kind: str) -> bool:
        """Whether this request is the one, counting those of its kind."""
        if self.wanted not in kind or kind.startswith("GET "):
            return False
        with self._lock:
            self.nth -= 1
            return self.nth == 0

    def spring(self, kind: str) -> None:
        """Do it."""
        self.caught = kind
        self.action()
        self.sprung.set()


class Proxy:
    """Passes every request on to `upstream`, but for what `loses` says; use it as a context manager.

    `loses(kind, accepted)` is asked before a request is passed on (`accepted` False) and before its answer is (True);
    where it says yes, the connection is closed without a word. It is asked in the request's own thread. While `fails`
    is set every request is answered with 500.
    """

    def __init__(self, upstream: str, loses: Callable[[str, bool], bool]) -> None:
        self.fails = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(upstream, loses, self.fails))
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(upstream: str, loses: Callable[[str, bool], bool], fails: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            kind = kind_of(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.close_connection = True
            if fails.is_set():
                broken = b'{"error_code": "INTERNAL_ERROR", "message": "it is broken"}'
                return self.answer(500, broken, {"Content-Type": "application/json"})
            if loses(kind, False):
                return
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
            request = urllib.request.Request(f"{upstream}{self.path}", body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request) as answer:
                    status, content, said = answer.status, answer.read(), answer.headers
            except urllib.error.HTTPError as error:
                with error:
                    status, content, said = error.code, error.read(), error.headers
            except OSError:  # the server is dead: to the caller it looks like that, too
                return
            if loses(kind, True):
                return
            self.answer(status, content, {k: v for k, v in said.items() if k.lower() in PASSED_ON})

        def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the caller was killed meanwhile
                return

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler
