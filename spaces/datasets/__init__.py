"""Named datasets: where they come from, whether they are intact, and how they are split.

    folder = prepare("cifar10", cache=Path("~/.cache/search").expanduser())   # once, by the coordinator
    data = load("cifar10", folder, seed=0)                                    # in each worker, memory-mapped
    x, y = data.train_arrays()

A dataset is one module here (`cifar10.py`, `digits.py`) with a line in `_catalogue.py`, or the images of a user's own:
`path:DIR` with a folder for each class, `path:DIR@SIZE`, `path:FILE.npz`.
"""

from spaces.datasets._catalogue import canonical as canonical
from spaces.datasets._catalogue import describe as describe
from spaces.datasets._catalogue import names as names
from spaces.datasets._open import TrainingData as TrainingData
from spaces.datasets._open import load as load
from spaces.datasets._open import merged as merged
from spaces.datasets._open import open_test as open_test
from spaces.datasets._prepare import prepare as prepare
from spaces.datasets._prepare import verify as verify
from spaces.datasets._spec import DataSpec as DataSpec

__all__ = [
    "DataSpec",
    "TrainingData",
    "canonical",
    "describe",
    "load",
    "merged",
    "names",
    "open_test",
    "prepare",
    "verify",
]
