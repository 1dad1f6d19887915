"""Gives the probabilities of images: `python -m search.trial.predict ORDER ANSWER`, two JSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from search.trial import served
from search.trial.answer import answer


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Write the probabilities of the order's `images` (a .npy of uint8, raw) to its `out` (a .npy).

    The order says whose: `model`, a model folder, or `network` of keras.applications with the file of its `weights`.
    """
    images = np.load(order["images"], mmap_mode="r")
    if "network" in order:
        from search.trial import pretrained

        network, prepare = pretrained.load(order["network"], Path(order["weights"]))
        found = served.probabilities(network, images, prepare=prepare, batch=pretrained.BATCH)
    else:
        found = served.probabilities(served.load(Path(order["model"])), images)
    np.save(order["out"], found)
    return {"images": len(found), "classes": found.shape[1]}


if __name__ == "__main__":
    answer(main)
