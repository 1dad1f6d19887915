"""Any .npz with images and labels as a dataset: x_train, y_train, x_test, y_test, or x and y."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spaces.datasets import memo, pictures, scans, sources, splits, trees
from spaces.datasets._spec import ARRAYS, Array, Arrays, Dataset, DataSpec, Say
from spaces.errors import DatasetCorrupt, DatasetUnavailable

VERSION = "npz 1"


def dataset(name: str, path: Path, shelf: str) -> Dataset:
    """The dataset of an .npz. Raises DatasetUnavailable, DatasetCorrupt with one line."""
    if not path.exists():
        raise DatasetUnavailable(f"dataset {name}: {path} is not there")
    stamp = f"{VERSION} {trees.stamp(path)}"
    spec = memo.remembered(name, stamp, lambda: _found_out(name, path))

    def make(folder: Path, say: Say, progress: bool) -> tuple[DataSpec, Arrays]:
        arrays, note = read(path)
        say(note)
        return spec, arrays

    return Dataset(
        spec=spec, sha256=None, sources=tuple, subfolders=(), hint="", make=make, home=f"{shelf}-{spec.digest[:16]}"
    )


def _found_out(name: str, path: Path) -> DataSpec:
    arrays, _ = read(path)
    x, y = arrays["x_train"], arrays["y_train"]
    classes = int(y.max()) + 1
    chosen = splits.sample(len(x), scans.SAMPLE, seed=scans.SAMPLE_SEED)
    mean, std = pictures.statistics((x[i] for i in chosen), x.shape[-1])
    whole = hashlib.sha256(VERSION.encode())
    for array in ARRAYS:
        whole.update(f"\n{array} {arrays[array].shape} ".encode() + np.ascontiguousarray(arrays[array]).tobytes())
    return DataSpec(
        name=name,
        input_shape=(int(x.shape[1]), int(x.shape[2]), int(x.shape[3])),
        classes=classes,
        class_names=tuple(map(str, range(classes))),
        mean=mean,
        std=std,
        digest=whole.hexdigest(),
        train_size=len(x),
        test_size=len(arrays["x_test"]),
        validation_size=scans.validation_size(len(x), classes),
    )


def read(path: Path) -> tuple[Arrays, str]:
    """The four arrays in an .npz, and what a person should know of its parts.

    Raises DatasetUnavailable where it cannot be read, DatasetCorrupt where it is damaged or of another form.
    """
    try:
        with path.open("rb") as file, _archive(path, file) as content:
            keys = ARRAYS if all(key in content for key in ARRAYS) else ("x", "y")
            if not all(key in content for key in keys):
                raise DatasetCorrupt(f"{path} has neither {', '.join(ARRAYS)} nor x, y; it has {', '.join(content)}")
            found: dict[str, Any] = {key: content[key] for key in keys}
    except DatasetCorrupt:
        raise
    except OSError as error:
        raise DatasetUnavailable(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged zip can raise anything
        raise DatasetCorrupt(f"{path} is damaged or no .npz: {sources.one_line(error)}") from error
    found = {key: (_labels if key.startswith("y") else _images)(path, key, array) for key, array in found.items()}
    for key in (key for key in keys if key.startswith("x")):
        labels = found["y" + key[1:]]
        if len(labels) != len(found[key]):
            raise DatasetCorrupt(f"{path}: {len(found[key])} images in {key}, but {len(labels)} labels")
    every = np.concatenate([found[key] for key in keys if key.startswith("y")])
    classes = int(every.max()) + 1 if len(every) else 0
    if not 2 <= classes <= scans.MOST_CLASSES:
        raise DatasetCorrupt(f"{path}: classes by its labels: {classes}; there must be 2 to {scans.MOST_CLASSES}")
    names = tuple(map(str, range(classes)))
    if keys != ARRAYS:
        scans.check_enough(str(path), names, found["y"], scans.LEAST_TRAIN + scans.LEAST_TEST)
        train, test = splits.hold_out_a_fifth(found["y"], classes=classes, seed=scans.SPLIT_SEED)
        note = f"a fifth of each class ({len(test):,} of {len(every):,} images) is the sealed test part"
        return {f"{k}_{p}": found[k][i] for k in ("x", "y") for p, i in (("train", train), ("test", test))}, note
    if found["x_train"].shape[1:] != found["x_test"].shape[1:]:
        shapes = f"{found['x_train'].shape[1:]} and {found['x_test'].shape[1:]}"
        raise DatasetCorrupt(f"{path}: the images of x_train and x_test have different shapes, {shapes}")
    for part, least in (("train", scans.LEAST_TRAIN), ("test", scans.LEAST_TEST)):
        scans.check_enough(f"{path} ({part})", names, found[f"y_{part}"], least)
    return _ordered(found), "its test part is sealed; what validates is taken from its training part"


def _archive(path: Path, file: BinaryIO) -> Any:
    content = np.load(file, allow_pickle=False)
    if isinstance(content, np.ndarray):
        raise DatasetCorrupt(f"{path} holds one array, as an .npy does; images and labels make an .npz (numpy.savez)")
    return content


def _ordered(found: Mapping[str, Array]) -> Arrays:
    return {array: found[array] for array in ARRAYS}


def _images(path: Path, key: str, array: Any) -> Array:
    grey = array[..., np.newaxis] if array.ndim == 3 else array
    if array.dtype != np.uint8 or grey.ndim != 4 or grey.shape[-1] not in (1, 3) or 0 in grey.shape:
        raise DatasetCorrupt(
            f"{path}: {key} is {array.dtype} of shape {array.shape}; images must be uint8 of (n, height, width), "
            "(n, height, width, 1) or (n, height, width, 3)"
        )
    return np.asarray(grey, np.uint8)


def _labels(path: Path, key: str, array: Any) -> Array:
    flat = array.reshape(-1)
    whole = array.dtype.kind in "iu" and array.ndim > 0 and len(flat) == len(array)
    if not whole or (len(flat) and int(flat.min()) < 0):
        raise DatasetCorrupt(f"{path}: {key} is {array.dtype} of shape {array.shape}; labels must be whole, from 0 on")
    if len(flat) and int(flat.max()) >= scans.MOST_CLASSES:
        raise DatasetCorrupt(
            f"{path}: {key} has the label {int(flat.max())}; there may be {scans.MOST_CLASSES} classes"
        )
    return flat.astype(np.uint8)
