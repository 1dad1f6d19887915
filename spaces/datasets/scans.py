"""Datasets made from the image files a user has: found out by one look at all of them, made from them when needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spaces.datasets import memo, pictures, splits
from spaces.datasets._spec import Array, Arrays, Dataset, DataSpec, Say
from spaces.datasets.trees import Tree
from spaces.errors import DatasetCorrupt

VERSION = "images 2"  # of how files become arrays; another one is other data
SAMPLE, SAMPLE_SEED = 2_000, 2_000  # training images that sizes, colours, means and deviations are told from
SPLIT_SEED = 5  # of the sealed fifth, where there is no test part
MOST_CLASSES = 256  # labels are uint8
ADVISED = 512  # pixels a side, above which a person is told how to have less
FALLBACK = 64  # pixels a side where the images' own sizes differ
LEAST_TRAIN, LEAST_TEST = 2, 1  # images of a class: to train on and to validate on, and to test on

Item = tuple[str, int]  # a file's path in its tree, and its label


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Which file belongs to which part and class, in the order of the arrays; `notes` are for people."""

    tree: Tree
    class_names: tuple[str, ...]
    train: tuple[Item, ...]
    test: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def dataset(
    name: str, stamp: str, listing: Callable[[], Listing], *, side: int | None, shelf: str, digest: str | None = None
) -> Dataset:
    """The dataset called `name`, resized to `side` pixels each way, or to what its images agree on.

    `listing` is asked where nothing was noted of files with this `stamp`. `digest` replaces the content's own.
    `shelf` begins the name of its folder in the cache. Raises DatasetUnavailable, DatasetCorrupt.
    """
    stamp = f"{VERSION} {stamp}"
    spec = memo.remembered(name, stamp, lambda: _found_out(name, listing(), side, digest))
    return Dataset(
        spec=spec,
        sha256=None,
        sources=tuple,
        subfolders=(),
        hint="",
        make=lambda folder, say, progress: make(spec, listing(), folder, say, progress, side=side),
        learned=partial(memo.learned, name, stamp),
        home=f"{shelf}-{spec.digest[:16]}",
    )


def _found_out(name: str, found: Listing, side: int | None, digest: str | None) -> DataSpec:
    """What one look at all files and at the pixels of some tells."""
    contents, probes = _sample(found)
    if not probes:
        raise DatasetCorrupt(f"{found.tree.root}: none of {len(contents):,} image files can be read")
    sizes = {probe.size for probe in probes}
    size = (side, side) if side else (sizes.pop() if len(sizes) == 1 else (FALLBACK, FALLBACK))
    channels = 1 if all(probe.grey for probe in probes) else 3
    mean, std = pictures.statistics(_decoded(found.tree, contents, size, channels), channels)
    return DataSpec(
        name=name,
        input_shape=(*size, channels),
        classes=len(found.class_names),
        class_names=found.class_names,
        mean=mean,
        std=std,
        digest=digest or _digest(found, (*size, channels)),
        train_size=len(found.train),
        test_size=len(found.test),
        validation_size=validation_size(len(found.train), len(found.class_names)),
    )


def _sample(found: Listing) -> tuple[list[str], list[pictures.Probe]]:
    """Some of the training images, drawn by chance, and what the heads of those say that can be read."""
    paths = [found.train[i][0] for i in splits.sample(len(found.train), SAMPLE, seed=SAMPLE_SEED)]
    return paths, [probe for probe in _in_parallel(_probe, found.tree, paths) if probe is not None]


def validation_size(train: int, classes: int) -> int:
    """A tenth of the training part, at least one image a class."""
    return max(classes, train // 10)


def _digest(found: Listing, shape: tuple[int, int, int]) -> str:
    """Of all files' content and what is done to it; where the files lie is no part of it."""
    head = json.dumps([VERSION, shape, found.class_names])
    whole = hashlib.sha256(head.encode())
    for part in (found.train, found.test):
        digests = _in_parallel(_content, found.tree, [path for path, _ in part])
        for (path, label), digest in zip(part, digests, strict=True):
            whole.update(f"\n{path}\0{label} {digest}".encode(errors="surrogateescape"))
        whole.update(b"\n")
    return whole.hexdigest()


def _in_parallel(one: Callable[[Tree, str], Any], tree: Tree, paths: list[str]) -> list[Any]:
    with pictures.pool() as threads:
        return list(threads.map(lambda path: one(tree, path), paths))


def _content(tree: Tree, path: str) -> str:
    try:
        return hashlib.sha256(tree.read(path)).hexdigest()
    except OSError:  # named when the arrays are made
        return "unreadable"


def _probe(tree: Tree, path: str) -> pictures.Probe | None:
    try:
        return pictures.probe(tree.read(path))
    except (OSError, ValueError):
        return None


def _decoded(tree: Tree, paths: list[str], size: pictures.Size, channels: int) -> Any:
    def one(tree: Tree, path: str) -> Array | None:
        try:
            return pictures.decode(tree.read(path), size, channels)
        except (OSError, ValueError):
            return None

    for begin in range(0, len(paths), pictures.CHUNK):
        yield from (i for i in _in_parallel(one, tree, paths[begin : begin + pictures.CHUNK]) if i is not None)


def make(
    spec: DataSpec, found: Listing, folder: Path, say: Say, progress: bool, *, side: int | None
) -> tuple[DataSpec, Arrays]:
    """The arrays as files in `folder`, and the facts of what could be read. Raises DatasetCorrupt."""
    height, width, channels = spec.input_shape
    for line in found.notes:
        say(line)
    sizes = {probe.size for probe in _sample(found)[1]}
    if side is None and len(sizes) > 1:
        smallest, largest = min(sizes), max(sizes)
        say(
            f"images have different sizes ({smallest[1]}x{smallest[0]} to {largest[1]}x{largest[0]}): all become "
            f"{width}x{height}; @SIZE behind the path chooses another"
        )
    if side is None and max(height, width) > ADVISED:
        say(f"its images are {width}x{height} pixels, which few networks take; @SIZE behind the path resizes them")
    say(
        f"decoding {len(found.train):,} images to train on and {len(found.test):,} sealed ones to {width}x{height} in "
        f"{'grey' if channels == 1 else 'colour'}, {spec.classes} classes"
    )
    arrays: dict[str, Array] = {}
    for part, items, least in (("train", found.train, LEAST_TRAIN), ("test", found.test, LEAST_TEST)):
        names = [path for path, _ in items]
        title = f"{found.tree.root} ({part})"
        arrays[f"x_{part}"], left_out = pictures.write(
            folder / f"{part}.npy", title, names, found.tree.read, (height, width), channels, say, progress
        )
        labels = np.delete(np.array([label for _, label in items], np.uint8), left_out)
        arrays[f"y_{part}"] = labels
        check_enough(title, spec.class_names, labels, least)
        if left_out:
            say(f"{len(left_out)} of {len(items):,} images of the {part} part are left out, since they cannot be read")
    counted = {"train_size": len(arrays["y_train"]), "test_size": len(arrays["y_test"])}
    return replace(spec, **counted), arrays  # type: ignore[arg-type]


def check_enough(title: str, class_names: tuple[str, ...], labels: Array, least: int) -> None:
    """Raise DatasetCorrupt, naming the first, where a class has fewer images than are needed."""
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    fewest = min(counts)
    if fewest < least:
        raise DatasetCorrupt(
            f"{title}: class {class_names[counts.index(fewest)]!r} has {fewest} image{'s' if fewest != 1 else ''}, but "
            f"needs {least} or more here, so that some are left to train on, to validate on and to test on"
        )
