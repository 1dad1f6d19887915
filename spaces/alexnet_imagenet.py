"""AlexNet on Tiny ImageNet: the second kernel, widths of the dense layers, dropout, optimizer.

Command:  python -m search run alexnet_imagenet
Cost:     76 million parameters and 224x224 pixels: minutes an epoch on a GPU, and nothing for a processor (without a
          GPU the search is cut to a few hundred images, which only shows that it runs).
Expected: the notebook had 0.05 after the one epoch that it ran.
Source:   experiment G, after Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks"
          (2012). Its parameters are 76,210,032 with a 5x5 second convolution, and 78,569,328 with the 11x11 one that
          its layer table shows. Images are 64x64 and enlarged to 224x224 by the network's own first layer.
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Cut, Space
from spaces.models import stack
from spaces.models.stack import Convolution, Dense, Stack

SIDE = 224


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    hp.Choice("kernel_2", [3, 5, 7, 11], ordered=True, default=5)
    hp.Boolean("norm")
    hp.Choice("dense_units_1", [1024, 2048, 4096], ordered=True, default=4096)
    hp.Choice("dense_units_2", [1024, 2048, 4096], ordered=True, default=4096)
    hp.Choice("dense_units_3", [0, 500, 1000], ordered=True, default=1000)
    hp.Float("dropout", 0.0, 0.6, step=0.05, default=0.4)
    hp.Choice("activation", ["relu", "swish"])
    hp.Choice("scaling", ["unit", "standardise"])
    sample_recipe(hp, batch_sizes=(32, 64, 128), augmentations=("none", "flip", "flip_shift", "full"))
    return dict(hp.values)


def network(config: Config) -> Stack:
    """AlexNet, all of its convolutions padded; behind each dense layer its dropout."""
    norm = config["norm"]
    units = [config[f"dense_units_{i}"] for i in (1, 2, 3)]
    return Stack(
        convolutions=[
            Convolution(filters=96, kernel=11, stride=4, same=True, norm=norm, pool=True),
            Convolution(filters=256, kernel=config["kernel_2"], same=True, norm=norm, pool=True),
            Convolution(filters=384, same=True, norm=norm),
            Convolution(filters=384, same=True, norm=norm),
            Convolution(filters=256, same=True, norm=norm, pool=True),
        ],
        dense=[Dense(units=n, dropout=config["dropout"]) for n in units if n],
        activation=config["activation"],
        scaling=config["scaling"],
        side=SIDE,
    )


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return read_recipe(config, patience=5)


NOTEBOOK: Config = {
    "kernel_2": 5,
    "norm": False,
    "dense_units_1": 4096,
    "dense_units_2": 4096,
    "dense_units_3": 1000,
    "dropout": 0.4,
    "activation": "relu",
    "scaling": "unit",
    "optimizer": "adamax",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 128,
    "schedule": "constant",
    "augmentation": "none",
}

SPACE = Space(
    name="alexnet_imagenet",
    summary="AlexNet on Tiny ImageNet: second kernel, dense layers, dropout, optimizer",
    dataset="tiny_imagenet",
    sample=sample,
    recipe=recipe,
    **stack.functions(network, "alexnet"),
    epochs=30,
    trials=20,
    baselines=(
        Baseline(
            name="notebook",
            config=NOTEBOOK,
            epochs=1,
            always=True,
            source="experiment G, 76,210,032 parameters with a second kernel of 5; 0.05 after one epoch",
        ),
        Baseline(
            name="kernel_11",
            config=NOTEBOOK | {"kernel_2": 11},
            epochs=1,
            source="experiment G as its layer table has it, 78,569,328 parameters",
        ),
    ),
    cut=Cut(
        train=200,
        validation=200,
        epochs=1,
        trials=3,
        narrow={"dense_units_1": "1024", "dense_units_2": "1024", "batch_size": "32"},
    ),
    columns=("kernel_2", "dense_units_1", "dense_units_2", "dense_units_3", "optimizer", "learning_rate"),
)
