"""Learning rate and early stopping as functions of the epoch and the history, so that nothing has to be restored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from spaces import Recipe

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.1, 5
STEP_FACTOR = 0.1

History = Sequence[Mapping[str, float]]


def learning_rate(recipe: Recipe, epoch: int, epochs: int, milestones: Sequence[int], history: History) -> float:
    """The learning rate of `epoch` (from 0) of `epochs`; `milestones` are epochs and replace the recipe's shares."""
    if recipe.schedule == "step":
        at = milestones or [round(share * epochs) for share in recipe.milestones]
        return recipe.learning_rate * STEP_FACTOR ** sum(epoch >= m for m in at)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    if recipe.schedule == "plateau":
        return recipe.learning_rate * PLATEAU_FACTOR ** _plateaus(history)
    return recipe.learning_rate


def _plateaus(history: History) -> int:
    """How often the loss went PLATEAU_PATIENCE epochs without a new best (the count starts anew each time).

    Of validation, or, where all images are trained on, of training.
    """
    best, waited, plateaus = math.inf, 0, 0
    for record in history:
        loss = record["val_loss"] if "val_loss" in record else record["loss"]
        if loss < best:
            best, waited = loss, 0
        else:
            waited += 1
        if waited >= PLATEAU_PATIENCE:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def stops_early(history: History, patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no lower val_loss than the ones before."""
    if not patience or len(history) <= patience:
        return False
    losses = [record["val_loss"] for record in history]
    return min(losses[-patience:]) >= min(losses[:-patience])


def best_epoch(history: History, metric: str, direction: str) -> int:
    """The first epoch with the best value of `metric`."""
    values = [record[metric] for record in history]
    return values.index(max(values) if direction == "maximize" else min(values))
