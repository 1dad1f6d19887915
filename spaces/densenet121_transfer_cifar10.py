"""Transfer learning: a pretrained DenseNet121 with its first layers kept and a new head, on CIFAR-10.

Command:  python -m search run densenet121_transfer_cifar10
Cost:     on a GPU minutes a trial; the notebook took 206 s an epoch. Without a GPU the search is cut to size.
          The ImageNet weights (29 MB) are fetched once, as Keras does; without a network: weights=none, or a file in
          SEARCH_WEIGHTS.
Expected: the notebook reached a test accuracy of 0.7698 with Swish (training 0.8606) and a validation accuracy of
          0.7313 with ReLU, what it validated on being mostly the test set.
Source:   experiment E: the first 12 layers kept as they were, dense 512, 512, 10, dropout 0.35, Adamax, batch 16,
          5 epochs. Whether the layers behind the twelfth were trained is not said and taken so.
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Cut, Space
from spaces.models import densenet121


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    densenet121.sample(hp)
    sample_recipe(hp, batch_sizes=(16, 32, 64, 128))
    return dict(hp.values)


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return read_recipe(config, patience=5)


NOTEBOOK: Config = {
    "weights": "imagenet",
    "frozen_layers": 12,
    "activation": "swish",
    "dense_layers": 2,
    "dense_units": 512,
    "dropout": 0.35,
    "optimizer": "adamax",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 16,
    "schedule": "constant",
    "augmentation": "none",
}

SPACE = Space(
    name="densenet121_transfer_cifar10",
    summary="a pretrained DenseNet121 on CIFAR-10: layers kept, activation, head, optimizer",
    dataset="cifar10",
    sample=sample,
    build=densenet121.build,
    recipe=recipe,
    params=densenet121.params,
    multiply_adds=densenet121.multiply_adds,
    fetch=densenet121.fetch,
    epochs=20,
    trials=30,
    baselines=(
        Baseline(
            name="swish",
            config=NOTEBOOK,
            epochs=5,
            always=True,
            source="experiment E, test accuracy 0.7698",
        ),
        Baseline(
            name="relu",
            config=NOTEBOOK | {"activation": "relu"},
            epochs=5,
            source="experiment E, validation accuracy 0.7313",
        ),
    ),
    cut=Cut(train=500, validation=200, epochs=2, trials=4, narrow={"batch_size": "16,32"}),
    columns=("weights", "frozen_layers", "activation", "dense_layers", "optimizer", "learning_rate"),
)
