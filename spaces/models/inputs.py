"""The first layers of every network here: raw uint8 pixels in, normalised floats out."""

from __future__ import annotations

from typing import Any

from spaces.datasets import DataSpec


def uint8_input(data: DataSpec) -> Any:
    """A Keras input of raw images, (batch, height, width, channels) uint8."""
    import keras

    return keras.Input(data.input_shape, dtype="uint8", name="image")


def normalise(image: Any, scaling: str, data: DataSpec) -> Any:
    """Pixels scaled by `standardise` (per channel, over the training part), `unit` (0 to 1) or `signed` (-1 to 1).

    The layer computes in float32 under any policy, since half precision cannot hold the mean exactly.
    """
    import keras

    if scaling == "standardise":
        variance = [s * s for s in data.std]
        return keras.layers.Normalization(mean=list(data.mean), variance=variance, dtype="float32", name="standardise")(
            image
        )
    if scaling == "signed":
        return keras.layers.Rescaling(1.0 / 127.5, offset=-1.0, dtype="float32", name="signed")(image)
    return keras.layers.Rescaling(1.0 / 255.0, dtype="float32", name="unit")(image)


def probabilities(features: Any, classes: int) -> Any:
    """A softmax over `classes` in float32, whatever the precision of the layers before."""
    import keras

    return keras.layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(features)
