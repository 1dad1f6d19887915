"""A small CNN on a fifth of CIFAR-10: how many convolutions and dense layers, class weights, scaling, augmentation.

Command:  python -m search run cnn_lab_cifar10 --baselines-only     (the laboration's networks, and nothing else)
Cost:     about a minute a trial on two cores. Without a GPU a search is cut to 10 trials.
Expected: test accuracies of the laboration: 0.5290, 0.5435, 0.5030, 0.5505 (with dropout) and 0.5460 (with class
          weights, and 0.2220 on images rotated by 90 degrees); 0.5930 after 70 epochs with augmentation.
Source:   experiment K, a course's laboration: 7,500 images to train on and 2,500 to validate, pixels from -1 to
          1, batch size 100, 20 epochs, learning rate 0.01, the optimizer not stated and taken as Adam. It took
          the first 10,000 images and measured on the first 2,000 of the test set; here the images are a
          stratified draw of the same size and promotion measures on the whole test set. The augmented network
          was not stated either and is taken as (2, 1x50); its epochs were 60 batches long, here they are 75.
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Cut, Space
from spaces.models import stack
from spaces.models.stack import Convolution, Dense, Stack


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    hp.Int("conv_layers", 1, 4, default=2)
    hp.Choice("filters_first", [16, 32], ordered=True)
    hp.Choice("filters", [16, 32, 64], ordered=True, default=32)
    hp.Int("dense_layers", 0, 2)
    with hp.conditional_scope("dense_layers", [1, 2]):
        hp.Choice("dense_units", [25, 50, 100, 200], ordered=True, default=50)
        hp.Float("dropout", 0.0, 0.5, step=0.1)
    hp.Choice("activation", ["relu", "swish"])
    hp.Choice("scaling", ["signed", "unit", "standardise"])
    hp.Choice("class_weights", ["none", "balanced"])
    sample_recipe(
        hp,
        batch_sizes=(50, 100, 200),
        schedules=("constant", "cosine", "plateau"),
        augmentations=("none", "flip_shift", "turn_flips"),
    )
    return dict(hp.values)


def network(config: Config) -> Stack:
    """The layers of a configuration: every convolution and dense layer is normalised, every convolution pooled."""
    widths = [config["filters_first"]] + [config["filters"]] * (config["conv_layers"] - 1)
    units = config["dense_units"] if config["dense_layers"] else 0
    return Stack(
        convolutions=[Convolution(filters=n, same=True, norm=True, pool=True) for n in widths],
        dense=[Dense(units=units, norm=True, dropout=config["dropout"]) for _ in range(config["dense_layers"])],
        activation=config["activation"],
        scaling=config["scaling"],
    )


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return read_recipe(config, balanced=config["class_weights"] == "balanced")


LABORATION: Config = {
    "conv_layers": 2,
    "filters_first": 16,
    "filters": 32,
    "dense_layers": 0,
    "activation": "relu",
    "scaling": "signed",
    "class_weights": "none",
    "optimizer": "adam",
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "batch_size": 100,
    "schedule": "constant",
    "augmentation": "none",
}
DENSE: Config = {"dense_layers": 1, "dense_units": 50, "dropout": 0.0}

SPACE = Space(
    name="cnn_lab_cifar10",
    summary="a small CNN on a fifth of CIFAR-10: depth, dense layers, class weights, scaling, augmentation",
    dataset="cifar10",
    sample=sample,
    recipe=recipe,
    **stack.functions(network, "cnn_lab_cifar10"),
    epochs=70,
    trials=40,
    train_images=7_500,
    validation_images=2_500,
    baselines=(
        Baseline(
            name="conv_2",
            config=LABORATION,
            epochs=20,
            always=True,
            source="experiment K, 25,770 parameters, test accuracy 0.5290",
        ),
        Baseline(
            name="conv_2_dense",
            config=LABORATION | DENSE,
            epochs=20,
            source="experiment K, 108,440 parameters, test accuracy 0.5435",
        ),
        Baseline(
            name="conv_4_dense",
            config=LABORATION | DENSE | {"conv_layers": 4},
            epochs=20,
            source="experiment K, 31,192 parameters, test accuracy 0.5030",
        ),
        Baseline(
            name="conv_4_dropout",
            config=LABORATION | DENSE | {"conv_layers": 4, "dropout": 0.5},
            epochs=20,
            source="experiment K, test accuracy 0.5505",
        ),
        Baseline(
            name="class_weights",
            config=LABORATION | DENSE | {"class_weights": "balanced"},
            epochs=20,
            source="experiment K, test accuracy 0.5460, rotated by 90 degrees 0.2220",
        ),
        Baseline(
            name="augmented",
            config=LABORATION | DENSE | {"augmentation": "turn_flips"},
            epochs=70,
            source="experiment K, test accuracy 0.5930, rotated by 90 degrees 0.3100",
        ),
    ),
    cut=Cut(train=7_500, validation=2_500, epochs=20, trials=10),
    columns=("conv_layers", "dense_layers", "activation", "optimizer", "learning_rate"),
)
