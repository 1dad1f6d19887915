"""A full grid of 1,152 small CNNs on 1,000 images of Fashion-MNIST, each trained to its end: what `auto` is tuned on.

Command:  python -m bench.record fashion       (every point, some of them with three seeds)
          python -m search run bench/grids/fashion.py --executor simulate --table bench/tables/fashion.json.xz
Cost:     about six seconds of one core a training, about an hour and a half of two cores for the table.
Expected: validation accuracies from 0.10, where training diverges, to about 0.85.
Source:   none; the points are there to tell ways of searching apart, good ones and bad ones alike.
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe
from spaces._space import Config, Space
from spaces.models import stack
from spaces.models.stack import Convolution, Dense, Stack


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration; all that can be drawn are 1,152."""
    hp.Float("learning_rate", 1e-4, 0.1024, step=4, sampling="log", default=1.6e-3)
    hp.Choice("optimizer", ["adam", "rmsprop", "sgd"])
    with hp.conditional_scope("optimizer", "sgd"):
        hp.Choice("momentum", [0.0, 0.9], ordered=True, default=0.9)
    hp.Int("conv_layers", 1, 2)
    hp.Int("filters", 4, 16, step=2, sampling="log", default=8)
    hp.Choice("kernel", [3, 5], ordered=True)
    hp.Float("dropout", 0.0, 0.4, step=0.4)
    hp.Choice("batch_size", [32, 128], ordered=True)
    return dict(hp.values)


def network(config: Config) -> Stack:
    """The layers of a configuration: every convolution is pooled and twice as wide as the one before."""
    return Stack(
        convolutions=[
            Convolution(filters=config["filters"] * 2**i, kernel=config["kernel"], same=True, pool=True)
            for i in range(config["conv_layers"])
        ],
        dense=[Dense(units=32, dropout=config["dropout"])],
    )


def recipe(config: Config) -> Recipe:
    """How a configuration is trained: to its end."""
    return Recipe(
        batch_size=config["batch_size"],
        optimizer=config["optimizer"],
        learning_rate=config["learning_rate"],
        momentum=config.get("momentum", 0.0),
        patience=None,
    )


SPACE = Space(
    name="fashion_grid",
    summary="a full grid of small CNNs on a little of Fashion-MNIST, every point of which is recorded",
    dataset="fashion_mnist",
    sample=sample,
    recipe=recipe,
    **stack.functions(network, "fashion_grid"),
    epochs=27,
    trials=100,
    train_images=1_000,
    validation_images=1_500,
    columns=("learning_rate", "optimizer", "conv_layers", "filters", "batch_size"),
)
