"""Loads a packaged model as it is served, and gives its probabilities."""

from __future__ import annotations

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
    return keras.saving.load_model(folder / WEIGHTS, compile=False, safe_mode=True)


def probabilities(model: Any, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """float32 (n, classes) for raw uint8 images (n, height, width, channels)."""
    # Whole batches only, the last filled up: another shape would compile again.
    size = min(BATCH, len(images))
    found = []
    for begin in range(0, len(images), size):
        batch = np.asarray(images[begin : begin + size])
        missing = size - len(batch)
        filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
        found.append(np.asarray(model.predict_on_batch(filled), dtype=np.float32)[: len(batch)])
    return np.concatenate(found)
