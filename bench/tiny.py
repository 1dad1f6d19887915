"""A space whose trials do next to nothing, for measuring what a trial costs beside its training.

Command:  python -m search run bench/tiny.py --train-images 10 --validation-images 10 --sampler random --pruner none
Cost:     less than a second a trial.
Expected: nothing; one dense layer sees ten images once.
Source:   none.
"""

from __future__ import annotations

from typing import Any

from spaces._hp import HyperParameters
from spaces._recipe import Recipe
from spaces._space import Config, Space
from spaces.datasets import DataSpec
from spaces.models.inputs import normalise, probabilities, uint8_input


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    return dict(hp.values)


def build(config: Config, data: DataSpec) -> Any:
    """One dense layer."""
    import keras

    image = uint8_input(data)
    x = keras.layers.Flatten()(normalise(image, "unit", data))
    return keras.Model(image, probabilities(x, data.classes), name="tiny")


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return Recipe(batch_size=10, optimizer="sgd", learning_rate=config["learning_rate"])


def multiply_adds(config: Config, data: DataSpec) -> int:
    """Multiply-adds for one image, forward."""
    side, width, channels = data.input_shape
    return side * width * channels * data.classes


def params(config: Config, data: DataSpec) -> int:
    """Parameters in all."""
    return multiply_adds(config, data) + data.classes


SPACE = Space(
    name="tiny",
    summary="one dense layer on ten digits: for measuring the search itself",
    dataset="digits",
    sample=sample,
    build=build,
    recipe=recipe,
    params=params,
    multiply_adds=multiply_adds,
    epochs=1,
    trials=1000,
    columns=("learning_rate",),
)
