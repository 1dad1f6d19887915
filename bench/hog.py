"""A space whose networks really differ in memory, by a factor of ten, for measuring what is refused before launch.

Command:  python -m search run bench/hog.py --train-images 64 --validation-images 16 --epochs 1 --trial-memory 1500
Cost:     one to ten seconds a trial on two cores, 0.8 to 3 GB of memory.
Expected: nothing; 64 images are seen once.
Source:   none.
"""

from __future__ import annotations

from typing import Any

from spaces._hp import HyperParameters
from spaces._recipe import Recipe
from spaces._space import Config, Space
from spaces.datasets import DataSpec
from spaces.models.inputs import normalise, probabilities, uint8_input

SCALE = 8  # digits are enlarged, so that convolutions leave something behind


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    hp.Choice("batch_size", [4, 8, 16, 32, 64], ordered=True)
    hp.Int("layers", 1, 4)
    hp.Int("filters", 4, 32, step=4)
    hp.Choice("width", [64, 1024, 4096, 8192], ordered=True)
    hp.Choice("optimizer", ["adam", "sgd", "rmsprop"])
    hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    return dict(hp.values)


def build(config: Config, data: DataSpec) -> Any:
    """Convolutions at the enlarged size, pooling, two wide dense layers."""
    import keras

    layers = keras.layers
    image = uint8_input(data)
    x = layers.UpSampling2D(SCALE)(normalise(image, "unit", data))
    for _ in range(config["layers"]):
        x = layers.Conv2D(config["filters"], 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    for _ in range(2):
        x = layers.Dense(config["width"], activation="relu")(x)
    return keras.Model(image, probabilities(x, data.classes), name="hog")


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    names = ("batch_size", "optimizer", "learning_rate")
    return Recipe(**{name: config[name] for name in names})


def params(config: Config, data: DataSpec) -> int:
    """Parameters in all, as Keras counts them."""
    filters, width = config["filters"], config["width"]
    inputs = [data.input_shape[2], *[filters] * (config["layers"] - 1)]
    convolutions = sum((9 * c + 1) * filters for c in inputs)
    return convolutions + (filters + 1) * width + (width + 1) * width + (width + 1) * data.classes


def activations(config: Config, data: DataSpec) -> int:
    """Elements that one image leaves behind, the sum of all layers' outputs."""
    side, _, channels = data.input_shape
    area = (side * SCALE) ** 2
    small = 2 * side * side * channels  # the input and its scaling
    return (
        small + area * (channels + config["layers"] * config["filters"]) + config["filters"] + 2 * config["width"] + 10
    )


def multiply_adds(config: Config, data: DataSpec) -> int:
    """Multiply-adds for one image, forward."""
    side, _, channels = data.input_shape
    filters, width = config["filters"], config["width"]
    inputs = [channels, *[filters] * (config["layers"] - 1)]
    return sum((side * SCALE) ** 2 * 9 * c * filters for c in inputs) + (filters + width + data.classes) * width


SPACE = Space(
    name="hog",
    summary="networks of very different size on enlarged digits: for measuring what is refused before launch",
    dataset="digits",
    sample=sample,
    build=build,
    recipe=recipe,
    params=params,
    activations=activations,
    multiply_adds=multiply_adds,
    epochs=1,
    trials=100,
    columns=("batch_size", "layers", "filters", "width"),
)
