"""Makes sure that a dataset's arrays stand in a folder: as they are given, from the cache, or fetched."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from spaces.datasets import cache as shelf
from spaces.datasets._catalogue import as_prepared, find
from spaces.datasets._spec import ARRAYS, Arrays, Dataset, DataSpec, Given, Say, spec_of
from spaces.errors import DatasetCorrupt, DatasetError, DatasetUnavailable


def prepare(
    name: str,
    *,
    cache: Path,
    data: Path | None = None,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Make sure of a dataset and return the folder with its x_train, y_train, x_test, y_test as .npy (uint8).

    It is looked for in `data` (SEARCH_DATA; arrays ready to use are used in place, other forms are read into
    the cache), in `cache`, and then at the dataset's sources, one after the other. Every array was compared
    with its SHA-256 when it was stored (which is noted then, where nobody knows it), and is again when its
    file's size or time of change is another. Processes that prepare the same dataset wait for one another.
    `progress` draws bars on stderr; `say` is told, line by line, what takes time.

    Raises UnknownDataset; DatasetCorrupt for a file in `data` that is damaged, incomplete or another
    dataset's, and if something wrong came and nothing better; DatasetUnavailable if nothing did.
    """
    dataset = find(name, data)
    tell = say or _silence
    cache = cache.absolute()
    home = cache / dataset.shelf
    given = None
    if data is not None:
        data = data.absolute()
        if not data.is_dir():
            raise DatasetUnavailable(f"SEARCH_DATA is {data}, which is not a folder: create it or unset SEARCH_DATA")
        ready = _ready(dataset, cache, data)
        if ready is not None:
            return ready
        given = dataset.given(data) if dataset.make is None else None
    if _trouble(dataset, home, given) is None:
        return home
    with _writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with shelf.locked(cache, dataset.shelf, lambda: tell(f"{name}: waiting for another process that prepares it")):
            trouble = _trouble(dataset, home, given)
            if trouble is None:
                return home
            with shelf.workshop(cache, dataset.shelf) as work:
                job = _Job(dataset=dataset, home=home, work=work, tell=tell)
                if dataset.make is not None:
                    _make(job, dataset.make, trouble, progress)
                elif given is not None:
                    _read_given(job, given)
                else:
                    _fetch(job, trouble, data, progress)
    return home


def verify(name: str, folder: Path) -> None:
    """Read all four arrays in `folder` and compare them with their SHA-256 (about a second for CIFAR-10).

    Raises UnknownDataset, DatasetCorrupt naming the array, or DatasetUnavailable if one is missing.
    """
    dataset = as_prepared(name, folder)
    for array in ARRAYS:
        shelf.check_file(dataset, folder, array)


def _ready(dataset: Dataset, cache: Path, data: Path) -> Path | None:
    """The folder in SEARCH_DATA that holds the arrays themselves, once found right."""
    for subfolder in dataset.subfolders:
        folder = data / subfolder
        if any(path.is_file() for path in shelf.paths(folder).values()):
            # SEARCH_DATA may be read-only, so its seal lies in the cache.
            seal = cache / ".seals" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.json"
            try:
                shelf.check_folder(dataset, folder, seal)
            except DatasetError as error:
                raise DatasetCorrupt(f"in SEARCH_DATA, {error}; replace or remove it") from error
            return folder
    return None


def _trouble(dataset: Dataset, home: Path, given: Given | None) -> DatasetError | None:
    """Why the cache cannot be used as it is, or None if it can."""
    if not home.exists():
        return DatasetUnavailable(f"nothing at {home}")
    try:
        seal = shelf.check_folder(dataset, home, home / shelf.SEAL)
    except DatasetError as error:
        return error
    if given is not None and seal.given != _stamps(given):
        return DatasetUnavailable(f"{given.path} is new")
    if seal.spec is not None and (stored := spec_of(seal.spec)) != dataset.spec:
        dataset.learned(stored)
    return None


