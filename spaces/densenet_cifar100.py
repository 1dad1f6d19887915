"""DenseNet on CIFAR-100, towards the share of images whose class is among the five likeliest.

Command:  python -m search run densenet_cifar100
Cost:     on a GPU 40 trials of at most 100 epochs; the baseline alone took the notebook 3 h 49 min (131 s an epoch).
          Without a GPU the search is cut to size.
Expected: the notebook reached a top-5 test accuracy of 0.8844 (loss 1.9677) with the baseline `notebook`.
Source:   experiment C: the network of experiment B with 15 layers a block, which has 5,652,005 parameters by the
          formula that gives those of A and B; the notebook did not report its own.
"""

from __future__ import annotations

from spaces._space import Baseline, Space
from spaces.densenet_cifar10 import COLUMNS, CUT, NOTEBOOK, TINY, recipe, sample
from spaces.models import densenet

SPACE = Space(
    name="densenet_cifar100",
    summary="DenseNet on CIFAR-100 towards top-5 accuracy: growth rate, depth, transition, optimizer, augmentation",
    dataset="cifar100",
    sample=sample,
    build=densenet.build,
    recipe=recipe,
    params=densenet.params,
    multiply_adds=densenet.multiply_adds,
    activations=densenet.activations,
    metric="val_top_5_accuracy",
    epochs=100,
    trials=40,
    baselines=(
        Baseline(
            name="tiny",
            config=TINY,
            epochs=20,
            always=True,
            source="the smallest network worth training",
        ),
        Baseline(
            name="notebook",
            config=NOTEBOOK | {"growth_rate": 35, "layers_per_block": 15, "dropout": 0.1, "scaling": "unit"},
            epochs=100,
            milestones=(50, 75),
            source="experiment C, 5,652,005 parameters, top-5 test accuracy 0.8844",
        ),
    ),
    cut=CUT,
    columns=COLUMNS,
)
