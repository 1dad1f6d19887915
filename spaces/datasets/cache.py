"""The arrays on disk: written aside and renamed into place, checked, sealed against later change, locked.

A folder holds `x_train.npy`, `y_train.npy`, `x_test.npy`, `y_test.npy`. Its seal (`meta.json`) notes size and
time of change of each once their SHA-256 was found right, so that later starts need not read them all again. Where
nobody knows their SHA-256 beforehand, the seal notes those of what was stored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from spaces.datasets._spec import ARRAYS, Array, Arrays, Dataset, spec_of
from spaces.errors import DatasetCorrupt, DatasetUnavailable

#: What tells whether a file changed: [bytes, nanoseconds since 1970 at its last change].
Stamp = list[int]

SEAL = "meta.json"


@dataclass(frozen=True, kw_only=True)
class Seal:
    """What is noted of arrays that were found right: where they came from, and the stamps of their files.

    `arrays` has a stamp for each array, `given` one for the path of each file in SEARCH_DATA they came from. `sha256`
    and `spec` are only of arrays whose SHA-256 was not known beforehand: theirs, and the dataset's facts where those
    depend on what was found.
    """

    dataset: str
    digest: str
    source: str
    given: dict[str, Stamp]
    arrays: dict[str, Stamp]
    time: str
    sha256: dict[str, str] | None = None
    spec: dict[str, Any] | None = None


def stamps(files: Iterable[Path]) -> dict[str, Stamp]:
    """The stamps of files by path. Raises OSError where one is not there."""
    found = {str(file): file.stat() for file in files}
    return {path: [stat.st_size, stat.st_mtime_ns] for path, stat in found.items()}


def paths(folder: Path) -> dict[str, Path]:
    """Where a folder keeps each of the four arrays."""
    return {array: folder / f"{array}.npy" for array in ARRAYS}


def check_arrays(dataset: Dataset, arrays: Arrays, origin: str) -> None:
    """Raise DatasetCorrupt, naming `origin` and the array, unless `arrays` are exactly the dataset's."""
    for name in ARRAYS:
        array = arrays[name]
        if array.dtype != np.uint8 or array.shape != dataset.shape(name):
            raise DatasetCorrupt(_wrong_kind(dataset, name, origin, array.dtype, array.shape))
        if dataset.sha256 is not None and (digest := _digest(array)) != dataset.sha256[name]:
            raise DatasetCorrupt(_wrong_digest(dataset, name, origin, digest, dataset.sha256))
    if dataset.sha256 is None and (wrong := _wrong_labels(dataset, arrays) or dataset.wrong(arrays)):
        raise DatasetCorrupt(f"{origin}: {wrong}")


def digests(arrays: Arrays) -> dict[str, str]:
    """The SHA-256 of each of the four arrays."""
    return {name: _digest(arrays[name]) for name in ARRAYS}


def _digest(array: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data.cast("B")).hexdigest()


def _wrong_labels(dataset: Dataset, arrays: Arrays) -> str:
    for name in ("y_train", "y_test"):
        counts = np.bincount(arrays[name], minlength=dataset.spec.classes)
        if len(counts) > dataset.spec.classes:
            return f"{name} has the label {len(counts) - 1}, but {dataset.spec.name} has {dataset.spec.classes} classes"
        if not counts.all():
            return f"{name} has no image of class {dataset.spec.class_names[int(np.argmin(counts))]}"
    return ""


def known_sha256(dataset: Dataset, folder: Path) -> Mapping[str, str]:
    """The SHA-256 of the arrays in a folder: the dataset's, or those that its seal notes. Raises DatasetCorrupt."""
    if dataset.sha256 is not None:
        return dataset.sha256
    seal = read_seal(folder / SEAL)
    if seal is None or seal.digest != dataset.spec.digest or set(seal.sha256 or ()) != set(ARRAYS):
        raise DatasetCorrupt(f"{folder}: its seal is gone or another's, so that nothing says whether it is intact")
    assert seal.sha256 is not None
    return seal.sha256


def check_file(dataset: Dataset, folder: Path, name: str) -> None:
    """Read one array's file to the end and compare its SHA-256.

    Raises DatasetCorrupt, naming the array, or DatasetUnavailable where the file is not there.
    """
    digest = _measured(dataset, folder, name)
    if digest != (known := known_sha256(dataset, folder))[name]:
        raise DatasetCorrupt(_wrong_digest(dataset, name, str(folder / f"{name}.npy"), digest, known))


