"""DenseNet for small images: the network, its parameter count, multiply-adds and activations by formula.

Source: Huang et al., "Densely Connected Convolutional Networks" (CVPR 2017), with the notebook's `reset`
transition, which narrows to growth_rate * compression channels instead of the paper's theta * channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from spaces.datasets import DataSpec
from spaces.models.inputs import normalise, probabilities, uint8_input

BOTTLENECK = 4


@dataclass(frozen=True)
class Shape:
    """The whole numbers that fix a DenseNet's size."""

    stem: int
    growth: int
    layers: int
    blocks: int
    bottleneck: bool
    reset: bool
    compression: float

    def narrowed(self, channels: int) -> int:
        """Channels after a transition from `channels`."""
        return self.growth if self.reset else max(1, int(channels * self.compression))


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape a configuration asks for; under `reset`, compression scales the growth convolutions too."""
    k, compression = config["growth_rate"], config["compression"]
    reset = config["transition"] == "reset"
    return Shape(
        stem=k,
        growth=max(1, int(k * compression)) if reset else k,
        layers=config["layers_per_block"],
        blocks=config["blocks"],
        bottleneck=config["bottleneck"],
        reset=reset,
        compression=compression,
    )


def _convolutions(shape: Shape, data: DataSpec) -> Iterator[tuple[int, int, int, int]]:
    """Every convolution as (side of its output, kernel, channels in, channels out); all but the first follow a BN."""
    side, channels = data.input_shape[0], shape.stem
    yield side, 3, data.input_shape[2], channels
    for block in range(shape.blocks):
        for _ in range(shape.layers):
            if shape.bottleneck:
                yield side, 1, channels, BOTTLENECK * shape.growth
                yield side, 3, BOTTLENECK * shape.growth, shape.growth
            else:
                yield side, 3, channels, shape.growth
            channels += shape.growth
        if block < shape.blocks - 1:
            narrow = shape.narrowed(channels)
            yield side, 1, channels, narrow
            side, channels = side // 2, narrow


def _head(shape: Shape, data: DataSpec) -> tuple[int, int]:
    """(channels of the last batch normalisation, inputs of the dense layer)."""
    channels = shape.stem
    for block in range(shape.blocks):
        channels += shape.layers * shape.growth
        if block < shape.blocks - 1:
            channels = shape.narrowed(channels)
    side = data.input_shape[0] // 2**shape.blocks
    return channels, side * side * channels


def params(config: Mapping[str, Any], data: DataSpec) -> int:
    """Parameters in all, batch normalisation's moving statistics included, as Keras counts them."""
    shape = shape_of(config)
    convolutions = list(_convolutions(shape, data))
    kernels = sum(kernel * kernel * c_in * c_out for _, kernel, c_in, c_out in convolutions)
    norms = sum(4 * c_in for _, _, c_in, _ in convolutions[1:])
    channels, inputs = _head(shape, data)
    return kernels + norms + 4 * channels + (inputs + 1) * data.classes


def multiply_adds(config: Mapping[str, Any], data: DataSpec) -> int:
    """Multiply-adds of the convolutions and the dense layer for one image, forward."""
    shape = shape_of(config)
    inside = sum(s * s * kernel * kernel * c_in * c_out for s, kernel, c_in, c_out in _convolutions(shape, data))
    return inside + _head(shape, data)[1] * data.classes


def activations(config: Mapping[str, Any], data: DataSpec) -> int:
    """Numbers that all layers together put out for one image, which training keeps until the backward pass."""
    shape, growth = shape_of(config), shape_of(config).growth
    copies = 2 if config["dropout"] > 0 else 1  # a dropped output is kept beside the undropped one
    side, channels = data.input_shape[0], shape.stem
    total = side * side * (2 * data.input_shape[2] + channels)  # the image, scaled; the stem
    for block in range(shape.blocks):
        for _ in range(shape.layers):
            narrow = 2 * channels + 3 * BOTTLENECK * growth if shape.bottleneck else 2 * channels
            channels += growth
            total += side * side * (narrow + copies * growth + channels)
        if block < shape.blocks - 1:
            narrow = shape.narrowed(channels)
            total += side * side * (2 * channels + copies * narrow)
            side, channels = side // 2, narrow
            total += side * side * channels
    return total + side * side * 2 * channels + 2 * _head(shape, data)[1] + data.classes


def build(config: Mapping[str, Any], data: DataSpec) -> Any:
    """The Keras model: (batch, height, width, channels) uint8 to (batch, classes) float32 probabilities."""
    import keras

    layers = keras.layers
    shape, dropout = shape_of(config), config["dropout"]

    def convolution(x: Any, filters: int, kernel: int) -> Any:
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        return layers.Conv2D(filters, kernel, padding="same", use_bias=False)(x)

    def dropped(x: Any) -> Any:
        return layers.Dropout(dropout)(x) if dropout > 0 else x

    image = uint8_input(data)
    x = normalise(image, config["scaling"], data)
    x = layers.Conv2D(shape.stem, 3, padding="same", use_bias=False)(x)
    for block in range(shape.blocks):
        for _ in range(shape.layers):
            new = convolution(x, BOTTLENECK * shape.growth, 1) if shape.bottleneck else x
            x = layers.Concatenate()([x, dropped(convolution(new, shape.growth, 3))])
        if block < shape.blocks - 1:
            x = dropped(convolution(x, shape.narrowed(x.shape[-1]), 1))
            x = layers.AveragePooling2D(2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    x = layers.AveragePooling2D(2)(x)
    return keras.Model(image, probabilities(layers.Flatten()(x), data.classes), name="densenet")
