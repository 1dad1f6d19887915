"""Who can be asked for by name: samplers and pruners, what each is, its options, what it needs. Imports none."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

AUTO = "auto"
SAMPLER_GROUP, PRUNER_GROUP = "keras_search.samplers", "keras_search.pruners"  # of entry points: `name = "module:make"`

Kind = Literal["sampler", "pruner"]


@dataclass(frozen=True)
class Option:
    """A number, a switch or a word; `default` None is Optuna's own choice. `least` and `most` are inclusive."""

    kind: type
    default: Any
    least: float | None = None
    most: float | None = None
    words: tuple[str, ...] = ()

    def read(self, text: str) -> Any:
        """The value that `text` says. Raises ValueError with what to give instead."""
        if self.kind is bool:
            if text.lower() not in ("true", "false"):
                raise ValueError("give true or false")
            return text.lower() == "true"
        if self.kind is str:
            if text not in self.words:
                raise ValueError(f"choose one of {', '.join(self.words)}")
            return text
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        bounds = "" if self.least is None else f", {self.least:g} or more"
        bounds += "" if self.most is None else f" and {self.most:g} or less"
        if value is None or not (self._low() <= value <= self._high()):
            raise ValueError(f"give {'a whole number' if self.kind is int else 'a number'}{bounds}")
        return value

    def _low(self) -> float:
        return -float("inf") if self.least is None else self.least

    def _high(self) -> float:
        return float("inf") if self.most is None else self.most


@dataclass(frozen=True, kw_only=True)
class Member:
    """A sampler or a pruner that can be asked for.

    `needs` is a module that must be installed and `install` what pip installs then. `several` says that it can pursue
    several objectives; `listed` that every hyperparameter must have a list or a step; `whole` that it stops trials by
    itself, so that no pruner may. `target` is the entry point of a member that another package brings.
    """

    says: str
    options: Mapping[str, Option] = field(default_factory=dict)
    needs: str = ""
    install: str = ""
    several: bool = False
    listed: bool = False
    whole: bool = False
    target: EntryPoint | None = None


def _startup(default: int) -> Option:
    return Option(int, default, least=0)


SHARE = Option(float, None, 0.0, 1.0)
BRED = {
    "population_size": Option(int, 50, least=2),
    "mutation_prob": SHARE,
    "crossover_prob": Option(float, 0.9, 0.0, 1.0),
    "swapping_prob": Option(float, 0.5, 0.0, 1.0),
}
LATE = {
    "n_startup_trials": _startup(5),
    "n_warmup_steps": Option(int, None, least=0),
    "interval_steps": Option(int, 1, least=1),
    "n_min_trials": Option(int, 1, least=1),
}
HALVING = {
    "min_resource": Option(int, None, least=1),
    "reduction_factor": Option(int, 3, least=2),
    "pause": Option(bool, False),
    "eager": Option(bool, False),
}

SAMPLERS: dict[str, Member] = {
    "tpe": Member(
        says="models what good trials have in common (tree-structured Parzen estimator)",
        options={
            "n_startup_trials": _startup(10),
            "n_ei_candidates": Option(int, 24, least=1),
            "multivariate": Option(bool, None),
            "group": Option(bool, False),
            "constant_liar": Option(bool, True),
            "spread": Option(int, 0, least=0),
            "partial": Option(bool, False),
        },
        several=True,
    ),
    "random": Member(says="draws at random", several=True),
    "grid": Member(says="walks the whole grid in a seeded order", several=True, listed=True),
    "brute": Member(says="tries everything there is, in a seeded order", several=True, listed=True),
    "qmc": Member(
        says="spreads evenly over the space (a scrambled sequence)",
        options={"qmc_type": Option(str, "sobol", words=("sobol", "halton")), "scramble": Option(bool, True)},
        several=True,
    ),
    "cmaes": Member(
        says="moves a normal distribution towards better trials (CMA-ES); choices are drawn at random",
        options={
            "n_startup_trials": _startup(1),
            "popsize": Option(int, None, least=2),
            "consider_pruned_trials": Option(bool, False),
            "use_separable_cma": Option(bool, False),
            "with_margin": Option(bool, False),
            "lr_adapt": Option(bool, False),
        },
        needs="cmaes",
        install='-e ".[cmaes]"',
    ),
    "gp": Member(
        says="fits a Gaussian process: strong where trials are few and dear",
        options={"n_startup_trials": _startup(10), "deterministic_objective": Option(bool, False)},
        needs="torch",
        install='-e ".[gp]"',
        several=True,
    ),
    "nsga2": Member(says="breeds generations (NSGA-II), for several objectives", options=BRED, several=True),
    "nsga3": Member(
        says="breeds generations (NSGA-III), for many objectives",
        options=BRED | {"dividing_parameter": Option(int, 3, least=1)},
        several=True,
    ),
    "kt-random": Member(says="KerasTuner's random search"),
    "kt-bayesian": Member(
        says="KerasTuner's Bayesian optimisation",
        options={
            "num_initial_points": Option(int, None, least=1),
            "alpha": Option(float, 1e-4, least=0.0),
            "beta": Option(float, 2.6, least=0.0),
        },
    ),
    "kt-hyperband": Member(
        says="KerasTuner's Hyperband: in each bracket the best of a round go on where they paused",
        options={"factor": Option(int, 3, least=2)},
        whole=True,
    ),
    "kt-grid": Member(says="KerasTuner's grid search, ten values where a range has no step"),
}

