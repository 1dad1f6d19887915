"""Compares two packaged models on validation images: `python -m search.trial.agree ORDER ANSWER`, two JSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from search.trial import served
from search.trial.answer import answer
from spaces.datasets import load


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Answer whether the weights are equal, and how far the probabilities differ at most.

    The order: models (two folders), dataset, data_folder, seed and limits of the split.
    """
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
    return said


if __name__ == "__main__":
    answer(main)
