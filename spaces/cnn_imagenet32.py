"""A plain CNN on Tiny ImageNet at 32x32: widths, dropout, activation, dense layers, optimizer.

Command:  python -m search run cnn_imagenet32
Cost:     on a GPU about a minute an epoch; the notebook took 1,055 to 1,085 s for each of its epochs. Without a GPU the
          search is cut to size.
Expected: the notebook reached a validation accuracy of 0.3138 (training 0.3029) with the baseline `notebook`.
Source:   experiment D. Its 10 epochs of 2,000 batches of 128 saw 2,560,000 images, which are 28 passes over the
          90,000 that are left to train on here: Tiny ImageNet has no test labels, so its validation part is the sealed
          one and validation images are cut from training.
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Cut, Space
from spaces.models import stack
from spaces.models.stack import Convolution, Dense, Stack

BLOCKS = (1, 2, 3)


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    for block in BLOCKS:
        hp.Choice(f"filters_{block}", [32, 64, 128, 256], ordered=True, default=64)
        hp.Float(f"dropout_{block}", 0.0, 0.5, step=0.01)
    hp.Boolean("norm")
    hp.Choice("dense_units_1", [128, 256, 512], ordered=True, default=256)
    hp.Float("dense_dropout_1", 0.0, 0.5, step=0.01)
    hp.Choice("dense_units_2", [128, 256, 512, 1024], ordered=True, default=512)
    hp.Float("dense_dropout_2", 0.0, 0.5, step=0.01)
    hp.Choice("activation", ["relu", "swish"])
    hp.Choice("scaling", ["unit", "standardise"])
    sample_recipe(hp, augmentations=("none", "flip", "flip_shift", "full"))
    return dict(hp.values)


def network(config: Config) -> Stack:
    """Three blocks of two convolutions, the second unpadded and pooled; two dense layers."""
    convolutions = []
    for block in BLOCKS:
        filters, norm = config[f"filters_{block}"], config["norm"]
        convolutions += [
            Convolution(filters=filters, same=True, norm=norm),
            Convolution(filters=filters, norm=norm, pool=True, dropout=config[f"dropout_{block}"]),
        ]
    return Stack(
        convolutions=convolutions,
        dense=[Dense(units=config[f"dense_units_{i}"], dropout=config[f"dense_dropout_{i}"]) for i in (1, 2)],
        activation=config["activation"],
        scaling=config["scaling"],
    )


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return read_recipe(config, patience=5)


SPACE = Space(
    name="cnn_imagenet32",
    summary="a plain CNN on Tiny ImageNet at 32x32: widths, dropout, activation, dense layers",
    dataset="tiny_imagenet@32",
    sample=sample,
    recipe=recipe,
    **stack.functions(network, "cnn_imagenet32"),
    epochs=30,
    trials=40,
    baselines=(
        Baseline(
            name="notebook",
            config={
                "filters_1": 64,
                "dropout_1": 0.25,
                "filters_2": 256,
                "dropout_2": 0.24,
                "filters_3": 128,
                "dropout_3": 0.25,
                "norm": False,
                "dense_units_1": 256,
                "dense_dropout_1": 0.35,
                "dense_units_2": 512,
                "dense_dropout_2": 0.24,
                "activation": "relu",
                "scaling": "unit",
                "optimizer": "adamax",
                "learning_rate": 1e-3,
                "weight_decay": 0.0,
                "batch_size": 128,
                "schedule": "constant",
                "augmentation": "flip",
            },
            epochs=28,
            always=True,
            source="experiment D, validation accuracy 0.3138",
        ),
    ),
    cut=Cut(train=3000, validation=600, epochs=4, trials=6, narrow={"filters_2": "32,64,128", "batch_size": "64,128"}),
    columns=("filters_1", "filters_2", "filters_3", "activation", "optimizer", "learning_rate"),
)