PRUNERS: dict[str, Member] = {
    "asha": Member(
        says="compares at rungs; the best third goes on (asynchronous successive halving)",
        options=HALVING | {"min_early_stopping_rate": Option(int, 0, least=0), "bootstrap_count": Option(int, 0, 0)},
    ),
    "hyperband": Member(
        says="several of those side by side, from hasty to patient",
        options=HALVING | {"bootstrap_count": Option(int, 0, least=0)},
    ),
    "median": Member(says="stops what is worse than the median of earlier trials at that epoch", options=LATE),
    "percentile": Member(
        says="stops what is not in the best so many per cent of earlier trials at that epoch",
        options={"percentile": Option(float, 25.0, 0.0, 100.0)} | LATE,
    ),
    "patient": Member(
        says="stops what has not got better for some epochs",
        options={
            "patience": Option(int, 5, least=0),
            "min_delta": Option(float, 0.0, least=0.0),
            "wrapped": Option(str, "none", words=("none", "median", "percentile", "asha", "hyperband")),
        },
    ),
    "wilcoxon": Member(
        says="for repeat: no more seeds of a configuration that is surely worse than the best",
        options={"p_threshold": Option(float, 0.1, 0.0, 1.0), "n_startup_steps": Option(int, 2, least=0)},
    ),
    "none": Member(says="stops nothing"),
}
OVER_REPLICATES = ("wilcoxon",)
TABLES: Mapping[Kind, tuple[dict[str, Member], str]] = {
    "sampler": (SAMPLERS, SAMPLER_GROUP),
    "pruner": (PRUNERS, PRUNER_GROUP),
}


@dataclass(frozen=True)
class Chosen:
    """A member that was asked for, with the options that were named; as text `tpe:group=true`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ",".join(f"{name}={_show(value)}" for name, value in sorted(self.options.items()))
        return f"{self.name}:{said}" if said else self.name


def names(kind: Kind) -> tuple[str, ...]:
    """Every name that can be asked for, those of other packages last."""
    table, group = TABLES[kind]
    return (*table, *sorted(p.name for p in entry_points(group=group) if p.name not in table))


def member(kind: Kind, name: str) -> Member:
    """The member of that name. Raises KeyError where there is none."""
    table, group = TABLES[kind]
    if name in table:
        return table[name]
    for point in entry_points(group=group):
        if point.name == name:
            return Member(says=f"{point.value}, of {point.dist.name if point.dist else 'a package'}", target=point)
    raise KeyError(name)


def read(kind: Kind, text: str) -> Chosen:
    """What `NAME` or `NAME:OPTION=VALUE,...` asks for. Raises ValueError with a line for each problem."""
    name, _, rest = text.partition(":")
    try:
        found = member(kind, name)
    except KeyError:
        near = difflib.get_close_matches(name, names(kind), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown; choose one of {AUTO}, {', '.join(names(kind))}.{hint}") from None
    options: dict[str, Any] = {}
    problems = []
    for word in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in word.partition("="))
        option = found.options.get(key)
        if found.target is not None and equals:  # its own package knows them
            options[key] = _guess(value)
        elif option is None or not equals:
            there = ", ".join(found.options) or "none"
            problems.append(f"{word.strip()}: {name} has no such option; it has: {there}")
        elif key in options:
            problems.append(f"{key} is said twice; keep one")
        else:
            try:
                options[key] = option.read(value)
            except ValueError as error:
                problems.append(f"{key}={value}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return Chosen(name, options)


def missing(kind: Kind, name: str) -> str | None:
    """What to install before this member can be used, as a line for people; None where nothing is missing."""
    found = member(kind, name)
    if not found.needs or importlib.util.find_spec(found.needs):
        return None
    return f"it needs {found.needs}, which is not installed: pip install -c constraints.txt {found.install}"


def defaults(kind: Kind, chosen: Chosen) -> dict[str, Any]:
    """Every option with its value: what was named, and the default of the rest where it is ours to give."""
    found = {name: option.default for name, option in member(kind, chosen.name).options.items()}
    return {**{name: value for name, value in found.items() if value is not None}, **chosen.options}


def _show(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _guess(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
