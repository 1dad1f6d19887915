"""The datasets by name."""

from __future__ import annotations

import difflib

from spaces.datasets import cifar10, digits, fashion_mnist, mnist
from spaces.datasets._spec import Dataset, DataSpec
from spaces.errors import UnknownDataset

_DATASETS = {
    dataset.spec.name: dataset for dataset in (cifar10.DATASET, digits.DATASET, fashion_mnist.DATASET, mnist.DATASET)
}


def names() -> tuple[str, ...]:
    """The names of the datasets, sorted."""
    return tuple(sorted(_DATASETS))


def describe(name: str) -> DataSpec:
    """The static facts of the dataset called `name`; needs no data on disk.

    Raises UnknownDataset with the nearest name.
    """
    return find(name).spec


def find(name: str) -> Dataset:
    """The whole entry of the dataset called `name`. Raises UnknownDataset."""
    if name in _DATASETS:
        return _DATASETS[name]
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownDataset(f"unknown dataset {name!r}.{hint} There are: {', '.join(names())}")
