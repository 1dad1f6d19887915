"""What is known of a dataset before any of it is on disk, and what a module must say to be one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8]
Arrays = Mapping[str, Array]
Index = npt.NDArray[np.int64]
Say = Callable[[str], None]

#: The four arrays of every dataset; each is stored as `<name>.npy`.
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class DataSpec:
    """The static facts of a dataset of images.

    `input_shape` is (height, width, channels). `mean` and `std` are per channel, in pixel values 0 to 255,
    over the whole official training part. `digest` is the hexadecimal SHA-256 that identifies the four
    arrays, or, where theirs are not known beforehand, what they are made from. `train_size` and `test_size`
    count the images of the official parts, and `validation_size` those that the default split takes from the
    training part.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    train_size: int
    test_size: int
    validation_size: int

    @property
    def fitting_size(self) -> int:
        """How many images the default split leaves for training."""
        return self.train_size - self.validation_size


def spec_of(values: Mapping[str, Any]) -> DataSpec:
    """The facts that were written as JSON. Raises TypeError for others."""
    found: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return DataSpec(**found)


@dataclass(frozen=True, kw_only=True)
class Given:
    """A file (or the files of a folder) in SEARCH_DATA from which a dataset can be read.

    `files` are those whose size and time of change tell whether it is still the same.
    """

    path: Path
    files: tuple[Path, ...]
    read: Callable[[], Arrays]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A place to fetch a dataset from: `read(folder, progress)` returns its arrays and may litter `folder`.

    It raises DatasetUnavailable where nothing came and DatasetCorrupt where something wrong did; the next
    source is then tried. `disk` is how many bytes it puts into `folder`.
    """

    title: str
    read: Callable[[Path, bool], Arrays]
    disk: int = 0


def _nothing_given(data: Path) -> Given | None:
    return None


def _nothing_wrong(arrays: Arrays) -> str:
    return ""


def _nothing_to_note(spec: DataSpec) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All that a dataset's module says: its facts, its arrays' SHA-256 and where to look for it.

    `subfolders` of SEARCH_DATA may hold the four arrays ready to use; `given(data)` finds other forms there.
    `hint` says how a person gets it all the same, `{data}` standing for the folder.

    `sha256` is None where the arrays' are not known beforehand: those of what was stored are then noted in its
    seal, and `wrong(arrays)` says in words what is wrong with their structure. `make(folder, say, progress)`,
    where there is one, makes the arrays from files of this machine, and nothing is fetched; its arrays may be
    maps of files in `folder`, and its spec may count fewer images than were expected. `learned(spec)` is told
    what was stored. `home` is the name of the folder in the cache, the dataset's own where it is empty.
    """

    spec: DataSpec
    sha256: Mapping[str, str] | None
    sources: Callable[[], Sequence[Source]]
    subfolders: tuple[str, ...]
    given: Callable[[Path], Given | None] = _nothing_given
    hint: str
    wrong: Callable[[Arrays], str] = _nothing_wrong
    make: Callable[[Path, Say, bool], tuple[DataSpec, Arrays]] | None = None
    learned: Callable[[DataSpec], None] = _nothing_to_note
    home: str = ""

    def shape(self, array: str) -> tuple[int, ...]:
        """The shape of one of the four arrays: images (n, height, width, channels), labels (n,)."""
        n = self.spec.train_size if array.endswith("train") else self.spec.test_size
        return (n, *self.spec.input_shape) if array.startswith("x") else (n,)

    @property
    def shelf(self) -> str:
        """The name of its folder in the cache."""
        return self.home or self.spec.name

    @property
    def nbytes(self) -> int:
        """Bytes of the four arrays together."""
        return sum(int(np.prod(self.shape(array))) for array in ARRAYS)


def identify(sha256: Mapping[str, str]) -> str:
    """The digest of a dataset: the SHA-256 over those of its four arrays."""
    return hashlib.sha256("".join(f"{array} {sha256[array]}\n" for array in ARRAYS).encode()).hexdigest()
