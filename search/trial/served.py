"""Loads a packaged model as it is served, and gives its probabilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

BATCH = 256
WEIGHTS = "data/model.keras"


def load(folder: Path) -> Any:
    """The Keras model of a model folder; nothing in it is unpickled and none of its code is run.

    Raises ValueError where it holds more than stock layers, OSError where it cannot be read.
    """
    return load_file(folder / WEIGHTS)


def load_file(path: Path) -> Any:
    """The same of a .keras file alone."""
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def probabilities(
    model: Any, images: npt.NDArray[np.uint8], *, prepare: Callable[[Any], Any] | None = None, batch: int = BATCH
) -> npt.NDArray[np.float32]:
    """float32 (n, classes) for raw uint8 images (n, height, width, channels).

    `prepare` makes of a batch of them what a model takes that takes no raw images.
    """
    # Whole batches only, the last filled up: another shape would compile again.
    size = min(batch, len(images))
    found = []
    for begin in range(0, len(images), size):
        part = np.asarray(images[begin : begin + size])
        missing = size - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        given = filled if prepare is None else prepare(filled)
        found.append(np.asarray(model.predict_on_batch(given), dtype=np.float32)[: len(part)])
    return np.concatenate(found)
