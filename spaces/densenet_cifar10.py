"""DenseNet on CIFAR-10: how wide, how deep and how to train it.

Command:  python -m search run densenet_cifar10
Cost:     on a GPU 40 trials of at most 100 epochs; the largest baseline alone took 3 h 27 min on the
          notebook's GPU. Without a GPU the search is cut to size and ends in under 10 minutes.
Expected: the notebooks reached 0.9041 test accuracy (baseline `small`, 978,260 parameters) and 0.9266
          (baseline `large`, 3,557,690). The cut search shows the method, not these figures: 3,000 images
          and 6 epochs give a validation accuracy of about 0.4.
Source:   experiments A and B, two notebooks after Huang et al., "Densely Connected Convolutional Networks".
          `small`: test loss 0.3223; its 35 epochs were 87.5 passes over the data, so a plain 35-epoch
          run falls short of its figure. `large`: test loss 0.3148.
"""

from __future__ import annotations

from spaces._hp import HyperParameters
from spaces._recipe import Recipe, read_recipe, sample_recipe
from spaces._space import Baseline, Config, Cut, Space
from spaces.models import densenet


def sample(hp: HyperParameters) -> Config:
    """Draw one configuration."""
    hp.Int("growth_rate", 8, 48, default=12)
    hp.Int("layers_per_block", 2, 16, default=3)
    hp.Int("blocks", 3, 4, default=4)
    hp.Choice("transition", ["reset", "theta"])
    hp.Float("compression", 0.5, 1.0, step=0.05, default=1.0)
    hp.Boolean("bottleneck")
    hp.Float("dropout", 0.0, 0.5, step=0.05, default=0.1)
    hp.Choice("scaling", ["standardise", "unit"])
    sample_recipe(hp)
    return dict(hp.values)


def recipe(config: Config) -> Recipe:
    """How a configuration is trained."""
    return read_recipe(config)


NOTEBOOK: Config = {
    "blocks": 4,
    "transition": "reset",
    "compression": 1.0,
    "bottleneck": False,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 64,
    "schedule": "step",
    "milestone_1": 0.5,
    "milestone_2": 0.75,
    "augmentation": "full",
}

TINY: Config = NOTEBOOK | {
    "growth_rate": 12,
    "layers_per_block": 3,
    "dropout": 0.1,
    "scaling": "standardise",
    "augmentation": "flip_shift",
}
COLUMNS = ("growth_rate", "layers_per_block", "optimizer", "learning_rate", "dropout")
CUT = Cut(
    train=3000,
    validation=500,
    epochs=6,
    trials=10,
    narrow={"growth_rate": "8..16", "layers_per_block": "2..4", "batch_size": "32,64"},
)

SPACE = Space(
    name="densenet_cifar10",
    summary="DenseNet on CIFAR-10: growth rate, depth, transition, optimizer, schedule, augmentation",
    dataset="cifar10",
    sample=sample,
    build=densenet.build,
    recipe=recipe,
    params=densenet.params,
    multiply_adds=densenet.multiply_adds,
    activations=densenet.activations,
    epochs=100,
    trials=40,
    baselines=(
        Baseline(
            name="tiny",
            config=TINY,
            epochs=20,
            always=True,
            source="the smallest network worth training, 37,006 parameters",
        ),
        Baseline(
            name="small",
            config=NOTEBOOK | {"growth_rate": 35, "layers_per_block": 6, "dropout": 0.3, "scaling": "standardise"},
            epochs=35,
            milestones=(50, 75),
            source="experiment A, 978,260 parameters, test accuracy 0.9041",
        ),
        Baseline(
            name="large",
            config=NOTEBOOK | {"growth_rate": 35, "layers_per_block": 12, "dropout": 0.1, "scaling": "unit"},
            epochs=100,
            milestones=(50, 75),
            source="experiment B, 3,557,690 parameters, test accuracy 0.9266",
        ),
    ),
    cut=CUT,
    columns=COLUMNS,
)
