"""The datasets by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from spaces.datasets import cache, cifar10, cifar100, digits, fashion_mnist, mnist, paths, tiny_imagenet
from spaces.datasets._spec import Dataset, DataSpec, spec_of
from spaces.errors import UnknownDataset

_DATASETS = {
    dataset.spec.name: dataset
    for dataset in (cifar10.DATASET, cifar100.DATASET, digits.DATASET, fashion_mnist.DATASET, mnist.DATASET)
}


def names() -> tuple[str, ...]:
    """The names of the datasets, sorted."""
    return tuple(sorted([*_DATASETS, tiny_imagenet.NAME]))


def canonical(name: str) -> str:
    """The name that a dataset goes by wherever it is used from: that of a path is absolute. Raises UnknownDataset."""
    if paths.is_path(name):
        return paths.canonical(name)
    return tiny_imagenet.canonical(name) if tiny_imagenet.is_mine(name) else find(name).spec.name


def describe(name: str, folder: Path | None = None) -> DataSpec:
    """The facts of the dataset called `name`: as it was prepared in `folder`, or, without one, with no data on disk.

    A dataset `path:...` is looked through without a folder (seconds the first time, for 100,000 images). Raises
    UnknownDataset with the nearest name, and for a path DatasetUnavailable and DatasetCorrupt.
    """
    return find(name).spec if folder is None else as_prepared(name, folder).spec


def find(name: str, data: Path | None = None) -> Dataset:
    """The whole entry of the dataset called `name`. Raises as `describe` does.

    `data` is where Tiny ImageNet is looked for, SEARCH_DATA where it is not said: its facts depend on what lies there.
    """
    if name in _DATASETS:
        return _DATASETS[name]
    if paths.is_path(name):
        return paths.find(name)
    if tiny_imagenet.is_mine(name):
        return tiny_imagenet.find(name, data)
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownDataset(f"unknown dataset {name!r}.{hint} There are: {', '.join(names())}, path:DIR, path:FILE.npz")


def as_prepared(name: str, folder: Path) -> Dataset:
    """The dataset as it was stored in `folder`, whatever became of its source since. Raises as `describe` does."""
    seal = cache.read_seal(folder / cache.SEAL)
    if seal is None or seal.spec is None or seal.dataset != canonical(name):
        return find(name)
    return Dataset(spec=spec_of(seal.spec), sha256=None, sources=tuple, subfolders=(), hint="")
