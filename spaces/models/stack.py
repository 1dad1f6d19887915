"""Convolutions and dense layers in a row, each with its own width, kernel, pooling and dropout; sizes by formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from spaces.datasets import DataSpec
from spaces.models.inputs import normalise, probabilities, uint8_input


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One convolution and what follows it, in this order: activation, `norm`, `pool`, dropout, `late_norm`.

    `norm` and `late_norm` are batch normalisations; `pool` halves the sides; `dropout` is a share, 0 for none.
    """

    filters: int
    kernel: int = 3
    stride: int = 1
    same: bool = False
    bias: bool = True
    norm: bool = False
    pool: bool = False
    dropout: float = 0.0
    late_norm: bool = False


@dataclass(frozen=True, kw_only=True)
class Dense:
    """One dense layer and what follows it: activation, batch normalisation where `norm`, dropout."""

    units: int
    norm: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A whole network: convolutions, flatten, dense layers, softmax over the classes.

    `side` is that to which images are resized first, in pixels; None takes them as they are.
    """

    convolutions: Sequence[Convolution]
    dense: Sequence[Dense] = ()
    activation: str = "relu"
    scaling: str = "unit"
    side: int | None = None


@dataclass(frozen=True)
class _Place:
    """A convolution where it stands: the side and channels that come in, the sides after it and after its pooling."""

    layer: Convolution
    side_in: int
    channels: int
    side: int
    out: int


def _side(stack: Stack, data: DataSpec) -> int:
    return stack.side or data.input_shape[0]


def _places(stack: Stack, data: DataSpec) -> list[_Place]:
    side, channels, found = _side(stack, data), data.input_shape[2], []
    for layer in stack.convolutions:
        convolved = -(-side // layer.stride) if layer.same else (side - layer.kernel) // layer.stride + 1
        out = convolved // 2 if layer.pool else convolved
        found.append(_Place(layer, side, channels, convolved, out))
        side, channels = out, layer.filters
    return found


def least_side(stack: Stack, data: DataSpec) -> int:
    """The smallest side in pixels that any layer puts out; 0 or less where the network does not fit its images."""
    return min((min(p.side, p.out) for p in _places(stack, data)), default=_side(stack, data))


def _widths(stack: Stack, data: DataSpec) -> list[int]:
    """Inputs of the first dense layer, then the outputs of each, the softmax's last."""
    places = _places(stack, data)
    flat = places[-1].out ** 2 * places[-1].layer.filters if places else _side(stack, data) ** 2 * data.input_shape[2]
    return [flat, *(layer.units for layer in stack.dense), data.classes]


def params(stack: Stack, data: DataSpec) -> int:
    """Parameters in all, batch normalisation's moving statistics included, as Keras counts them."""
    total = 0
    for p in _places(stack, data):
        total += (p.layer.kernel**2 * p.channels + p.layer.bias) * p.layer.filters
        total += 4 * p.layer.filters * (p.layer.norm + p.layer.late_norm)
    widths = _widths(stack, data)
    total += sum((a + 1) * b for a, b in pairwise(widths))
    return total + sum(4 * layer.units for layer in stack.dense if layer.norm)


def multiply_adds(stack: Stack, data: DataSpec) -> int:
    """Multiply-adds of convolutions and dense layers for one image, forward."""
    inside = sum(p.side**2 * p.layer.kernel**2 * p.channels * p.layer.filters for p in _places(stack, data))
    return inside + sum(a * b for a, b in pairwise(_widths(stack, data)))


def activations(stack: Stack, data: DataSpec) -> int:
    """Numbers that all layers together put out for one image, which training keeps until the backward pass."""
    height, width, channels = data.input_shape
    total = 2 * height * width * channels + (stack.side or 0) ** 2 * channels  # the image, scaled, resized
    for p in _places(stack, data):
        total += p.side**2 * p.layer.filters * (1 + p.layer.norm)
        after = p.layer.pool + (p.layer.dropout > 0) + p.layer.late_norm
        total += p.out**2 * p.layer.filters * after
    widths = _widths(stack, data)
    total += widths[0] + data.classes
    return total + sum(layer.units * (1 + layer.norm + (layer.dropout > 0)) for layer in stack.dense)


def functions(network: Callable[[dict[str, Any]], Stack], name: str) -> dict[str, Any]:
    """What a Space is given of networks that are stacks, by its arguments' names: build and the three formulas."""
    return {
        "build": lambda config, data: build(network(config), data, name),
        "params": lambda config, data: params(network(config), data),
        "multiply_adds": lambda config, data: multiply_adds(network(config), data),
        "activations": lambda config, data: activations(network(config), data),
    }


def build(stack: Stack, data: DataSpec, name: str) -> Any:
    """The Keras model: (batch, height, width, channels) uint8 to (batch, classes) float32 probabilities."""
    import keras

    layers = keras.layers

    def dropped(x: Any, rate: float) -> Any:
        return layers.Dropout(rate)(x) if rate > 0 else x

    image = uint8_input(data)
    x = normalise(image, stack.scaling, data)
    x = layers.Resizing(stack.side, stack.side)(x) if stack.side else x
    for layer in stack.convolutions:
        x = layers.Conv2D(
            layer.filters,
            layer.kernel,
            strides=layer.stride,
            padding="same" if layer.same else "valid",
            use_bias=layer.bias,
            activation=stack.activation,
        )(x)
        x = layers.BatchNormalization()(x) if layer.norm else x
        x = layers.MaxPooling2D(2)(x) if layer.pool else x
        x = dropped(x, layer.dropout)
        x = layers.BatchNormalization()(x) if layer.late_norm else x
    x = layers.Flatten()(x)
    for dense in stack.dense:
        x = layers.Dense(dense.units, activation=stack.activation)(x)
        x = layers.BatchNormalization()(x) if dense.norm else x
        x = dropped(x, dense.dropout)
    return keras.Model(image, probabilities(x, data.classes), name=name)
