"""Ten points on scikit-learn's digits, three epochs each: a grid for tests.

Command:  python -m bench.record tests/bench/grids/digits.py
Cost:     a second a training.
Expected: validation accuracies from 0.10 to about 0.90.
Source:   none.
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe
from spaces._space import Config, Space
from spaces.models import stack
from spaces.models.stack import Convolution, Stack


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    hp.Choice("optimizer", ["adam", "sgd"])
    with hp.conditional_scope("optimizer", "sgd"):
        hp.Choice("momentum", [0.0, 0.9], ordered=True)
    hp.Float("learning_rate", 1e-3, 1.0, step=10, sampling="log")
    return dict(hp.values)


def network(config: Config) -> Stack:
    """One convolution."""
    return Stack(convolutions=[Convolution(filters=4, pool=True)])


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return Recipe(
        batch_size=50,
        optimizer=config["optimizer"],
        learning_rate=config["learning_rate"],
        momentum=config.get("momentum", 0.0),
        patience=None,
    )


SPACE = Space(
    name="digits_grid",
    summary="a grid for tests",
    dataset="digits",
    sample=sample,
    recipe=recipe,
    **stack.functions(network, "digits_grid"),
    epochs=3,
    trials=12,
    train_images=200,
    validation_images=100,
)
