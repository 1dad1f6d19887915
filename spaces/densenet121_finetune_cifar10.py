"""Fine-tuning a pretrained DenseNet121 on CIFAR-10: which layers, how fast, and on how many images.

Command:  python -m search run densenet121_finetune_cifar10
Cost:     on a GPU minutes a trial; the notebook took 410 to 580 s an epoch on all images. Without a GPU the search is
          cut to size. The ImageNet weights (29 MB) are fetched once, as Keras does; without a network: weights=none,
          or a file in SEARCH_WEIGHTS.
Expected: in the notebooks a test accuracy of 0.4684 (baseline `swish`); 0.86 and 0.37 on the same 100 images for
          Adamax (`few_adamax`) and SGD (`few_sgd`), both trained on 3,000 images.
Source:   experiment I. Which layers were unfrozen is not said and taken as all; the head of the second and third is
          not said either and taken as that of the first. What they validated on was mostly the test set.
"""

from __future__ import annotations

from dataclasses import replace

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Cut, Space
from spaces.models import densenet121

ALL = 0  # images


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    densenet121.sample(hp)
    hp.Choice("train_size", [1000, 3000, 10_000, ALL], ordered=True, default=ALL)
    sample_recipe(hp, batch_sizes=(16, 32, 64, 128))
    return dict(hp.values)


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return replace(read_recipe(config, patience=5), train_size=config["train_size"] or None)


NOTEBOOK: Config = {
    "weights": "imagenet",
    "frozen_layers": 0,
    "activation": "swish",
    "dense_layers": 2,
    "dense_units": 512,
    "dropout": 0.4,
    "train_size": ALL,
    "optimizer": "adamax",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 64,
    "schedule": "constant",
    "augmentation": "none",
}
FEW: Config = NOTEBOOK | {"activation": "relu", "batch_size": 16, "train_size": 3000}

SPACE = Space(
    name="densenet121_finetune_cifar10",
    summary="fine-tuning a pretrained DenseNet121 on CIFAR-10: layers, optimizer, learning rate, training-set size",
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
        Baseline(name="swish", config=NOTEBOOK, epochs=15, source="experiment I, test accuracy 0.4684"),
        Baseline(
            name="few_adamax",
            config=FEW,
            epochs=4,
            always=True,
            source="experiment I, 0.86 on 100 images",
        ),
        Baseline(
            name="few_sgd",
            config=FEW | {"optimizer": "sgd", "learning_rate": 1e-4, "momentum": 0.0, "nesterov": False},
            epochs=4,
            source="experiment I, 0.37 on the same 100 images",
        ),
    ),
    cut=Cut(train=500, validation=200, epochs=2, trials=4, narrow={"batch_size": "16,32"}),
    columns=("frozen_layers", "train_size", "activation", "optimizer", "learning_rate"),
)
