"""Builds a network of keras.applications with weights from a file, and what it wants done to images first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

BATCH = 16  # images of 224 to 600 pixels a side


def load(name: str, weights: Path) -> tuple[Any, Callable[[Any], Any]]:
    """The network and its own preprocessing of uint8 batches. Raises ValueError where the weights are not its own."""
    keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says: so images are read
    make = getattr(keras.applications, name)
    try:
        network = make(weights=str(weights))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(f"{error}".split())
        raise ValueError(f"{weights} cannot be used as the weights of {name}: {why[:300]}") from error
    preprocess = sys.modules[make.__module__].preprocess_input
    return network, lambda images: preprocess(images.astype("float32"))
