"""DenseNet121 from scratch on Tiny ImageNet at 32x32.

Command:  python -m search run densenet121_imagenet32
Cost:     on a GPU minutes an epoch; the notebook took 236 s. Without a GPU the search is cut to size.
Expected: the notebook reached a validation accuracy of 0.1578 after 10 epochs (baseline `dense_1024`).
Source:   experiment H: Adamax, batch 128, ReLU. Its first run, of 5 epochs with dropout 0.4, apparently left the
          base's random layers frozen (baseline `frozen`; its head is not said and taken as that of the second).
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Cut, Space
from spaces.models import densenet121


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    densenet121.sample(hp, weights=("none",))
    sample_recipe(hp)
    return dict(hp.values)


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return read_recipe(config, patience=5)


NOTEBOOK: Config = {
    "weights": "none",
    "frozen_layers": 0,
    "activation": "relu",
    "dense_layers": 1,
    "dense_units": 1024,
    "dropout": 0.2,
    "optimizer": "adamax",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 128,
    "schedule": "constant",
    "augmentation": "none",
}

SPACE = Space(
    name="densenet121_imagenet32",
    summary="DenseNet121 from scratch on Tiny ImageNet at 32x32: head, dropout, optimizer, schedule",
    dataset="tiny_imagenet@32",
    sample=sample,
    build=densenet121.build,
    recipe=recipe,
    params=densenet121.params,
    multiply_adds=densenet121.multiply_adds,
    epochs=40,
    trials=20,
    baselines=(
        Baseline(
            name="dense_1024",
            config=NOTEBOOK,
            epochs=10,
            always=True,
            source="experiment H, validation accuracy 0.1578",
        ),
        Baseline(
            name="frozen",
            config=NOTEBOOK | {"frozen_layers": densenet121.LAYERS, "dropout": 0.4},
            epochs=5,
            source="experiment H, its first run",
        ),
    ),
    cut=Cut(train=500, validation=200, epochs=2, trials=3, narrow={"batch_size": "32,64"}),
    columns=("frozen_layers", "dense_layers", "dense_units", "dropout", "optimizer", "learning_rate"),
)