def _stamps(given: Given) -> dict[str, shelf.Stamp] | None:
    try:
        return shelf.stamps(given.files)
    except OSError:  # one is missing, as reading will tell
        return None


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is to be stored and where; `work` is a folder for litter."""

    dataset: Dataset
    home: Path
    work: Path
    tell: Callable[[str], None]

    def say(self, line: str) -> None:
        self.tell(f"{self.dataset.spec.name}: {line}")

    def keep(self, arrays: Arrays, source: str, given: tuple[Path, ...] = ()) -> None:
        shelf.store(self.dataset, arrays, self.home, self.work, source=source, given=given)
        self.say(f"stored in {self.home} ({self.dataset.nbytes / 1e6:.1f} MB)")


def _make(
    job: _Job,
    make: Callable[[Path, Say, bool], tuple[DataSpec, Arrays]],
    trouble: DatasetError,
    progress: bool,
) -> None:
    """Store what is made from files of this machine."""
    if isinstance(trouble, DatasetCorrupt):
        job.say(f"{trouble}; making it again")
    _make_sure_of_room(job.work, job.dataset.nbytes)
    spec, arrays = make(job.work, job.say, progress)
    made = replace(job, dataset=replace(job.dataset, spec=spec))
    shelf.check_arrays(made.dataset, arrays, spec.name)
    made.keep(arrays, spec.name)
    job.dataset.learned(spec)


def _read_given(job: _Job, given: Given) -> None:
    job.say(f"reading {given.path}")
    try:
        arrays = given.read()
        shelf.check_arrays(job.dataset, arrays, str(given.path))
    except DatasetError as error:
        raise type(error)(f"in SEARCH_DATA, {error}; replace or remove it") from error
    try:
        seal = shelf.check_folder(job.dataset, job.home, job.home / shelf.SEAL)
    except DatasetError:
        return job.keep(arrays, str(given.path), given.files)
    if job.dataset.sha256 is None and seal.sha256 != shelf.digests(arrays):
        return job.keep(arrays, str(given.path), given.files)
    # The cache has these very arrays, from elsewhere.
    fresh = shelf.make_seal(job.dataset, job.home, source=str(given.path), given=given.files)
    shelf.write_seal(replace(fresh, sha256=seal.sha256, spec=seal.spec), job.home / shelf.SEAL)


def _fetch(job: _Job, trouble: DatasetError, data: Path | None, progress: bool) -> None:
    """Store the dataset from the first of its sources that has it; else say in one line what was tried."""
    dataset = job.dataset
    looked = f"nothing of it in {data}" if data is not None else "not set"
    tried = [f"SEARCH_DATA: {looked}", f"cache: {trouble}"]
    corrupt = isinstance(trouble, DatasetCorrupt)
    if corrupt:
        job.say(f"{trouble}; fetching it again")
    for number, source in enumerate(dataset.sources()):
        folder = job.work / str(number)
        folder.mkdir()
        try:
            _make_sure_of_room(folder, source.disk + dataset.nbytes)
            if source.disk:
                job.say(f"fetching from {source.title}")
            arrays = source.read(folder, progress)
            shelf.check_arrays(dataset, arrays, "what came")
        except DatasetError as error:
            corrupt = corrupt or isinstance(error, DatasetCorrupt)
            tried.append(f"{source.title}: {error}")
            job.say(tried[-1])
            shutil.rmtree(folder, ignore_errors=True)
        else:
            job.keep(arrays, source.title)
            return
    kind = DatasetCorrupt if corrupt else DatasetUnavailable
    raise kind(f"{dataset.spec.name} could not be had ({'; '.join(tried)}); {_advice(dataset, data)}")


def _make_sure_of_room(folder: Path, needed: int) -> None:
    free = _free(folder)
    if free < needed:
        raise DatasetUnavailable(f"needs {needed / 1e6:.0f} MB on the cache's disk, which has {free / 1e6:.0f} MB free")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _advice(dataset: Dataset, data: Path | None) -> str:
    return dataset.hint.format(data=data or "a folder and set SEARCH_DATA to that folder")


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Turns what goes wrong with the disk into one line."""
    try:
        yield
    except OSError as error:
        raise DatasetUnavailable(f"cannot write to the dataset cache {cache}: {error.strerror or error}") from error


def _silence(line: str) -> None:
    pass
