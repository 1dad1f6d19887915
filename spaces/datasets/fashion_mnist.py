"""Fashion-MNIST: 70,000 grey images of clothes, 28x28, with MNIST's sizes and file names (Xiao et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spaces.datasets import idx, registries, sources
from spaces.datasets._spec import Arrays, Dataset, DataSpec, Given, Source, identify
from spaces.errors import DatasetUnavailable

# What Keras downloads; it holds the files to no digest, we hold the arrays to theirs.
BASE_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
BYTES = 30_878_645

# The same files, for places from which only package registries can be reached.
DEBIAN = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_BYTES = 30_900_652

SHA256 = {
    "x_train": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    "y_train": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "x_test": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    "y_test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}


def read_deb(path: Path, folder: Path) -> Arrays:
    """The arrays in Debian's package, unpacked below `folder`. Raises DatasetCorrupt, DatasetUnavailable."""
    return idx.read_tar(registries.deb_content(path, folder), str(DEBIAN_FOLDER).lstrip("/"))


def _given(data: Path) -> Given | None:
    """The four files in a subfolder of SEARCH_DATA; MNIST's have the same names, so never in SEARCH_DATA itself."""
    found = (idx.given(data / name) for name in ("fashion_mnist", "fashion-mnist"))
    return next((each for each in found if each is not None), None)


def _installed(folder: Path, progress: bool) -> Arrays:
    return _there(DEBIAN_FOLDER)


def _from_keras(folder: Path, progress: bool) -> Arrays:
    return _there(sources.keras_cache() / "fashion-mnist")


def _there(place: Path) -> Arrays:
    if idx.given(place) is None:
        raise DatasetUnavailable("not there")
    return idx.read_folder(place)


def _from_download(folder: Path, progress: bool) -> Arrays:
    for name in idx.FILES.values():
        sources.download(f"{BASE_URL}/{name}.gz", folder / f"{name}.gz", sha256=None, progress=progress)
    return idx.read_folder(folder)


def _from_debian(folder: Path, progress: bool) -> Arrays:
    return read_deb(registries.apt_download(DEBIAN, folder, size=DEBIAN_BYTES, progress=progress), folder)


def _sources() -> Sequence[Source]:
    return (
        Source(title=f"Debian's {DEBIAN_FOLDER}", read=_installed),
        Source(title=f"Keras' cache {sources.keras_cache() / 'fashion-mnist'}", read=_from_keras),
        Source(title=f"{BASE_URL}/…", read=_from_download, disk=BYTES),
        Source(title=f"Debian package {DEBIAN}", read=_from_debian, disk=2 * DEBIAN_BYTES),
    )


DATASET = Dataset(
    spec=DataSpec(
        name="fashion_mnist",
        input_shape=(28, 28, 1),
        classes=10,
        class_names=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        mean=(72.940352,),
        std=(90.021182,),
        digest=identify(SHA256),
        train_size=60_000,
        test_size=10_000,
        validation_size=6_000,
    ),
    sha256=SHA256,
    sources=_sources,
    subfolders=("fashion_mnist",),
    given=_given,
    hint="put the four files train-images-idx3-ubyte.gz … into {data}/fashion_mnist",
)  # fmt: skip
