"""Random changes to training images, in front of the network while it trains and never saved with it."""

from __future__ import annotations

from typing import Any

import keras

from spaces._recipe import AUGMENTATIONS


class ToPixels(keras.layers.Layer):
    """Rounds augmented images back to uint8, so that the network trains on what it will be served."""

    def call(self, images: Any) -> Any:
        """(batch, h, w, c) float32 in 0..255 to uint8."""
        return keras.ops.cast(keras.ops.clip(keras.ops.round(images), 0, 255), "uint8")


def layers(name: str, seed: int) -> list[keras.layers.Layer]:
    """The layers of a named augmentation, each with a seed of its own; empty for `none`."""
    policy = AUGMENTATIONS[name]
    fill: dict[str, Any] = {"fill_mode": "nearest", "dtype": "float32"}
    found: list[keras.layers.Layer] = []
    if policy.rotation:
        found.append(keras.layers.RandomRotation(policy.rotation / 360, seed=seed + 1, **fill))
    if policy.shift:
        found.append(keras.layers.RandomTranslation(policy.shift, policy.shift, seed=seed + 2, **fill))
    if policy.flip or policy.upside_down:
        both = policy.flip and policy.upside_down
        way = "horizontal_and_vertical" if both else ("horizontal" if policy.flip else "vertical")
        found.append(keras.layers.RandomFlip(way, seed=seed + 3, dtype="float32"))
    if policy.zoom:
        found.append(
            keras.layers.RandomZoom((-policy.zoom, policy.zoom), (-policy.zoom, policy.zoom), seed=seed + 4, **fill)
        )
    return [*found, ToPixels(dtype="float32")] if found else []
