"""The pruners that can be asked for by name; a resource is one epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

REDUCTION = 3
LEAST_FIRST = 1.3


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
    """Epochs after which trials are first compared: a 27th, a 9th or a 3rd of all, the least that is not just one.

    After a single epoch small networks are told apart by luck.
    """
    shares = [epochs / REDUCTION**k for k in (3, 2, 1) if epochs / REDUCTION**k >= LEAST_FIRST]
    return round(shares[0]) if shares else epochs


def rungs(epochs: int) -> list[int]:
    """Epochs trained at which asynchronous successive halving compares trials."""
    found, rung = [], first_rung(epochs)
    while rung < epochs:
        found.append(rung)
        rung *= REDUCTION
    return found


PRUNERS: dict[str, Callable[[int], BasePruner]] = {"asha": _asha, "median": _median, "none": _none}
