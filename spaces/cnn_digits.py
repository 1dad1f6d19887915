"""A small CNN on scikit-learn's 8x8 digits: seconds a trial, for trying things out and for tests.

Command:  python -m search run cnn_digits
Cost:     about a minute on two cores (12 trials of at most 8 epochs), no download.
Expected: a validation accuracy of about 0.97 or better.
Source:   scikit-learn's digits (1,797 images, UCI's optical recognition of handwritten digits).
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Space
from spaces.models import stack
from spaces.models.stack import Convolution, Dense, Stack


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    hp.Int("conv_layers", 1, 2)
    hp.Choice("filters", [8, 16, 32], ordered=True)
    hp.Int("dense_units", 16, 64, step=16)
    hp.Float("dropout", 0.0, 0.5, step=0.1)
    sample_recipe(hp, batch_sizes=(16, 32, 64), schedules=("constant", "cosine"), augmentations=("none", "flip_shift"))
    return dict(hp.values)


def network(config: Config) -> Stack:
    """The layers of a configuration: every convolution is pooled and twice as wide as the one before."""
    return Stack(
        convolutions=[
            Convolution(filters=config["filters"] * 2**i, same=True, pool=True) for i in range(config["conv_layers"])
        ],
        dense=[Dense(units=config["dense_units"], dropout=config["dropout"])],
    )


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return read_recipe(config, patience=5)


SPACE = Space(
    name="cnn_digits",
    summary="a small CNN on scikit-learn's digits, seconds a trial: for trying things out",
    dataset="digits",
    sample=sample,
    recipe=recipe,
    **stack.functions(network, "cnn"),
    epochs=8,
    trials=12,
    baselines=(
        Baseline(
            name="plain",
            config={
                "conv_layers": 1,
                "filters": 16,
                "dense_units": 32,
                "dropout": 0.0,
                "optimizer": "adam",
                "learning_rate": 1e-3,
                "weight_decay": 0.0,
                "batch_size": 32,
                "schedule": "constant",
                "augmentation": "none",
            },
            epochs=8,
            always=True,
            source="a first guess",
        ),
    ),
    columns=("conv_layers", "filters", "dense_units", "optimizer", "learning_rate"),
)
