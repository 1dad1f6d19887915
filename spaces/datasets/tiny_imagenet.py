"""Tiny ImageNet: 110,000 images of 64x64 in 200 classes, as a folder, .zip or .tar in the official layout.

Its official test part has no labels, so its validation part is the sealed one, and what validates is taken from its
training part. `tiny_imagenet@32` is the same resized. A part of the set in the same layout is used as it is.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from spaces.datasets import memo, scans, sources, trees
from spaces.datasets._spec import Arrays, Dataset, DataSpec, Say
from spaces.datasets.pictures import SUFFIXES
from spaces.datasets.scans import LEAST_TEST, LEAST_TRAIN, Listing
from spaces.errors import DatasetCorrupt, DatasetUnavailable, UnknownDataset

NAME = "tiny_imagenet"
FOLDER = "tiny-imagenet-200"
URL = f"http://cs231n.stanford.edu/{FOLDER}.zip"
ZIP_BYTES = 248_100_043
CLASSES, TRAIN, TEST = 200, 100_000, 10_000
SIDE, MOST_PIXELS = 64, 64
ANNOTATIONS = "val/val_annotations.txt"
SEALED = (
    "Tiny ImageNet's test part has no labels: its validation part is the sealed one here, and what validates is taken "
    "from its training part"
)
DOWNLOADED = "1"  # of what is noted of the set as it was downloaded


def is_mine(name: str) -> bool:
    """Whether a dataset's name is Tiny ImageNet's, at any size."""
    return name.partition("@")[0] == NAME


def canonical(name: str) -> str:
    """The name without a size that is its own. Raises UnknownDataset for a size that there is not."""
    side = _side(name)
    return NAME if side == SIDE else f"{NAME}@{side}"


def find(name: str, data: Path | None = None) -> Dataset:
    """Tiny ImageNet as it lies in `data` (SEARCH_DATA, where that is not said), else as it would be downloaded.

    Raises UnknownDataset for a size that there is not; DatasetCorrupt, DatasetUnavailable for what lies there.
    """
    name, side = canonical(name), _side(name)
    if data is None and os.environ.get("SEARCH_DATA"):
        data = Path(os.environ["SEARCH_DATA"]).expanduser()
    place = _given(data.absolute()) if data is not None else None
    if place is not None:
        shelf = name.replace("@", "-")
        return scans.dataset(name, trees.stamp(place), partial(listing, place), side=side, shelf=shelf)
    official = _official(name, side)
    return Dataset(
        spec=memo.noted(f"{name}, downloaded", DOWNLOADED) or official,
        sha256=None,
        sources=tuple,
        subfolders=(),
        hint=f"put {FOLDER}.zip (or the folder in it) into {{data}}",
        make=partial(_download, official),
        learned=partial(memo.learned, f"{name}, downloaded", DOWNLOADED),
    )


def _side(name: str) -> int:
    _, at, size = name.partition("@")
    if not at:
        return SIDE
    if not (size.isdecimal() and 1 <= int(size) <= MOST_PIXELS):
        raise UnknownDataset(f"dataset {name}: give {NAME} or {NAME}@SIZE with 1 to {MOST_PIXELS} pixels a side")
    return int(size)


def _official(name: str, side: int) -> DataSpec:
    """What is known of the set before it is there; its classes have numbers until then."""
    return DataSpec(
        name=name,
        input_shape=(side, side, 3),
        classes=CLASSES,
        class_names=tuple(f"class {i}" for i in range(CLASSES)),
        mean=(122.4626, 114.2583, 101.3663),  # well known, of the 64x64 images
        std=(70.6282, 68.6009, 71.9311),
        digest=hashlib.sha256(f"{scans.VERSION} {URL} {side}".encode()).hexdigest(),
        train_size=TRAIN,
        test_size=TEST,
        validation_size=scans.validation_size(TRAIN, CLASSES),
    )


def _given(data: Path) -> Path | None:
    """The set in a folder or its subfolder `tiny_imagenet`: an unpacked folder, else an archive."""
    for folder in (data / NAME, data):
        for place in (folder / FOLDER, folder):
            if (place / ANNOTATIONS).is_file() and (place / "train").is_dir():
                return place
        for ending in ("zip", "tar"):
            found = sorted(folder.glob(f"tiny-imagenet*.{ending}")) if folder.is_dir() else []
            if found:
                return found[0]
    return None


def listing(place: Path) -> Listing:
    """Every image of the set by part and class. Raises DatasetCorrupt where it has another layout."""
    tree = trees.grow(place)
    top = next((path.removesuffix(ANNOTATIONS) for path in tree.files if path.endswith(ANNOTATIONS)), None)
    if top is None:
        raise DatasetCorrupt(f"{place} is not Tiny ImageNet in its official layout: it has no {ANNOTATIONS}")
    train: list[tuple[str, str]] = []
    for path in tree.files:
        parts = path.removeprefix(f"{top}train/").split("/")
        if path.startswith(f"{top}train/") and len(parts) == 3 and parts[1] == "images" and _is_image(path):
            train.append((path, parts[0]))
    wnids = sorted({wnid for _, wnid in train})
    label = {wnid: i for i, wnid in enumerate(wnids)}
    if not 2 <= len(wnids) <= CLASSES:
        raise DatasetCorrupt(f"{place} has {len(wnids)} classes in train/<wnid>/images, not {CLASSES} or fewer")
    test = _annotated(tree, top, label)
    for part, labels, least in (
        ("train", [label[w] for _, w in train], LEAST_TRAIN),
        ("val", [n for _, n in test], LEAST_TEST),
    ):
        scans.check_enough(f"{place} ({part})", tuple(wnids), np.array(labels, np.uint8), least)
    notes = [SEALED]
    if (len(train), len(test), len(wnids)) != (TRAIN, TEST, CLASSES):
        notes.append(
            f"{place} is a part of Tiny ImageNet: {len(train):,} images to train on of {TRAIN:,}, {len(test):,} of "
            f"{TEST:,} sealed, {len(wnids)} of {CLASSES} classes"
        )
    return Listing(
        tree=tree,
        class_names=_names(tree, top, wnids),
        train=tuple(sorted(((path, label[wnid]) for path, wnid in train), key=lambda item: (item[1], item[0]))),
        test=tuple(sorted(test, key=lambda item: (item[1], item[0]))),
        notes=tuple(notes),
    )


def _is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def _annotated(tree: trees.Tree, top: str, label: dict[str, int]) -> list[tuple[str, int]]:
    """The images of val/ with the labels that its list gives them."""
    known = {}
    for number, line in enumerate(_lines(tree, top + ANNOTATIONS), 1):
        words = line.split()
        if len(words) < 2:
            raise DatasetCorrupt(f"{tree.root}: line {number} of {ANNOTATIONS} names no image and class: {line[:40]!r}")
        known[words[0]] = words[1]
    images = [path for path in tree.files if path.startswith(f"{top}val/images/") and _is_image(path)]
    found = []
    for path in images:
        wnid = known.get(path.rpartition("/")[2])
        if wnid is None:
            raise DatasetCorrupt(f"{tree.root}: {ANNOTATIONS} does not name {path}")
        if wnid not in label:
            raise DatasetCorrupt(f"{tree.root}: {path} is of class {wnid}, which train/ has not")
        found.append((path, label[wnid]))
    return found


def _names(tree: trees.Tree, top: str, wnids: list[str]) -> tuple[str, ...]:
    """The first name of each class in words.txt; the identifier where there is none, or another class has it too."""
    said: dict[str, str] = {}
    if f"{top}words.txt" in tree.files:
        for line in _lines(tree, f"{top}words.txt"):
            wnid, _, words = line.partition("\t")
            said[wnid] = words.partition(",")[0].strip()
    names = [said.get(wnid) or wnid for wnid in wnids]
    return tuple(name if names.count(name) == 1 else wnid for name, wnid in zip(names, wnids, strict=True))


def _lines(tree: trees.Tree, path: str) -> list[str]:
    try:
        return [line for line in tree.read(path).decode("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetCorrupt(f"{tree.root}: {path} cannot be read: {sources.one_line(error)}") from error


def _download(official: DataSpec, folder: Path, say: Say, progress: bool) -> tuple[DataSpec, Arrays]:
    """The set as it is downloaded. Raises DatasetUnavailable, DatasetCorrupt."""
    archive = folder / f"{FOLDER}.zip"
    advice = f"put {FOLDER}.zip, or the folder in it, into a folder and set SEARCH_DATA to that folder"
    say(f"downloading {URL} ({ZIP_BYTES / 1e6:.0f} MB)")
    try:
        sources.download(URL, archive, sha256=None, progress=progress)
        found = listing(archive)
        _check_whole(found)
    except (DatasetUnavailable, DatasetCorrupt) as error:
        raise type(error)(f"{official.name} could not be had: {URL}: {error}; {advice}") from error
    named = replace(official, class_names=found.class_names)
    return scans.make(named, found, folder, say, progress, side=official.input_shape[0])


def _check_whole(found: Listing) -> None:
    counts = (len(found.class_names), len(found.train), len(found.test))
    if counts != (CLASSES, TRAIN, TEST):
        raise DatasetCorrupt(
            f"{counts[0]} classes, {counts[1]:,} and {counts[2]:,} images came, not {CLASSES}, {TRAIN:,} and {TEST:,}"
        )
