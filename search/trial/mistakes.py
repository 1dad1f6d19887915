"""Which mistakes of a model are worth a look: those it was surest of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 24  # shown in a report


def most_confident(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], most: int = MOST
) -> NDArray[np.intp]:
    """Indices of at most `most` images that were given a wrong class, the surest first, ties by index.

    `probabilities` (images, classes), `labels` (images,).
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:most]
