"""Every way of searching that is compared, by name: ours, and the peers' own searchers, schedulers and oracles."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from bench.simulation import Method
from spaces import Space

Make = Callable[[Space, int, int, int], Method]  # of a space, a seed, the most epochs of a trial, the slots


@dataclass(frozen=True)
class Entry:
    """Where a method is made: `module` of bench.peers, `maker` in it, and the `package` that it needs."""

    title: str
    module: str
    maker: str
    package: str = "optuna"


METHODS: dict[str, Entry] = {
    "auto": Entry("ours, auto", "ours", "auto"),
    "random": Entry("random search", "chance", "Chance"),
    "optuna-tpe": Entry("Optuna TPE, median pruner", "plain_optuna", "tpe"),
    "optuna-random": Entry("Optuna random", "plain_optuna", "random"),
    "kt-random": Entry("KerasTuner RandomSearch", "keras_tuner", "random", "keras_tuner"),
    "kt-bayesian": Entry("KerasTuner BayesianOptimization", "keras_tuner", "bayesian", "keras_tuner"),
    "kt-hyperband": Entry("KerasTuner Hyperband", "keras_tuner", "hyperband", "keras_tuner"),
    "ray-asha": Entry("Ray Tune ASHA", "ray_tune", "asha", "ray"),
    "syne-asha": Entry("Syne Tune ASHA", "syne_tune", "asha", "syne_tune"),
    "syne-bohb": Entry("Syne Tune BOHB", "syne_tune", "bohb", "syne_tune"),
    "syne-bore": Entry("Syne Tune ASHABORE", "syne_tune", "bore", "syne_tune"),
}


def entry(name: str) -> Entry:
    """Where a method is made; one with a bar in its name, as `tpe|stop`, is a variant of ours. Raises KeyError."""
    return Entry(name, "variants", name) if "|" in name else METHODS[name]


def missing(name: str) -> str | None:
    """What to install for a method that cannot be run here; None where it can."""
    package = entry(name).package
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{name} needs {package}; pip install -c constraints.txt -e '.[bench]'"


def make(name: str, space: Space, seed: int, epochs: int, slots: int) -> Method:
    """A new search by the method of this name."""
    found = entry(name)
    module = importlib.import_module(f"bench.peers.{found.module}")
    if found.module == "variants":
        return cast(Method, module.Variant(space, seed, epochs, slots, name))
    made: Method = getattr(module, found.maker)(space, seed, epochs, slots)
    return made
