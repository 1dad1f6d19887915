"""CIFAR-100: 60,000 colour images of 32x32 in a hundred classes, the fine labels (Krizhevsky, 2009).

It can be had from its archive alone, so that its arrays' SHA-256 are noted when they are stored, not known beforehand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from spaces.datasets import cifar, sources
from spaces.datasets._spec import Array, Arrays, Dataset, DataSpec, Given, Source
from spaces.errors import DatasetCorrupt, DatasetUnavailable

# The archive that Keras downloads, and the digest it holds it to.
ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
ARCHIVE_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
ARCHIVE_BYTES = 169_001_437
VERSION = "fine labels 1"  # of how the archive becomes arrays

IMAGES = {"train": 50_000, "test": 10_000}
FOLDER = "cifar-100-python"
ARCHIVES = (f"{FOLDER}.tar.gz",)
NPZ = "cifar100.npz"
META = "meta"

_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""
NAMES = tuple(_NAMES.split())


def _given(data: Path) -> Given | None:
    """The first form of CIFAR-100 in SEARCH_DATA or its subfolder `cifar100`."""
    for place in (data / "cifar100", data):
        if (place / ARCHIVES[0]).is_file():
            return cifar.one_file(place / ARCHIVES[0], read_archive)
        if (place / FOLDER).is_dir():
            files = tuple(place / FOLDER / name for name in (*IMAGES, META))
            return Given(path=place / FOLDER, files=files, read=partial(read_folder, place / FOLDER))
        if (place / NPZ).is_file():
            return cifar.one_file(place / NPZ, sources.read_npz)
    return None


def _sources() -> Sequence[Source]:
    from_keras = cifar.from_keras(FOLDER, ARCHIVES[0], read_archive, read_folder)
    return (
        Source(title=f"Keras' cache {sources.keras_cache()}", read=from_keras),
        Source(title=ARCHIVE_URL, read=_from_download, disk=ARCHIVE_BYTES),
    )


def _from_download(folder: Path, progress: bool) -> Arrays:
    archive = folder / ARCHIVES[0]
    sources.download(ARCHIVE_URL, archive, sha256=ARCHIVE_SHA256, progress=progress)
    return read_archive(archive)


def read_archive(path: Path) -> Arrays:
    """The arrays in `cifar-100-python.tar.gz`. Raises DatasetCorrupt, DatasetUnavailable, naming the file."""
    arrays: dict[str, Array] = {}
    for name, file in sources.members(path, [f"{FOLDER}/{part}" for part in (*IMAGES, META)]):
        _take(arrays, Path(name).name, file, f"{path} ({name})")
    return arrays


def read_folder(folder: Path) -> Arrays:
    """The arrays in an unpacked `cifar-100-python`. Raises as `read_archive` does."""
    arrays: dict[str, Array] = {}
    for name in (*IMAGES, META):
        try:
            with (folder / name).open("rb") as file:
                _take(arrays, name, file, str(folder / name))
        except FileNotFoundError as error:
            raise DatasetCorrupt(f"{folder} lacks {name}") from error
        except OSError as error:
            raise DatasetUnavailable(f"{folder / name} cannot be read: {error.strerror}") from error
    return arrays


def _take(arrays: dict[str, Array], name: str, file: IO[bytes], origin: str) -> None:
    if name != META:
        read = cifar.batch(file, origin, images=IMAGES[name], labels="fine_labels", of="CIFAR-100")
        arrays[f"x_{name}"], arrays[f"y_{name}"] = read
        return
    said = cifar.pickled(file, origin).get("fine_label_names")
    names = tuple(n.decode(errors="replace") if isinstance(n, bytes) else n for n in said or ())
    if names != NAMES:
        raise DatasetCorrupt(f"{origin} names other classes than CIFAR-100's hundred in alphabetical order")


def _wrong(arrays: Arrays) -> str:
    for part, count in IMAGES.items():
        each = np.bincount(arrays[f"y_{part}"], minlength=len(NAMES))
        if (each != count // len(NAMES)).any():
            odd = int(np.argmax(each != count // len(NAMES)))
            right = count // len(NAMES)
            return f"y_{part} has {each[odd]} images of {NAMES[odd]}, but CIFAR-100 has {right} of each class"
    return ""


DATASET = Dataset(
    spec=DataSpec(
        name="cifar100",
        input_shape=(32, 32, 3),
        classes=len(NAMES),
        class_names=NAMES,
        mean=(129.304, 124.070, 112.434),
        std=(68.170, 65.392, 70.418),
        digest=hashlib.sha256(f"{VERSION} {ARCHIVE_SHA256}".encode()).hexdigest(),
        train_size=IMAGES["train"],
        test_size=IMAGES["test"],
        validation_size=5_000,
    ),
    sha256=None,
    sources=_sources,
    subfolders=(),
    given=_given,
    hint="put cifar-100-python.tar.gz into {data}",
    wrong=_wrong,
)
