"""What a classifier's probabilities on labelled images say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.statistics import Interval, share_interval
from search.trial.mistakes import MOST, most_confident

BINS = 15  # of the top probability, all of the same width
TOP = 5
LEAST_PROBABILITY = 1e-7  # what Keras clips at: one image that was given 0 is not an infinite loss
CONFIDENCE = 0.95  # of the intervals
NORMAL_QUANTILE = 1.96  # the same for a normal distribution
SUM_TOLERANCE = 1e-3  # rows of half precision add up to 1 no more closely


@dataclass(frozen=True)
class Bin:
    """The images whose top probability is above `lower` and at most `upper`."""

    lower: float
    upper: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Mistake:
    """An image that was given a wrong class: its index, both classes' indices, the predicted one's probability."""

    index: int
    true: int
    predicted: int
    confidence: float


@dataclass(frozen=True)
class Figures:
    """How good predictions were. All shares are between 0 and 1, and per class values in the order of `class_names`.

    `accuracy_interval` is the exact (Clopper-Pearson) 95 % interval. `loss` is the mean cross-entropy in nats and
    `loss_interval` 1.96 standard errors around it, None for a single image. `top5` is None where there are five
    classes or fewer. `majority` is the share of the most frequent class: the accuracy of always naming it. A class
    without images, or never predicted, has 0 for what cannot be divided. `confusion` counts images, a row for each
    true class and a column for each predicted one. `ece` is the expected calibration error over 15 equal bins of the
    top probability, of which `bins` holds those that are not empty.
    """

    images: int
    classes: int
    class_names: tuple[str, ...]
    accuracy: float
    accuracy_interval: Interval
    top5: float | None
    loss: float
    loss_interval: Interval | None
    majority: float
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    support: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...]
    ece: float
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, to be logged; each bin is a dictionary too."""
        return asdict(self)


def measure(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], class_names: Sequence[str]
) -> Figures:
    """The figures of `probabilities` (images, classes) for images of the classes `labels` (images,).

    Of equal probabilities the class with the lower index counts as the more likely one. Raises ValueError where the
    shapes do not fit each other or `class_names`, and where a row is not a distribution.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    given, true = _checked(probabilities, labels)
    images, classes = given.shape
    if len(class_names) != classes:
        raise ValueError(f"{len(class_names)} class names for probabilities of {classes} classes")
    predicted = given.argmax(axis=1)
    right = predicted == true
    order = np.arange(classes)
    precision, recall, f1, support = precision_recall_fscore_support(true, predicted, labels=order, zero_division=0)
    losses = -np.log(np.clip(_of(given, true).astype(np.float64), LEAST_PROBABILITY, 1.0))
    bins = _bins(_of(given, predicted), right)
    return Figures(
        images=images,
        classes=classes,
        class_names=tuple(class_names),
        accuracy=float(right.mean()),
        accuracy_interval=share_interval(int(right.sum()), images),
        top5=float((_rank(given, true) < TOP).mean()) if classes > TOP else None,
        loss=float(losses.mean()),
        loss_interval=_mean_interval(losses),
        majority=float(np.bincount(true).max() / images),
        precision=tuple(precision.tolist()),
        recall=tuple(recall.tolist()),
        f1=tuple(f1.tolist()),
        support=tuple(support.tolist()),
        confusion=tuple(tuple(row) for row in confusion_matrix(true, predicted, labels=order).tolist()),
        ece=sum(b.count / images * abs(b.confidence - b.accuracy) for b in bins),
        bins=bins,
    )


def mistakes(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], most: int = MOST
) -> list[Mistake]:
    """At most `most` images that were given a wrong class, the most confidently wrong first, ties by index.

    Raises ValueError as `measure` does.
    """
    given, true = _checked(probabilities, labels)
    predicted = given.argmax(axis=1)
    confidence = _of(given, predicted)
    first = most_confident(given, true, most)
    return [Mistake(int(i), int(true[i]), int(predicted[i]), float(confidence[i])) for i in first]


def _checked(probabilities: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    given, true = np.asarray(probabilities), np.asarray(labels)
    if given.ndim != 2 or not np.issubdtype(given.dtype, np.floating):
        raise ValueError(f"probabilities are {given.dtype} of shape {given.shape}, not floats of (images, classes)")
    images, classes = given.shape
    if images < 1 or classes < 2:
        raise ValueError(f"probabilities of {images} images and {classes} classes: at least 1 and 2 are needed")
    if true.shape != (images,) or not np.issubdtype(true.dtype, np.integer):
        raise ValueError(f"labels are {true.dtype} of shape {true.shape}, not whole numbers of shape ({images},)")
    if true.min() < 0 or true.max() >= classes:
        raise ValueError(f"labels go from {true.min()} to {true.max()}, but there are {classes} classes from 0")
    broken = np.flatnonzero(~np.isfinite(given).all(axis=1))
    if broken.size:
        raise ValueError(f"{broken.size} of {images} rows of probabilities are not finite, the first at {broken[0]}")
    sums = given.sum(axis=1, dtype=np.float64)
    odd = (np.abs(sums - 1) > SUM_TOLERANCE) | (given < 0).any(axis=1)
    if odd.any():
        first = int(odd.argmax())
        raise ValueError(
            f"{int(odd.sum())} of {images} rows are not probabilities that add up to 1, the first at {first}: "
            f"from {given[first].min():.4g} to {given[first].max():.4g}, sum {sums[first]:.4g}"
        )
    return given, true.astype(np.int64)


def _of(given: NDArray[Any], classes: NDArray[np.int64]) -> NDArray[Any]:
    """The probability that each row gives to its class."""
    return given[np.arange(len(given)), classes]


def _rank(given: NDArray[Any], true: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes come before the true one."""
    own = _of(given, true)[:, None]
    earlier = np.arange(given.shape[1]) < true[:, None]
    return np.asarray(((given > own) | ((given == own) & earlier)).sum(axis=1))


def _bins(confidence: NDArray[Any], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    edges = np.linspace(0.0, 1.0, BINS + 1)
    confidence = confidence.astype(np.float64)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    found = []
    for each in np.unique(place):
        inside = place == each
        found.append(
            Bin(
                float(edges[each]),
                float(edges[each + 1]),
                float(confidence[inside].mean()),
                float(right[inside].mean()),
                int(inside.sum()),
            )
        )
    return tuple(found)


def _mean_interval(values: NDArray[np.float64]) -> Interval | None:
    if len(values) < 2:
        return None
    reach = NORMAL_QUANTILE * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - reach, float(values.mean()) + reach
