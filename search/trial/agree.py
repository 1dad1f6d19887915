"""Compares two packaged models on validation images: `python -m search.trial.agree ORDER ANSWER`, two JSON files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from search.trial import served
from spaces.datasets import load
from spaces.errors import DatasetError, SpaceError


def main(asked: str, answer: str) -> None:
    """Answer whether the weights are equal, and how far the probabilities differ at most.

    The order: models (two folders), dataset, data_folder, seed and limits of the split.
    """
    order = json.loads(Path(asked).read_text())
    arrays = load(
        order["dataset"],
        Path(order["data_folder"]),
        seed=order["data_seed"],
        train_limit=order["train_limit"],
        validation_limit=order["validation_limit"],
    )
    images = arrays.validation_arrays()[0]
    first, second = (served.load(Path(folder)) for folder in order["models"])
    weights = [[np.asarray(weight) for weight in model.get_weights()] for model in (first, second)]
    one, other = served.probabilities(first, images), served.probabilities(second, images)
    said = {
        "images": len(images),
        "weights_equal": len(weights[0]) == len(weights[1])
        and all(np.array_equal(a, b) for a, b in zip(*weights, strict=True)),
        "difference": float(np.abs(one - other).max()),
        "same_class": float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
    }
    Path(answer).write_text(json.dumps(said))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (DatasetError, SpaceError, OSError, ValueError) as error:
        sys.exit(" ".join(f"{error}".split())[:1000])
