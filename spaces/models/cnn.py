"""A plain convolutional network for small images; its parameters, multiply-adds and activations by formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spaces.datasets import DataSpec
from spaces.models.inputs import normalise, probabilities, uint8_input


def _widths(config: Mapping[str, Any], data: DataSpec) -> tuple[list[tuple[int, int, int]], int]:
    """([(side, channels in, channels out) of each convolution], inputs of the first dense layer)."""
    side, channels, convolutions = data.input_shape[0], data.input_shape[2], []
    for i in range(config["conv_layers"]):
        filters = config["filters"] * 2**i
        convolutions.append((side, channels, filters))
        side, channels = side // 2, filters
    return convolutions, side * side * channels


def params(config: Mapping[str, Any], data: DataSpec) -> int:
    """Parameters in all, as Keras counts them."""
    convolutions, inputs = _widths(config, data)
    kernels = sum((9 * c_in + 1) * c_out for _, c_in, c_out in convolutions)
    return kernels + (inputs + 1) * config["dense_units"] + (config["dense_units"] + 1) * data.classes


def multiply_adds(config: Mapping[str, Any], data: DataSpec) -> int:
    """Multiply-adds for one image, forward."""
    convolutions, inputs = _widths(config, data)
    inside = sum(side * side * 9 * c_in * c_out for side, c_in, c_out in convolutions)
    return inside + inputs * config["dense_units"] + config["dense_units"] * data.classes


def activations(config: Mapping[str, Any], data: DataSpec) -> int:
    """Numbers that all layers together put out for one image, which training keeps until the backward pass."""
    convolutions, inputs = _widths(config, data)
    image = 2 * data.input_shape[0] * data.input_shape[1] * data.input_shape[2]
    inside = sum((side * side + (side // 2) ** 2) * c_out for side, _, c_out in convolutions)
    dense = config["dense_units"] * (2 if config["dropout"] > 0 else 1)
    return image + inside + inputs + dense + data.classes


def build(config: Mapping[str, Any], data: DataSpec) -> Any:
    """The Keras model: (batch, height, width, channels) uint8 to (batch, classes) float32 probabilities."""
    import keras

    layers = keras.layers
    image = uint8_input(data)
    x = normalise(image, "unit", data)
    for i in range(config["conv_layers"]):
        x = layers.Conv2D(config["filters"] * 2**i, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(config["dense_units"], activation="relu")(layers.Flatten()(x))
    x = layers.Dropout(config["dropout"])(x) if config["dropout"] > 0 else x
    return keras.Model(image, probabilities(x, data.classes), name="cnn")
