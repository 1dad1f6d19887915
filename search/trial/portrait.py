"""Pictures of the data: how many images each class has, samples of them, and samples as training changes them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.trial.spec import TrialSpec
from spaces import Recipe
from spaces.datasets import DataSpec, TrainingData
from tracking import gallery

COUNTS, CHART, SAMPLES = "images_per_class.csv", "images_per_class.png", "samples.png"
COLUMNS, ROWS = 10, 4  # of the samples
DRAWS = 7  # of each augmented image, beside the image itself
AUGMENTED = 5  # images


def drawn(spec: TrialSpec, recipe: Recipe, data: DataSpec, whole: Callable[[], TrainingData]) -> list[str]:
    """Draw what `spec.pictures`, a folder of the study, still lacks; what could not be drawn, in lines for people.

    `whole` opens all that the study trains on, of which a trial may take less. The random numbers of the trial are left
    alone: call it before the network is built. No error leaves this function: a picture must not fail a trial.
    """
    folder, changes = Path(spec.pictures), recipe.augmentation
    changed = f"augmented_{changes}.png"
    lacking = [n for n in (SAMPLES, *([changed] if changes != "none" else [])) if not (folder / n).is_file()]
    if not spec.pictures or not lacking:
        return []
    try:
        arrays = whole()
        if SAMPLES in lacking:
            _write(folder / COUNTS, _csv(data, arrays))
            _write(folder / CHART, _chart(data, arrays))
            _write(folder / SAMPLES, _samples(spec, data, arrays))
        if changed in lacking:
            _write(folder / changed, _augmented(spec, changes, data, arrays))
    except Exception as error:
        return [f"no pictures of the data: {type(error).__name__}: {error}"]
    return []


def counts(data: DataSpec, arrays: TrainingData) -> list[tuple[str, int, int]]:
    """(class, its training images, its validation images), in the order of the labels."""
    labels = np.asarray(arrays.y)
    each = [np.bincount(labels[part], minlength=data.classes) for part in (arrays.train, arrays.validation)]
    return [(name, int(each[0][i]), int(each[1][i])) for i, name in enumerate(data.class_names)]


def _csv(data: DataSpec, arrays: TrainingData) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["class", "training", "validation"])
    writer.writerows(counts(data, arrays))
    return out.getvalue().encode(errors="backslashreplace")  # a folder may have any name


def _chart(data: DataSpec, arrays: TrainingData) -> bytes:
    title = f"{data.name}: {len(arrays.train):,} training and {len(arrays.validation):,} validation images"
    return gallery.bars(counts(data, arrays), title)


def _chosen(spec: TrialSpec, arrays: TrainingData, most: int) -> NDArray[np.integer]:
    """Indices of training images, a class after the other as long as there are any; a function of the split's seed."""
    order = np.random.Generator(np.random.PCG64(spec.data_seed)).permutation(arrays.train)
    labels = np.asarray(arrays.y)[order]
    rank = np.zeros(len(order), dtype=int)  # the how many-th of its class
    for label in np.unique(labels):
        rank[labels == label] = np.arange(np.count_nonzero(labels == label))
    return order[np.lexsort((labels, rank))][:most]


def _samples(spec: TrialSpec, data: DataSpec, arrays: TrainingData) -> bytes:
    chosen = _chosen(spec, arrays, COLUMNS * ROWS)
    tiles = [(np.asarray(arrays.x[i]), data.class_names[int(arrays.y[i])]) for i in chosen]
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    return gallery.grid(rows, f"{data.name}: training images")


def _augmented(spec: TrialSpec, name: str, data: DataSpec, arrays: TrainingData) -> bytes:
    """The layers themselves draw: what is shown is what training does."""
    import keras

    from search.trial import augment

    chosen = _chosen(spec, arrays, AUGMENTED)
    images = np.stack([np.asarray(arrays.x[i]) for i in chosen])
    x = np.repeat(images, DRAWS, axis=0)
    for layer in augment.layers(name, spec.seed):
        x = layer(x, training=True)
    changed = np.asarray(keras.ops.convert_to_numpy(x), dtype=np.uint8)
    rows = [
        [(images[i], data.class_names[int(arrays.y[index])])]
        + [(changed[i * DRAWS + j], "") for j in range(DRAWS)]
        for i, index in enumerate(chosen)
    ]  # fmt: skip
    return gallery.grid(rows, f"{data.name}: augmentation {name}, the image itself first (seed {spec.seed})")


def _write(path: Path, content: bytes) -> None:
    """Several workers may draw the same one at a time: each aside, the last one stays."""
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    aside.write_bytes(content)
    aside.replace(path)
