"""Opens prepared arrays: training and validation data for anybody, the test split only on the record."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from spaces.datasets import splits
from spaces.datasets._catalogue import as_prepared
from spaces.datasets._spec import Array, Dataset, Index
from spaces.datasets.cache import check_file, sync_folder
from spaces.errors import DatasetCorrupt, DatasetError, DatasetUnavailable, TestSplitSealed

#: Set to "1" in the processes of a search: there the test split does not open.
SEALED = "SEARCH_SEALED"


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The official training part of a dataset, split for training and validation.

    `x` (n, height, width, channels) and `y` (n,) are uint8, memory-mapped and read-only. `train` and
    `validation` are ascending indices into them. `digest` is the hexadecimal SHA-256 over the dataset's own
    and both indices: equal digests mean the same images in the same roles.
    """

    x: Array
    y: Array
    train: Index
    validation: Index
    digest: str

    def train_arrays(self) -> tuple[Array, Array]:
        """Images and labels to train on, copied into memory."""
        return self._gather(self.train)

    def validation_arrays(self) -> tuple[Array, Array]:
        """Images and labels to validate on, copied into memory."""
        return self._gather(self.validation)

    def _gather(self, index: Index) -> tuple[Array, Array]:
        return np.take(np.asarray(self.x), index, axis=0), np.take(np.asarray(self.y), index)


def load(
    name: str,
    folder: Path,
    *,
    seed: int,
    train_limit: int | None = None,
    validation_limit: int | None = None,
) -> TrainingData:
    """Open a prepared dataset for training; the files of its test part are not touched.

    The split is stratified and depends on nothing but `seed`; each limit keeps a stratified subset of its
    part (see `splits.split`). Raises UnknownDataset, DatasetUnavailable, DatasetCorrupt, and DatasetError
    for a limit that cannot be met.
    """
    dataset = as_prepared(name, folder)
    x, y = _mapped(dataset, folder, "x_train"), _mapped(dataset, folder, "y_train")
    train, validation = splits.split(
        np.asarray(y),
        classes=dataset.spec.classes,
        validation_size=dataset.spec.validation_size,
        seed=seed,
        train_limit=train_limit,
        validation_limit=validation_limit,
        least=1,
    )
    digest = hashlib.sha256(dataset.spec.digest.encode())
    for index in (train, validation):
        digest.update(f" {len(index)} ".encode() + index.astype("<i8").tobytes())
    return TrainingData(x=x, y=y, train=train, validation=validation, digest=digest.hexdigest())


def merged(arrays: TrainingData) -> TrainingData:
    """The same images, all of them to train on and none to validate on."""
    together = np.sort(np.concatenate([arrays.train, arrays.validation]))
    digest = hashlib.sha256(f"merged {arrays.digest}".encode()).hexdigest()
    return replace(arrays, train=together, validation=arrays.validation[:0], digest=digest)


def open_test(name: str, folder: Path, *, purpose: str, log: Path) -> tuple[Array, Array]:
    """Open the test part, images and labels, memory-mapped, after writing down that and why it was opened.

    One JSON line (time, purpose, pid, dataset, digest) is appended to `log` and synced first; then both
    arrays are compared with their SHA-256. Raises TestSplitSealed inside a search (SEARCH_SEALED=1),
    DatasetError if the log cannot be written, and otherwise as `load` does.
    """
    dataset = as_prepared(name, folder)
    if os.environ.get(SEALED) == "1":
        raise TestSplitSealed(f"the test split of {name} is sealed during a search ({SEALED}=1); promotion opens it")
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "purpose": purpose,
        "pid": os.getpid(),
        "dataset": name,
        "digest": dataset.spec.digest,
    }
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(log.parent)
    except OSError as error:
        raise DatasetError(f"the test split stays closed: cannot write to its log {log}: {error.strerror}") from error
    for array in ("x_test", "y_test"):
        check_file(dataset, folder, array)
    return _mapped(dataset, folder, "x_test"), _mapped(dataset, folder, "y_test")


def _mapped(dataset: Dataset, folder: Path, array: str) -> Array:
    path = folder / f"{array}.npy"
    try:
        mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DatasetUnavailable(f"{path} is missing; prepare {dataset.spec.name} first") from error
    except Exception as error:  # a damaged header can be anything, and NumPy evaluates it
        raise DatasetCorrupt(f"{path} is damaged or truncated: {' '.join(str(error).split())}") from error
    if mapped.dtype != np.uint8 or mapped.shape != dataset.shape(array):
        raise DatasetCorrupt(f"{path} is {mapped.dtype} of shape {mapped.shape}, not uint8 of {dataset.shape(array)}")
    return mapped
