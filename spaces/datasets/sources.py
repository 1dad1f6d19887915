"""Ways to a dataset's bytes: download a file, read archives and pickles safely."""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from spaces.datasets._spec import ARRAYS, Arrays
from spaces.errors import DatasetCorrupt, DatasetUnavailable

#: Seconds without an answer or a byte after which a server counts as away.
DOWNLOAD_TIMEOUT = 10.0
CHUNK = 1 << 16
#: What reading a file inside a damaged archive can raise. (gzip's BadGzipFile is an OSError.)
DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)


def one_line(text: object) -> str:
    """Any message as one line."""
    return " ".join(str(text).split())


def keras_cache(kind: str = "datasets") -> Path:
    """The folder of `datasets` or of `models` that `keras.utils.get_file` uses."""
    user = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
    return Path(os.environ.get("KERAS_HOME") or user / ".keras").expanduser() / kind


def download(url: str, target: Path, *, sha256: str | None, progress: bool = False) -> None:
    """Fetch `url` into the file `target`.

    Raises DatasetUnavailable if it cannot be fetched whole, DatasetCorrupt if its SHA-256 is another than is said.
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
        error.close()  # it is the response too
        raise DatasetUnavailable(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DatasetUnavailable(one_line(error.reason)) from error
    except TimeoutError as error:
        raise DatasetUnavailable(f"no answer for {DOWNLOAD_TIMEOUT:.0f} s after {done:,} bytes") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DatasetUnavailable(f"broke off after {done:,} bytes: {one_line(error)}") from error
    if total is not None and done < total:
        raise DatasetUnavailable(f"truncated, {done:,} of {total:,} bytes came")
    if sha256 is not None and digest.hexdigest() != sha256:
        raise DatasetCorrupt(f"{done:,} bytes came, with SHA-256 {digest.hexdigest()[:12]}…, expected {sha256[:12]}…")


def members(archive: Path, wanted: Collection[str], *, least: int | None = None) -> Iterator[tuple[str, IO[bytes]]]:
    """The wanted files of a tar archive one by one, by their path in it; nothing is unpacked to disk.

    All of them, or where `least` is said so many, whichever come first. Raises DatasetUnavailable if it cannot be
    read, DatasetCorrupt if it is damaged or lacks one.
    """
    missing = set(wanted)
    enough = len(missing) - (least if least is not None else len(missing))
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                path = member.name.removeprefix("./")
                file = tar.extractfile(member) if path in missing and member.isfile() else None
                if file is not None:
                    missing.discard(path)
                    yield path, file
                if len(missing) <= enough:
                    return
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DatasetCorrupt(f"{archive} is damaged or truncated: {one_line(error)}") from error
    except OSError as error:  # gzip's BadGzipFile is one, without a strerror
        if error.strerror is None:
            raise DatasetCorrupt(f"{archive} is damaged: {one_line(error)}") from error
        raise DatasetUnavailable(f"{archive} cannot be read: {error.strerror}") from error
    raise DatasetCorrupt(f"{archive} lacks {', '.join(sorted(missing))}")


def read_npz(path: Path) -> Arrays:
    """The arrays in an .npz with keys x_train, y_train, x_test, y_test.

    Labels may be any integers, also of shape (n, 1); grey images may lack their last axis. Raises DatasetCorrupt,
    DatasetUnavailable, naming the file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in ARRAYS}
        for name in ("y_train", "y_test"):
            arrays[name] = arrays[name].reshape(-1).astype(np.uint8)
        for name in ("x_train", "x_test"):
            arrays[name] = arrays[name][..., np.newaxis] if arrays[name].ndim == 3 else arrays[name]
        return arrays
    except KeyError as error:
        raise DatasetCorrupt(f"{path} lacks an array: {one_line(error.args[0])}") from error
    except OSError as error:
        raise DatasetUnavailable(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged zip can raise anything
        raise DatasetCorrupt(f"{path} is damaged or truncated: {one_line(error)}") from error


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
