"""`path:DIR`, `path:DIR@SIZE` and `path:FILE.npz`: the images a user has, as a dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from spaces.datasets import npz, scans, splits, trees
from spaces.datasets._spec import Dataset
from spaces.datasets.pictures import SUFFIXES
from spaces.datasets.scans import LEAST_TEST, LEAST_TRAIN, Item, Listing
from spaces.errors import DatasetCorrupt, DatasetUnavailable, UnknownDataset

PREFIX = "path:"
TRAIN = "train"
SEALED = ("test", "val", "valid", "validation")  # the first of these that is there is the sealed part
PARTS = (TRAIN, *SEALED)  # in any letters, large or small
MOST_PIXELS = 2048  # a side
HOW = "give path:DIR, path:DIR@SIZE (pixels a side) or path:FILE.npz"


def is_path(name: str) -> bool:
    """Whether a dataset's name means files of the user's."""
    return name.startswith(PREFIX)


def canonical(name: str) -> str:
    """The name with its path made absolute. Raises UnknownDataset for one that names no path or no size."""
    path, side = _parsed(name)
    return f"{PREFIX}{path}" + (f"@{side}" if side else "")


def find(name: str) -> Dataset:
    """The dataset of a folder or file. Raises UnknownDataset, DatasetUnavailable, DatasetCorrupt with one line."""
    path, side = _parsed(name)
    shelf = f"path-{re.sub(r'[^A-Za-z0-9_-]', '-', path.stem)[:40]}"
    if path.suffix == ".npz" and not path.is_dir():
        if side:
            raise UnknownDataset(f"dataset {name}: the images of an .npz are not resized; leave @{side} out")
        return npz.dataset(canonical(name), path, shelf)
    if not path.is_dir():
        there = "is a file, neither a folder nor an .npz" if path.exists() else "is not there"
        raise DatasetUnavailable(f"dataset {name}: {path} {there}; {HOW}")
    return scans.dataset(canonical(name), trees.stamp(path), partial(listing, path), side=side, shelf=shelf)


def _parsed(name: str) -> tuple[Path, int | None]:
    text, size = name.removeprefix(PREFIX), None
    before, at, after = text.rpartition("@")
    if at and after.isdecimal() and not Path(text).expanduser().exists():
        text, size = before, int(after)
        if not 1 <= size <= MOST_PIXELS:
            raise UnknownDataset(f"dataset {name}: {size} pixels a side; give 1 to {MOST_PIXELS}")
    if not text:
        raise UnknownDataset(f"dataset {name!r} names no path; {HOW}")
    return Path(os.path.abspath(Path(text).expanduser())), size  # noqa: PTH100  # resolve() would follow links


def listing(root: Path) -> Listing:
    """The images below `root` by part and class.

    Either each folder is a class, and a fifth of each class is the sealed test part; or there is `train` beside
    `test`, `val` or `validation`, each with a folder for each class. Raises DatasetCorrupt, DatasetUnavailable.
    """
    tree = trees.grow(root)
    tops = [folder for folder in tree.folders if "/" not in folder]
    # A class may be called `train`: parts have folders in them.
    inside = {top: _classes_in(tree.folders, top) for top in tops}
    parts = {top.lower(): top for top in tops if top.lower() in PARTS and inside[top]}
    trained = parts.get(TRAIN)
    sealed = next((parts[part] for part in SEALED if part in parts), None)
    if trained is not None and sealed is None and all(top.lower() in PARTS for top in tops):
        raise DatasetCorrupt(
            f"{root} has classes in {trained}/, but neither test/ nor val/ nor validation/ with folders of the same; "
            f"give path:{root / trained}, and a fifth of each class is the sealed test part"
        )
    if trained is None or sealed is None:
        if len(tops) > 1 and inside[tops[0]] and len(set(inside.values())) == 1:
            raise DatasetCorrupt(
                f"each folder of {root} has the same folders in it ({', '.join(inside[tops[0]][:3])}): they look like "
                "parts, not like classes; name them train and test, or give path: of one of them"
            )
        names = tuple(tops)
        items = _items(root, tree.files, "", names)
        labels = np.array([label for _, label in items], np.uint8)
        scans.check_enough(str(root), names, labels, LEAST_TRAIN + LEAST_TEST)
        train, test = splits.hold_out_a_fifth(labels, classes=len(names), seed=scans.SPLIT_SEED)
        said = f"a fifth of each class ({len(test):,} of {len(items):,} images) is the sealed test part"
        return Listing(
            tree=tree,
            class_names=names,
            train=tuple(items[i] for i in train),
            test=tuple(items[i] for i in test),
            notes=(said, *_passed_over(tree.files, items)),
        )
    names, others = inside[trained], inside[sealed]
    if names != others:
        odd = sorted(set(names) ^ set(others))[0]
        where, lacking = (root / trained, sealed) if odd in names else (root / sealed, trained)
        raise DatasetCorrupt(f"{where / odd} is a class that {root / lacking} has no folder for")
    train_items, test_items = (_items(root, tree.files, f"{part}/", names) for part in (trained, sealed))
    for part, items, least in ((trained, train_items, LEAST_TRAIN), (sealed, test_items, LEAST_TEST)):
        labels = np.array([label for _, label in items], np.uint8)
        scans.check_enough(str(root / part), names, labels, least)
    notes = [f"{sealed}/ is the sealed test part; what validates is taken from {trained}/"]
    unused = [top for top in tops if top not in (trained, sealed)]
    notes += [f"{top}/ is not used" for top in unused]
    used = tuple(path for path in tree.files if path.split("/")[0] not in unused)
    return Listing(
        tree=tree,
        class_names=names,
        train=tuple(train_items),
        test=tuple(test_items),
        notes=(*notes, *_passed_over(used, [*train_items, *test_items])),
    )


def _classes_in(folders: Iterable[str], part: str) -> tuple[str, ...]:
    return tuple(f.split("/")[1] for f in folders if f.startswith(f"{part}/") and f.count("/") == 1)


def _items(root: Path, files: Iterable[str], below: str, names: tuple[str, ...]) -> list[Item]:
    """The image files of each class, in the order of classes and paths."""
    if not names:
        raise DatasetCorrupt(f"{root / below} has no folder in it; it needs one for each class, with images")
    if len(names) == 1:
        raise DatasetCorrupt(f"{root / below} has one class only, {names[0]!r}; it needs two folders or more")
    if len(names) > scans.MOST_CLASSES:
        raise DatasetCorrupt(f"{root / below} has {len(names)} classes; there may be {scans.MOST_CLASSES} at most")
    label = {name: i for i, name in enumerate(names)}
    found = []
    for path in files:
        inside = path.removeprefix(below).split("/")
        if path.startswith(below) and len(inside) > 1 and inside[0] in label and path.lower().endswith(SUFFIXES):
            found.append((path, label[inside[0]]))
    if not found:
        raise DatasetUnavailable(f"{root / below} has no images in its folders; known are {', '.join(SUFFIXES)}")
    filled = {number for _, number in found}
    if empty := [name for name in names if label[name] not in filled]:
        raise DatasetCorrupt(f"{root / below / empty[0]} is an empty class: no image in it; fill or remove it")
    return sorted(found, key=lambda item: (item[1], item[0]))


def _passed_over(files: tuple[str, ...], items: list[Item]) -> list[str]:
    used = {path for path, _ in items}
    others = [path for path in files if path not in used]
    return [f"{len(others)} files that are no images of a class are passed over ({others[0]}...)"] if others else []
