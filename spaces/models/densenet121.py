"""Keras' DenseNet121 with a head of dense layers, its first layers frozen as they were pretrained.

Source: Huang et al., "Densely Connected Convolutional Networks" (CVPR 2017), as keras.applications has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from spaces import _weights
from spaces._hp import HyperParameters
from spaces.datasets import DataSpec
from spaces.models.inputs import probabilities, uint8_input

LAYERS = 427  # of the network without its top
FEATURES = 1024
# How many are frozen: none, the notebook's twelve, all before the second, third and fourth block, all.
STAGES = (0, 12, 53, 141, 313, LAYERS)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_PARAMS = 7_037_504  # with three channels
_KERNEL = 7 * 7 * 64  # of the first convolution, a channel
_MULTIPLY_ADDS = 2_834_000_000  # at 224x224


def sample(hp: HyperParameters, weights: Sequence[str] | None = None) -> None:
    """Draw what `build` reads; `weights` are those to choose from, by default ImageNet's, none, and one's own file."""
    hp.Choice("weights", weights or _weights.choices())
    hp.Choice("frozen_layers", STAGES, ordered=True)
    hp.Int("dense_layers", 0, 2, default=1)
    with hp.conditional_scope("dense_layers", [1, 2]):
        hp.Choice("activation", ["relu", "swish"])
        hp.Choice("dense_units", [128, 256, 512, 1024], ordered=True, default=512)
    hp.Float("dropout", 0.0, 0.5, step=0.05)


def fetch(values: Mapping[str, Sequence[Any]], say: Callable[[str], None]) -> None:
    """Make sure of the weights that trials may draw. Raises DatasetUnavailable with one line."""
    _weights.ensure(tuple(values["weights"]), _weights.DENSENET121, say)


def _widths(config: Mapping[str, Any], data: DataSpec) -> list[int]:
    units = [config["dense_units"]] * config["dense_layers"] if config["dense_layers"] else []
    return [FEATURES, *units, data.classes]


def params(config: Mapping[str, Any], data: DataSpec) -> int:
    """Parameters in all, batch normalisation's moving statistics included, as Keras counts them."""
    base = _PARAMS + (data.input_shape[2] - 3) * _KERNEL
    return base + sum((a + 1) * b for a, b in pairwise(_widths(config, data)))


def _share(data: DataSpec) -> float:
    return data.input_shape[0] * data.input_shape[1] / 224**2


def multiply_adds(config: Mapping[str, Any], data: DataSpec) -> int:
    """Multiply-adds for one image, forward; of the convolutions nearly, by the images' area."""
    return int(_MULTIPLY_ADDS * _share(data)) + sum(a * b for a, b in pairwise(_widths(config, data)))


def build(config: Mapping[str, Any], data: DataSpec) -> Any:
    """The Keras model: (batch, height, width, channels) uint8 to (batch, classes) float32 probabilities."""
    import keras

    layers = keras.layers
    base = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=data.input_shape, pooling="avg")
    file = _weights.path(config["weights"], _weights.DENSENET121)
    if file is not None:
        base.load_weights(str(file))
    for layer in base.layers[: config["frozen_layers"]]:
        layer.trainable = False
    image = uint8_input(data)
    mean, variance = [255 * m for m in IMAGENET_MEAN], [(255 * s) ** 2 for s in IMAGENET_STD]
    if data.input_shape[2] == 1:
        mean, variance = [sum(mean) / 3], [sum(variance) / 3]
    x = layers.Normalization(mean=mean, variance=variance, dtype="float32", name="imagenet_scale")(image)
    x = base(x)
    for _ in range(config["dense_layers"]):
        x = layers.Dense(config["dense_units"], activation=config["activation"])(x)
        x = layers.Dropout(config["dropout"])(x) if config["dropout"] > 0 else x
    if not config["dense_layers"] and config["dropout"] > 0:
        x = layers.Dropout(config["dropout"])(x)
    return keras.Model(image, probabilities(x, data.classes), name="densenet121")
