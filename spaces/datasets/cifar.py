"""What CIFAR-10 and CIFAR-100 have in common: pickles of images, each a row of 1,024 reds, greens and blues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from spaces.datasets import sources
from spaces.datasets._spec import Array, Arrays, Given
from spaces.errors import DatasetCorrupt, DatasetUnavailable


def pickled(file: IO[bytes], origin: str) -> Mapping[str, Any]:
    """The content of one pickled file, by name. Raises DatasetCorrupt, naming `origin`."""
    try:
        content = sources.unpickle(file, origin)
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    except (AttributeError, UnicodeDecodeError) as error:
        raise DatasetCorrupt(f"{origin} is not a batch of CIFAR: {sources.one_line(error)}") from error


def batch(file: IO[bytes], origin: str, *, images: int, labels: str, of: str) -> tuple[Array, Array]:
    """Images (n, 32, 32, 3) and the labels of this name (n,) of one pickled batch of the dataset called `of`."""
    content = pickled(file, origin)
    try:
        rows = np.asarray(content["data"], dtype=np.uint8)
        known = np.asarray(content[labels], dtype=np.uint8)
        return rows.reshape(images, 3, 32, 32).transpose(0, 2, 3, 1), known.reshape(images)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetCorrupt(f"{origin} is not a batch of {of}: {sources.one_line(error)}") from error


def one_file(path: Path, read: Callable[[Path], Arrays]) -> Given:
    """A file in SEARCH_DATA that holds a whole dataset."""
    return Given(path=path, files=(path,), read=partial(read, path))


def from_keras(
    folder: str, archive: str, read_archive: Callable[[Path], Arrays], read: Callable[[Path], Arrays]
) -> Any:
    """A source's `read`: the archive or the unpacked folder of this name in Keras' cache."""

    def found(work: Path, progress: bool) -> Arrays:
        cache = sources.keras_cache()
        # As named by Keras 3, then by Keras 2.
        for path in (cache / f"{folder}-target_archive", cache / archive):
            if path.is_file():
                return read_archive(path)
        for path in (cache / f"{folder}-target" / folder, cache / folder):
            if path.is_dir():
                return read(path)
        raise DatasetUnavailable("not there")

    return found
