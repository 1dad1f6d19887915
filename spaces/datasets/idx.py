"""The file format of MNIST and its kin, and four such files as a dataset's arrays."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from spaces.datasets import sources
from spaces.datasets._spec import Array, Arrays, Given
from spaces.errors import DatasetCorrupt, DatasetUnavailable

#: The four files by the array each holds; any may be compressed, with .gz at its end.
FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_UBYTE = 0x08


def read(file: IO[bytes], origin: str) -> Array:
    """The array in one file: images (n, height, width, 1) or labels (n,), uint8.

    Two zero bytes, the type (8, unsigned bytes), how many dimensions, each as four bytes, then the values.
    Raises DatasetCorrupt naming `origin`.
    """
    try:
        content = file.read()
    except sources.DAMAGE as error:
        raise DatasetCorrupt(f"{origin} is damaged or truncated: {sources.one_line(error)}") from error
    if len(content) < 4 or content[:3] != bytes([0, 0, _UBYTE]):
        raise DatasetCorrupt(f"{origin} is no file of unsigned bytes in the idx format")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise DatasetCorrupt(f"{origin} has {len(content):,} bytes, its head says {start + math.prod(shape):,}")
    values = np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    return values[..., np.newaxis] if dimensions == 3 else values


def read_folder(folder: Path) -> Arrays:
    """The arrays of a folder with the four files. Raises DatasetCorrupt, DatasetUnavailable, naming the file."""
    return {array: _read_path(_path(folder, name)) for array, name in FILES.items()}


def read_tar(archive: Path, below: str) -> Arrays:
    """The arrays of a tar archive that has the four files in the folder `below`. Raises as `read_folder` does."""
    names = {f"{below}/{name}{end}": array for array, name in FILES.items() for end in ("", ".gz")}
    found: dict[str, Array] = {}
    for path, file in sources.members(archive, names, least=len(FILES)):
        with _unpacked(file, path) as plain:
            found[names[path]] = read(plain, f"{archive} ({path})")
    if len(found) < len(FILES):
        raise DatasetCorrupt(f"{archive} lacks {', '.join(FILES[a] for a in FILES if a not in found)}")
    return found


def given(folder: Path) -> Given | None:
    """The four files in a folder of SEARCH_DATA; None where not one of them is there."""
    files = [_path(folder, name) for name in FILES.values()]
    if not any(path.is_file() for path in files):
        return None
    return Given(path=folder, files=tuple(files), read=lambda: read_folder(folder))


def _path(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _read_path(path: Path) -> Array:
    try:
        with path.open("rb") as file, _unpacked(file, path.name) as plain:
            return read(plain, str(path))
    except FileNotFoundError as error:
        raise DatasetCorrupt(f"{path.parent} lacks {path.name.removesuffix('.gz')}") from error
    except OSError as error:
        raise DatasetUnavailable(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def _unpacked(file: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    if not name.endswith(".gz"):
        yield file
        return
    with gzip.GzipFile(fileobj=file) as plain:
        yield plain  # type: ignore[misc]
