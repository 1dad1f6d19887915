"""Re-checks the best of a study: trains leading configurations again over seeds, as a study of its own.

The best of many noisy trials is flattered: it was picked for being high. Repeats were not, so their mean is honest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from search import figures
from search.engines import optuna as engine
from search.errors import InputError
from search.plan import Plan
from search.statistics import Interval, mean_interval
from spaces import Space

SUFFIX = "-repeat"
REPEAT_OF, REPEAT_TRIAL, REPEAT_INDEX = "repeat.of", "repeat.trial", "repeat.index"


@dataclass(frozen=True)
class Source:
    """A trial whose configuration is repeated: what it drew, how long it trains, the first figure of it."""

    study: str
    trial: int
    params: dict[str, Any]
    config_hash: str
    epochs: int
    milestones: tuple[int, ...]
    patience: int | None
    value: float


@dataclass(frozen=True)
class Repeated:
    """A configuration's first figure and those of its repeats; `flattery` is how much better the first one was."""

    trial: int
    first: float
    values: tuple[float, ...]
    failed: int
    mean: float
    spread: float
    interval: Interval
    flattery: float


def sources(study: optuna.Study, top: int, *, epochs: int | None, to_best: bool = False) -> list[Source]:
    """The `top` best complete trials of a study; searched ones train for `epochs` where that is given.

    `to_best` trains each for as many epochs as its best took: without validation data no best epoch can be found.
    Raises InputError where there are none.
    """
    leading = figures.ranked(study)[:top]
    if not leading:
        name = study.study_name
        raise InputError(f"study {name!r} has no complete trial to repeat; go on: python -m search resume {name}")
    found = [_source(study, trial, epochs) for trial in leading]
    return [replace(s, epochs=_best(t, study)) for s, t in zip(found, leading, strict=True)] if to_best else found


def _best(trial: FrozenTrial, study: optuna.Study) -> int:
    """How many epochs the best of a trial took."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    return min(trial.intermediate_values, key=lambda step: (-sign * trial.intermediate_values[step], step))


def _source(study: optuna.Study, trial: FrozenTrial, epochs: int | None) -> Source:
    attrs = trial.user_attrs
    known = "baseline" in attrs
    return Source(
        study=study.study_name,
        trial=trial.number,
        params=dict(attrs["config"]) | dict(trial.params),
        config_hash=attrs["config.hash"],
        epochs=attrs["epochs"] if known or epochs is None else epochs,
        milestones=tuple(attrs.get("milestones", ())),
        patience=0 if known else None,
        value=float(trial.value or 0.0),
    )


def planned(plan: Plan, name: str, repeated: Sequence[Source], seeds: int) -> Plan:
    """The plan of the study `name` that repeats these over `seeds` seeds, one seed of each after the other."""
    return replace(
        plan,
        study=name,
        narrowings={},
        trials=len(repeated) * seeds,
        epochs=max(source.epochs for source in repeated),
        sampler="repeat",
        pruner="none",
        keep=None,
        baselines=(),
        left_out=(),
        warm_start=(),
        repeats=tuple(asdict(source) for source in repeated),
    )


def draw(plan: Plan, space: Space, number: int) -> tuple[engine.Proposal, dict[str, Any]]:
    """What trial `number` of a study of repeats is, and its attributes."""
    source, index = plan.repeats[number % len(plan.repeats)], number // len(plan.repeats)
    said = {
        "seed": engine.derive(plan.seed, "repeat", number),
        "epochs": source["epochs"],
        REPEAT_OF: source["study"],
        REPEAT_TRIAL: source["trial"],
        REPEAT_INDEX: index,
        **({"milestones": list(source["milestones"])} if source["milestones"] else {}),
        **({} if source["patience"] is None else {"patience": source["patience"]}),
    }
    return engine.replay(space, source["params"], {}), said


def measured(study: optuna.Study) -> list[Repeated]:
    """Each repeated configuration, the best mean first."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    trials = study.get_trials(deepcopy=False)
    found = [_measured(source, trials, sign) for source in study.user_attrs["plan"]["repeats"]]
    return sorted(found, key=lambda r: (math.isnan(r.mean), -sign * r.mean))


def _measured(source: Mapping[str, Any], trials: Sequence[FrozenTrial], sign: int) -> Repeated:
    mine = [t for t in trials if t.user_attrs.get(REPEAT_TRIAL) == source["trial"]]
    values = tuple(float(t.value) for t in mine if t.state == TrialState.COMPLETE and t.value is not None)
    mean = float(np.mean(values)) if values else math.nan
    return Repeated(
        trial=source["trial"],
        first=source["value"],
        values=values,
        failed=sum(t.state in (TrialState.FAIL, TrialState.PRUNED) for t in mine),
        mean=mean,
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
        interval=mean_interval(values),
        flattery=sign * (source["value"] - mean),
    )


def check_same(stored: Mapping[str, Any], repeated: Sequence[Source], name: str) -> None:
    """Raises InputError where the study `name` repeats something else."""
    before = [(s["study"], s["trial"], s["epochs"]) for s in stored.get("repeats", ())]
    if before != [(s.study, s.trial, s.epochs) for s in repeated]:
        told = ", ".join(f"{trial} of {study} for {epochs} epochs" for study, trial, epochs in before) or "none"
        raise InputError(f"study {name!r} repeats trials {told}; name another with --name")
