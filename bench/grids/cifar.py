"""A full grid of 1,008 batch-normalised CNNs on 1,000 images of CIFAR-10, each trained to its end: the report table.

Command:  python -m bench.record cifar         (every point, some of them with three seeds)
Cost:     about eight seconds of one core a training, about two hours of two cores for the table.
Expected: validation accuracies from 0.10, where training diverges, to about 0.40.
Source:   the laboration's network (spaces/cnn_lab_cifar10.py); what is measured on it is reported once.
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe
from spaces._space import Config, Space
from spaces.models import stack
from spaces.models.stack import Convolution, Dense, Stack


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration; all that can be drawn are 1,008."""
    hp.Int("conv_layers", 1, 3)
    hp.Choice("filters", [8, 16], ordered=True)
    hp.Int("dense_layers", 0, 1)
    with hp.conditional_scope("dense_layers", 1):
        hp.Float("dropout", 0.0, 0.5, step=0.5)
    hp.Choice("activation", ["relu", "swish"])
    hp.Choice("optimizer", ["adam", "adamw", "sgd"])
    with hp.conditional_scope("optimizer", "sgd"):
        hp.Choice("momentum", [0.0, 0.9], ordered=True, default=0.9)
    hp.Float("learning_rate", 1e-4, 0.4096, step=4, sampling="log", default=1.6e-3)
    return dict(hp.values)


def network(config: Config) -> Stack:
    """The layers of a configuration: every layer is normalised, every convolution pooled."""
    dense = [Dense(units=50, norm=True, dropout=config["dropout"])] if config["dense_layers"] else []
    return Stack(
        convolutions=[Convolution(filters=config["filters"], same=True, norm=True, pool=True)] * config["conv_layers"],
        dense=dense,
        activation=config["activation"],
        scaling="signed",
    )


def recipe(config: Config) -> Recipe:
    """How a configuration is trained: to its end."""
    return Recipe(
        batch_size=100,
        optimizer=config["optimizer"],
        learning_rate=config["learning_rate"],
        weight_decay=0.01 if config["optimizer"] == "adamw" else 0.0,
        momentum=config.get("momentum", 0.0),
        patience=None,
    )


SPACE = Space(
    name="cifar_grid",
    summary="a full grid of batch-normalised CNNs on a little of CIFAR-10, every point of which is recorded",
    dataset="cifar10",
    sample=sample,
    recipe=recipe,
    **stack.functions(network, "cifar_grid"),
    epochs=27,
    trials=100,
    train_images=1_000,
    validation_images=1_000,
    columns=("conv_layers", "filters", "dense_layers", "optimizer", "learning_rate"),
)