def _measured(dataset: Dataset, folder: Path, name: str) -> str:
    """The SHA-256 of an array's content, its file read to the end and found whole.

    Raises DatasetCorrupt, naming the array, or DatasetUnavailable where the file is not there.
    """
    path = folder / f"{name}.npy"
    try:
        with path.open("rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = header(file)
            except Exception as error:  # a damaged header can be anything, and NumPy evaluates it
                raise DatasetCorrupt(f"{path}: {name} has no readable .npy header") from error
            if dtype != np.uint8 or shape != dataset.shape(name) or fortran:
                raise DatasetCorrupt(_wrong_kind(dataset, name, str(path), dtype, shape))
            expected = int(np.prod(shape)) + file.tell()
            actual = os.fstat(file.fileno()).st_size
            if actual < expected:
                raise DatasetCorrupt(f"{path}: {name} is truncated, {actual:,} of {expected:,} bytes")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DatasetUnavailable(f"{path} is missing") from error
    except OSError as error:
        raise DatasetUnavailable(f"{path} cannot be read: {error.strerror}") from error


def check_folder(dataset: Dataset, folder: Path, seal: Path) -> Seal:
    """Make sure of the arrays in `folder`: by the seal if nothing changed since, else by reading them.

    Writes the seal anew after reading, if it can. Raises as `check_file` does.
    """
    known = read_seal(seal)
    try:
        now = _array_stamps(folder)
    except OSError as error:
        raise DatasetUnavailable(f"{error.filename}: {error.strerror}") from error
    whole = dataset.sha256 is not None or (known is not None and known.sha256 is not None)
    if known is not None and known.digest == dataset.spec.digest and known.arrays == now and whole:
        return known
    if known is not None and known.spec is not None and known.digest == dataset.spec.digest:
        dataset = replace(dataset, spec=spec_of(known.spec))  # which may count fewer images than there are files
    for name in ARRAYS:
        check_file(dataset, folder, name)
    fresh = make_seal(dataset, folder, source=known.source if known else str(folder))
    if known is not None:
        fresh = replace(fresh, sha256=known.sha256, spec=known.spec)
    with suppress(OSError):  # without a seal the next start reads the arrays once more, that is all
        write_seal(fresh, seal)
    return fresh


def make_seal(dataset: Dataset, folder: Path, *, source: str, given: Iterable[Path] = ()) -> Seal:
    """A seal of arrays that were just found right, or stored."""
    return Seal(
        dataset=dataset.spec.name,
        digest=dataset.spec.digest,
        source=source,
        given=stamps(given),
        arrays=_array_stamps(folder),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def read_seal(path: Path) -> Seal | None:
    """The seal in a file, or None where there is none that can be read."""
    try:
        seal = Seal(**json.loads(path.read_text(encoding="utf-8")))
        if seal.spec is not None:
            spec_of(seal.spec)
        return seal
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_seal(seal: Seal, path: Path) -> None:
    """Write a seal, at once or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            json.dump({name: value for name, value in asdict(seal).items() if value is not None}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def store(dataset: Dataset, arrays: Arrays, home: Path, work: Path, *, source: str, given: Iterable[Path]) -> None:
    """Write checked arrays and their seal below `work`, then rename them to `home`. Raises OSError.

    An array that is the map of a file below `work` is that file, moved. A folder that stands at `home` is moved below
    `work`: processes that have mapped its files keep them.
    """
    fresh = work / "arrays"
    fresh.mkdir()
    for name, path in paths(fresh).items():
        array = arrays[name]
        made = Path(str(array.filename)) if isinstance(array, np.memmap) and array.filename else None
        if made is not None and made.is_relative_to(work):
            made.rename(path)
        else:
            with path.open("wb") as file:
                np.save(file, np.ascontiguousarray(array))
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    seal = make_seal(dataset, fresh, source=source, given=given)
    if dataset.sha256 is None:
        measured = {name: _measured(dataset, fresh, name) for name in ARRAYS}
        seal = replace(seal, sha256=measured, spec=asdict(dataset.spec) if dataset.make else None)
    write_seal(seal, fresh / SEAL)
    sync_folder(fresh)
    if home.exists():
        home.rename(work / "replaced")
    fresh.rename(home)
    sync_folder(home.parent)


@contextmanager
def locked(cache: Path, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of one dataset in the cache; call `waiting` once if another process has it.

    The lock ends with the process that holds it, however it ends; its empty file stays. Raises OSError.
    """
    with (cache / f".{name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def workshop(cache: Path, name: str) -> Iterator[Path]:
    """A temporary folder in the cache, gone afterwards whatever happens. Only under the lock. Raises OSError.

    Under the lock any other such folder belongs to a process that was killed, and goes too.
    """
    for left_over in cache.glob(f".{name}.*.tmp"):
        shutil.rmtree(left_over, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".tmp", dir=cache))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _wrong_kind(dataset: Dataset, name: str, origin: str, dtype: object, shape: tuple[int, ...]) -> str:
    expected = f"{dataset.spec.name} has uint8 of {dataset.shape(name)}"
    return f"{origin}: {name} is {dtype} of shape {shape}, but {expected}"


def _wrong_digest(dataset: Dataset, name: str, origin: str, digest: str, known: Mapping[str, str]) -> str:
    return (
        f"{origin}: {name} is not that of {dataset.spec.name}: "
        f"its SHA-256 is {digest[:12]}…, expected {known[name][:12]}…"
    )


def _array_stamps(folder: Path) -> dict[str, Stamp]:
    return dict(zip(ARRAYS, stamps(paths(folder).values()).values(), strict=True))


def sync_folder(folder: Path) -> None:
    """Make what was created or renamed in `folder` outlast a crash. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
