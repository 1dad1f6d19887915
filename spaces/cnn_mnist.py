"""CNNs on MNIST: how many convolutions, their kernels, pooling, dropout and batch normalisation, which optimizer.

Command:  python -m search run cnn_mnist --baselines-only     (the notebooks' five networks, and nothing else)
Cost:     the five take about two hours on two cores (network 3 alone most of it), minutes on a GPU. Without
          a GPU a search is cut to 6,000 images.
Expected: test accuracies of the notebooks, in order: 0.9836, 0.9877, 0.9895, 0.9625, 0.9880. What they called
          validation was the test set, so these flatter a little.
Source:   experiment J, a notebook that compared five networks in one table. Convolutions are not padded;
          batch size 512, 5 epochs. Adadelta is Zeiler's, with its steps as they come (learning rate 1.0).
"""

from __future__ import annotations

from typing import Any

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Cut, Space
from spaces.models import stack
from spaces.models.stack import Convolution, Dense, Stack

FILTERS = (16, 32, 64, 128)


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    hp.Int("conv_layers", 2, 3)
    for i in (1, 2):
        hp.Choice(f"filters_{i}", FILTERS, ordered=True, default=32)
        hp.Choice(f"kernel_{i}", [3, 5], ordered=True)
        hp.Boolean(f"pool_{i}")
        hp.Float(f"dropout_{i}", 0.0, 0.5, step=0.05)
    with hp.conditional_scope("conv_layers", 3):  # its kernel is 3: 5 would not fit what is left of 28 pixels
        hp.Choice("filters_3", FILTERS, ordered=True, default=32)
        hp.Boolean("pool_3")
        hp.Float("dropout_3", 0.0, 0.5, step=0.05)
    hp.Choice("conv_norm", ["none", "last", "features"])
    hp.Choice("dense_units", [32, 64, 128, 256], ordered=True)
    hp.Choice("dense_units_2", [0, 32, 64, 128], ordered=True)
    hp.Boolean("dense_norm")
    hp.Float("dense_dropout", 0.0, 0.5, step=0.05)
    sample_recipe(
        hp,
        optimizers=("adadelta", "adam", "rmsprop", "sgd"),
        batch_sizes=(64, 128, 256, 512),
        schedules=("constant", "cosine"),
        augmentations=("none", "shift", "shift_turn"),
    )
    return dict(hp.values)


def network(config: Config) -> Stack:
    """The layers of a configuration.

    `conv_norm` puts a batch normalisation behind the last convolution (`last`) or behind its pooling and dropout
    (`features`); `dense_norm` behind the last dense layer.
    """
    last = config["conv_layers"]
    convolutions = [
        Convolution(
            filters=config[f"filters_{i}"],
            kernel=config[f"kernel_{i}"] if i < 3 else 3,
            pool=config[f"pool_{i}"],
            dropout=config[f"dropout_{i}"],
            norm=i == last and config["conv_norm"] == "last",
            late_norm=i == last and config["conv_norm"] == "features",
        )
        for i in range(1, last + 1)
    ]
    units = [n for n in (config["dense_units"], config["dense_units_2"]) if n]
    dense = [
        Dense(
            units=n,
            norm=i == len(units) - 1 and config["dense_norm"],
            dropout=config["dense_dropout"] if i == len(units) - 1 else 0.0,
        )
        for i, n in enumerate(units)
    ]
    return Stack(convolutions=convolutions, dense=dense)


def recipe(config: Config) -> Recipe:
    """How a configuration is trained; nothing stops early in five epochs."""
    return read_recipe(config)


def _notebook(**changes: Any) -> Config:
    """One of the notebook's networks: what all five share, and its own."""
    plain: Config = {"conv_layers": 3, "conv_norm": "none", "dense_units_2": 0, "dense_norm": False}
    plain |= {"dense_dropout": 0.0, "weight_decay": 0.0, "batch_size": 512, "schedule": "constant"}
    plain |= {"augmentation": "none", "optimizer": "adadelta"}
    found = plain | changes
    for i in range(1, found["conv_layers"] + 1):
        ours = {f"pool_{i}": False, f"dropout_{i}": 0.0} | ({f"kernel_{i}": 3} if i < 3 else {})
        found = ours | found
    return found


NETWORKS = {
    "network_1": (
        0.9836,
        _notebook(
            filters_1=32, filters_2=64, pool_2=True, dropout_2=0.25, filters_3=128, pool_3=True, dense_units=128,
            dense_dropout=0.5,
        ),
    ),
    "network_2": (
        0.9877,
        _notebook(
            conv_layers=2, filters_1=32, filters_2=64, pool_2=True, dropout_2=0.25, dense_units=128, dense_dropout=0.5
        ),
    ),
    "network_3": (
        0.9895,
        _notebook(
            filters_1=128, filters_2=64, kernel_2=5, pool_2=True, filters_3=32, pool_3=True, conv_norm="last",
            dense_units=128, dense_units_2=32, dense_norm=True, optimizer="adam", learning_rate=1e-3,
        ),
    ),
    "network_4": (
        0.9625,
        _notebook(
            filters_1=64, pool_1=True, filters_2=32, kernel_2=5, dropout_2=0.25, filters_3=16, pool_3=True,
            dropout_3=0.4, conv_norm="features", dense_units=64,
        ),
    ),
    "network_5": (
        0.9880,
        _notebook(
            conv_layers=2, filters_1=64, pool_1=True, filters_2=32, kernel_2=5, pool_2=True, dropout_2=0.4,
            conv_norm="features", dense_units=64,
        ),
    ),
}  # fmt: skip

SPACE = Space(
    name="cnn_mnist",
    summary="CNNs on MNIST: convolutions, kernels, pooling, dropout, batch normalisation, optimizer",
    dataset="mnist",
    sample=sample,
    recipe=recipe,
    **stack.functions(network, "cnn_mnist"),
    epochs=5,
    trials=40,
    baselines=tuple(
        Baseline(
            name=name,
            config=config,
            epochs=5,
            always=name == "network_5",
            source=f"experiment J, test accuracy {accuracy:.4f}",
        )
        for name, (accuracy, config) in NETWORKS.items()
    ),
    cut=Cut(train=6000, validation=1000, epochs=5, trials=12),
    columns=("conv_layers", "kernel_1", "kernel_2", "conv_norm", "optimizer", "dense_units"),
)
