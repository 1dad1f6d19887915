"""The pruners that can be asked for by name; a resource is one epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

REDUCTION = 3


def _none(epochs: int) -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()


def _asha(epochs: int) -> BasePruner:
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=first_rung(epochs), reduction_factor=REDUCTION)


def _median(epochs: int) -> BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=5, n_warmup_steps=first_rung(epochs))


def first_rung(epochs: int) -> int:
    """The epoch after which a trial can first be stopped."""
    return max(1, epochs // REDUCTION**3)


def rungs(epochs: int) -> list[int]:
    """Epochs trained at which asynchronous successive halving compares trials."""
    found, rung = [], first_rung(epochs)
    while rung < epochs:
        found.append(rung)
        rung *= REDUCTION
    return found


PRUNERS: dict[str, Callable[[int], BasePruner]] = {"asha": _asha, "median": _median, "none": _none}
