"""The Space of a HyperModel: how large a search of it is, how it is compared, and what of it is cut."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from spaces._recipe import Recipe
from spaces._space import Config, Cut, Space
from spaces.datasets import DataSpec, describe
from spaces.errors import UnknownDataset, UnknownSpace
from spaces.hypermodels.asked import Asked, asked
from spaces.hypermodels.draws import Built
from spaces.hypermodels.handed import BATCH
from spaces.hypermodels.reference import Reference

EPOCHS, TRIALS = 20, 30  # of a search, where fit() says no epochs
CUT_EPOCHS, CUT_TRIALS = 5, 8  # without a GPU
CUT_SECONDS, RATE = 10.0, 14e9  # of an epoch, and multiply-adds a second of two cores, by which images are cut
LEAST_IMAGES, MOST_IMAGES = 500, 10_000
LOOKS = 4  # configurations that a plan draws to tell sizes by


def space(reference: Reference, dataset: str | None, *, alone: bool = False) -> Space:
    """The space of what `reference` names, over a dataset.

    `alone` asks nobody and leaves open what only its networks could say: how it is compared, for how long it trains,
    its file. Raises UnknownDataset where there is none, UnknownSpace and BrokenSpace.
    """
    if dataset is None:
        raise UnknownDataset(
            f"{reference.title} brings no images: say which with --dataset, like --dataset cifar10 or --dataset "
            "path:photos@64"
        )
    if reference.file is not None and not reference.file.is_file():
        raise UnknownSpace(f"no file {reference.file}; give the path of a .py file and what is in it, FILE.py:NAME")
    if alone:
        unasked = _space(reference, dataset, Asked(str(reference), dataset))
        return replace(unasked, recipe=lambda config: Recipe(batch_size=BATCH, optimizer="", learning_rate=math.nan))
    known = asked(str(reference), dataset)
    first = known.first()
    known.declared({})  # what follows is said of all that was looked at
    longest = max((b.epochs for b in known.networks() if b.epochs), default=None)
    return replace(
        _space(reference, dataset, known),
        metric="val_accuracy" if first.accuracy else "val_loss",
        direction="maximize" if first.accuracy else "minimize",
        epochs=longest or EPOCHS,
        cut=_cut(first, longest, describe(dataset)),
        remarks=known.remarks(first),
        path=known.path,
    )


def _space(reference: Reference, dataset: str, known: Asked) -> Space:
    return Space(
        name=reference.title,
        summary=f"the KerasTuner model {reference}, as it is",
        dataset=dataset,
        sample=known.sample,
        build=_built_elsewhere,
        recipe=lambda config: _recipe(known.built(config)),
        params=lambda config, data: known.built(config).params,
        multiply_adds=lambda config, data: known.built(config).multiply_adds,
        activations=lambda config, data: known.built(config).activations,
        epochs=EPOCHS,
        trials=TRIALS,
        own_epochs=lambda config: known.built(config).epochs,
        declare=known.declared,
        looks=LOOKS,
        half=False,
        reference=reference,
    )


def _built_elsewhere(config: Config, data: DataSpec) -> Any:
    raise NotImplementedError("a worker builds it by spaces.hypermodels.stranger")


def _recipe(built: Built) -> Recipe:
    return Recipe(batch_size=built.batch_size, optimizer=built.optimizer, learning_rate=math.nan, patience=None)


def _cut(first: Built, longest: int | None, data: DataSpec) -> Cut:
    """So many images that an epoch of the default network takes seconds, by a rule of thumb."""
    fitting = CUT_SECONDS * RATE / (3 * max(first.multiply_adds, 1))
    images = int(min(max(fitting, LEAST_IMAGES, data.classes), MOST_IMAGES)) // 100 * 100
    images = max(images, data.classes)
    return Cut(
        train=images,
        validation=max(images // 4, data.classes),
        epochs=longest or CUT_EPOCHS,
        trials=CUT_TRIALS,
    )
