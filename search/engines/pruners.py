"""Makes the pruners of the menu that are Optuna's; a resource is one epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from search.engines import menu
from search.engines.menu import Chosen
from search.engines.rungs import first_rung

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

Options = Mapping[str, Any]


def make(chosen: Chosen, epochs: int) -> BasePruner:
    """The pruner that was chosen, for trials of at most `epochs`; one that pauses at rungs is none of Optuna's."""
    from optuna.pruners import NopPruner

    if chosen.name in menu.OVER_REPLICATES:  # it does not look at epochs
        return NopPruner()
    target = menu.member("pruner", chosen.name).target
    options = menu.defaults("pruner", chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is experimental is for the menu to know
        if target is not None:
            made: BasePruner = target.load()(epochs, **options)
            return made
        if options.pop("pause", False):
            return NopPruner()
        options.pop("eager", None)
        return MAKERS[chosen.name](epochs, options)


def _none(epochs: int, options: Options) -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()


def _asha(epochs: int, options: Options) -> BasePruner:
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(**{"min_resource": first_rung(epochs), **options})


def _hyperband(epochs: int, options: Options) -> BasePruner:
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(**{"min_resource": first_rung(epochs), **options}, max_resource=epochs)


def _median(epochs: int, options: Options) -> BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(**{"n_warmup_steps": first_rung(epochs), **options})


def _percentile(epochs: int, options: Options) -> BasePruner:
    from optuna.pruners import PercentilePruner

    return PercentilePruner(**{"n_warmup_steps": first_rung(epochs), **options})


def _patient(epochs: int, options: Options) -> BasePruner:
    from optuna.pruners import PatientPruner

    own = {name: value for name, value in options.items() if name != "wrapped"}
    wrapped = None if options["wrapped"] == "none" else make(Chosen(str(options["wrapped"])), epochs)
    return PatientPruner(wrapped, **own)


def over_replicates(chosen: Chosen) -> BasePruner | None:
    """The pruner that was chosen to compare replicates of configurations; None where it compares epochs or nothing."""
    from optuna.pruners import WilcoxonPruner

    if chosen.name not in menu.OVER_REPLICATES:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WilcoxonPruner(**menu.defaults("pruner", chosen))


MAKERS: dict[str, Callable[[int, Options], BasePruner]] = {
    "asha": _asha,
    "hyperband": _hyperband,
    "median": _median,
    "percentile": _percentile,
    "patient": _patient,
    "none": _none,
}
