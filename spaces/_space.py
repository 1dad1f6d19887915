"""What a space is: how to draw a configuration, and how a configuration becomes a network."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spaces._hp import Defaults, HyperParameters, Parameter, RandomDraws
from spaces._recipe import Recipe
from spaces.datasets import DataSpec

if TYPE_CHECKING:
    from spaces.hypermodels.reference import Reference

Config = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A known setting that a study tries before it searches.

    `epochs` are its own, whatever the study's. `milestones` (epochs from 0) replace the shares in its
    configuration. A baseline marked `always` is run in every study, for fewer epochs if it must be.
    """

    name: str
    config: Mapping[str, Any]
    epochs: int
    milestones: tuple[int, ...] = ()
    always: bool = False
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The same search at the size of a machine without a GPU: images, epochs, trials, a narrower space."""

    train: int
    validation: int
    epochs: int
    trials: int
    narrow: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> tuple[int, int]:
        """How many images a study trains on and validates on."""
        return self.train, self.validation


def without_formula(config: Config, data: DataSpec) -> int:
    """Stands where a space has no formula; `find` puts a measurement in its place."""
    raise NotImplementedError("a space without formulas is measured: get it by spaces.find")


@dataclass(frozen=True, kw_only=True)
class Space:
    """One search space over one dataset, towards one objective.

    `sample(hp)` draws and returns a plain configuration; `build(config, data)` returns a Keras model that
    takes raw uint8 images and gives float32 probabilities; `recipe(config)` says how to train it.
    `params(config, data)` and `multiply_adds(config, data)` are formulas: weights in all, and
    multiply-adds for one image forward. Where a space has none, its networks are built and counted instead, in a
    process of its own, which takes longer. `activations(config, data)`, where a space has it, is the sum of the
    sizes of all layers' outputs for one image: what a trial needs of memory is told from it beforehand, and less
    well from the multiply-adds without it. `metric` is `val_accuracy`, `val_loss`, or `val_top_5_accuracy` with any
    number for 5. `train_images` and `validation_images` are how many a study takes unless
    it is told otherwise, None for all. `columns` are the hyperparameters a table shows first.
    `fetch(values, say)` makes sure, before any trial starts, of what trials need beside data, as of pretrained
    weights; `values` has by hyperparameter those that a trial may take.

    What stands for a stranger's HyperModel, its `reference`, says more: `declare(narrowings)` finds its
    hyperparameters, `own_epochs(config)` are the most that its fit() asks for (None: as many as there are), `looks` is
    how many configurations a plan may draw to tell sizes by, `half` is whether its networks may compute in half
    precision unasked, `remarks` are for people.
    """

    name: str
    summary: str
    dataset: str
    sample: Callable[[HyperParameters], Config]
    build: Callable[[Config, DataSpec], Any]
    recipe: Callable[[Config], Recipe]
    params: Callable[[Config, DataSpec], int] = without_formula
    multiply_adds: Callable[[Config, DataSpec], int] = without_formula
    activations: Callable[[Config, DataSpec], int] | None = None
    metric: str = "val_accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"
    epochs: int
    trials: int
    train_images: int | None = None
    validation_images: int | None = None
    baselines: tuple[Baseline, ...] = ()
    cut: Cut | None = None
    columns: tuple[str, ...] = ()
    fetch: Callable[[Mapping[str, Sequence[Any]], Callable[[str], None]], None] | None = None
    path: Path | None = None
    reference: Reference | None = None
    declare: Callable[[Mapping[str, str]], dict[str, Parameter]] | None = None
    own_epochs: Callable[[Config], int | None] | None = None
    looks: int = 200
    half: bool = True
    remarks: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[int | None, int | None]:
        """How many images a study trains on and validates on; None for all."""
        return self.train_images, self.validation_images


def canonical(config: Mapping[str, Any]) -> str:
    """A configuration as one JSON line with sorted keys: equal configurations give equal lines."""
    return json.dumps(dict(config), sort_keys=True, separators=(",", ":"), allow_nan=False)


def config_hash(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name a configuration."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:16]


def declared(space: Space, narrowings: Mapping[str, str] | None = None) -> dict[str, Parameter]:
    """Every hyperparameter the space can draw, in the order first met.

    Conditional scopes show theirs at once; those behind a plain Python `if` are found by trying each
    choice in turn and a fixed number of seeded draws. Raises what sample() raises on its defaults.
    """
    if space.declare is not None:
        return space.declare(narrowings or {})
    found = _walk(space, Defaults(narrowings))
    for name, parameter in list(found.items()):
        for choice in parameter.choices:
            with contextlib.suppress(Exception):  # that configuration's own fault, met again where it is drawn
                found = _walk(space, Defaults(narrowings, {name: choice})) | found
    for seed in range(32):
        with contextlib.suppress(Exception):
            found = found | {k: v for k, v in _walk(space, RandomDraws(seed, narrowings)).items() if k not in found}
    order = {name: i for i, name in enumerate(_walk(space, Defaults(narrowings)))}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def reachable(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Those of a space's hyperparameters that some configuration has, narrowed as they are."""

    def may_be(parent: str, values: tuple[Any, ...]) -> bool:
        p = parameters.get(parent)
        return p is None or any(p.contains(value) for value in values)

    return {n: p for n, p in parameters.items() if all(may_be(*condition) for condition in p.conditions)}


def _walk(space: Space, hp: HyperParameters) -> dict[str, Parameter]:
    space.sample(hp)
    return hp.declared
