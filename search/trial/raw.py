"""Puts a stranger's model behind raw images and gives it probabilities, and checks that it says what it said before."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from search.trial import served
from spaces.datasets import DataSpec

UNIT = 1 / 255
TOLERANCE = 1e-4  # of a probability; the same weights, the same kernels
EVEN = 1e-3  # how far probabilities may sum up from 1

Floats = npt.NDArray[np.float32]


class NotServable(Exception):
    """Raised where what would be served is not what was trained; the text is for people."""


def unit(images: npt.NDArray[np.uint8]) -> Floats:
    """Raw images as float32 in 0 to 1, exactly as the layer in front of a served model makes them."""
    return images.astype(np.float32) * np.float32(UNIT)


def behind(model: Any, data: DataSpec, images: npt.NDArray[np.uint8], outputs: Floats, *, logits: bool) -> Any:
    """A model that takes raw uint8 images and gives float32 probabilities of the classes, with the weights of `model`.

    `outputs` (n, units) are what `model` gave for those `images` while it was validated, `logits` whether its loss took
    them for such. Raises NotServable where the new one does not give the probabilities that follow from them.
    """
    how = _how(outputs, logits)
    try:
        image = keras.Input(data.input_shape, dtype="uint8", name="image")
        x = keras.layers.Rescaling(UNIT, dtype="float32", name="unit")(image)
        given = keras.layers.Activation("linear", dtype="float32", name="outputs")(_graph(model)(x))
        network = keras.Model(image, _layers(given, how), name=model.name)
        keras.saving.serialize_keras_object(network)
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise NotServable(f"it cannot be put behind raw images: {type(error).__name__}: {words}") from error
    found = served.probabilities(network, images)
    off = float(np.abs(found - _probabilities(outputs.astype(np.float64), how)).max())
    if not off <= TOLERANCE:
        raise NotServable(
            f"behind raw images it gives other probabilities than while it was validated, by up to {off:.2g} over "
            f"{len(images)} images: its fit() changes them"
        )
    return network


def _graph(model: Any) -> Any:
    """The model's layers without the class around them, which may be a stranger's, where they are known."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    return keras.Model(inputs[0], outputs[0], name=model.name) if inputs and outputs else model


def _how(outputs: Floats, logits: bool) -> tuple[str, ...]:
    """What makes probabilities of outputs: by their loss, or else by what they are."""
    if outputs.shape[1] == 1:
        inside = bool(((outputs >= 0) & (outputs <= 1)).all())
        return ("two",) if inside and not logits else ("sigmoid", "two")
    sums = outputs.sum(axis=1, dtype=np.float64)
    if logits or (outputs < 0).any() or (sums <= 0).any():
        return ("softmax",)
    return () if (np.abs(sums - 1) <= EVEN).all() else ("share",)


def _layers(x: Any, how: tuple[str, ...]) -> Any:
    """Stock layers alone: others would not load."""
    for step in how:
        if step == "softmax":
            x = keras.layers.Softmax(dtype="float32", name="probabilities")(x)
        elif step == "sigmoid":
            x = keras.layers.Activation("sigmoid", dtype="float32", name="probability")(x)
        elif step == "two":
            other = keras.layers.Rescaling(-1.0, offset=1.0, dtype="float32", name="other")(x)
            x = keras.layers.Concatenate(dtype="float32", name="probabilities")([other, x])
        else:
            x = keras.ops.divide(x, keras.ops.sum(x, axis=-1, keepdims=True))
    return x


def _probabilities(outputs: npt.NDArray[np.float64], how: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """The same in numpy."""
    for step in how:
        if step == "softmax":
            outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            outputs = outputs / outputs.sum(axis=1, keepdims=True)
        elif step == "sigmoid":
            outputs = 1 / (1 + np.exp(-outputs))
        elif step == "two":
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        else:
            outputs = outputs / outputs.sum(axis=1, keepdims=True)
    return outputs
