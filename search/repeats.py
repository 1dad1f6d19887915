"""Re-checks the best of a study: trains leading configurations again over seeds, as a study of its own.

The best of many noisy trials is flattered: it was picked for being high. Repeats were not, so their mean is honest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from search import ranking, shown
from search.engines import menu, pruners
from search.engines import optuna as engine
from search.errors import InputError
from search.plan import Plan
from search.statistics import Interval, mean_interval
from search.trial.spec import KNOWN
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
    values: dict[str, float] = field(default_factory=dict)  # of every objective, where there are several


@dataclass(frozen=True)
class Repeated:
    """A configuration's first figure and those of its repeats; `flattery` is how much better the first one was.

    `objective` names the figure.
    """

    objective: str
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
    leading = ranking.ranked(study)[:top]
    if not leading:
        raise InputError(shown.none_within(study.study_name, ranking.complete(study), shown.goals_of(study)))
    found = [_source(study, trial, epochs) for trial in leading]
    return [replace(s, epochs=_best(t, study)) for s, t in zip(found, leading, strict=True)] if to_best else found


def _best(trial: FrozenTrial, study: optuna.Study) -> int:
    """How many epochs the best of a trial took."""
    if ranking.BEST_EPOCH in trial.user_attrs:
        return int(trial.user_attrs[ranking.BEST_EPOCH]) + 1
    sign = ranking.signs(study)[0]
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
        value=float(trial.values[0]),
        values=shown.figures(trial, goals) if (goals := shown.goals_of(study)).several else {},
    )


def planned(plan: Plan, name: str, repeated: Sequence[Source], seeds: int, pruner: str = "none") -> Plan:
    """The plan of the study `name` that repeats these over `seeds` seeds, one seed of each after the other.

    `pruner` compares replicates: configurations that are surely worse get no more seeds.
    """
    return replace(
        plan,
        study=name,
        narrowings={},
        trials=len(repeated) * seeds,
        epochs=max(source.epochs for source in repeated),
        sampler="repeat",
        pruner=pruner,
        auto=(),
        why=(),
        audit=0.0,
        keep=None,
        baselines=(),
        left_out=(),
        warm_start=(),
        repeats=tuple(asdict(source) for source in repeated),
    )


def read_pruner(text: str | None) -> str:
    """The pruner for a study of repeats. Raises InputError for one that compares epochs."""
    if text in (None, "none"):
        return "none"
    try:
        chosen = menu.read("pruner", text or "")
    except ValueError as error:
        raise InputError([f"--pruner {text}: {line}" for line in str(error).splitlines()]) from None
    if chosen.name not in menu.OVER_REPLICATES:
        raise InputError(f"--pruner {text}: it does not compare repeats; choose {menu.OVER_REPLICATES[0]} or none")
    return str(chosen)


def on_all_data(plan: Plan) -> Plan:
    """The plan trained on training and validation data together: nothing is left that validation could say."""
    objectives = dict.fromkeys(text.removeprefix("val_") for text in plan.objectives)
    limits = tuple(text for text in plan.limits if not text.startswith("val_"))
    return replace(plan, merged=True, objectives=tuple(objectives), limits=limits)


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


def surely_worse(study: optuna.Study, plan: Plan, trial: int) -> str | None:
    """Why the configuration of `trial` gets no more seeds, by the first objective, in one line; None where it does.

    Wilcoxon's signed-rank test by Optuna's pruner of that name, between its repeats so far and those of the
    configuration with the best mean, seed number by seed number.
    """
    pruner = pruners.over_replicates(menu.read("pruner", plan.pruner))
    if pruner is None:
        return None
    sign = ranking.signs(study)[0]
    values = {source["trial"]: _by_seed(study, source["trial"]) for source in plan.repeats}
    best = max((t for t in values if values[t]), key=lambda t: sign * fmean(values[t].values()), default=None)
    if best is None or best == trial or not values[trial]:
        return None
    compared = optuna.create_study(direction=study.directions[0], pruner=pruner)
    mean = fmean(values[best].values())
    compared.add_trial(optuna.trial.create_trial(value=mean, intermediate_values=values[best]))
    compared.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, intermediate_values=values[trial]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties among few values, for which the test is not exact
        worse = pruner.prune(compared, compared.get_trials(deepcopy=False)[1])
    mine = fmean(values[trial].values())
    return (
        f"trial {trial}: no more seeds, {mine:.4f} is surely worse than {mean:.4f} of trial {best}" if worse else None
    )


def _by_seed(study: optuna.Study, trial: int) -> dict[int, float]:
    """The values of a configuration's repeats so far, by the number of their seed."""
    found = engine.counted(study.get_trials(deepcopy=False))
    mine = [t for t in found if t.user_attrs.get(REPEAT_TRIAL) == trial and t.state == TrialState.COMPLETE]
    return {t.user_attrs[REPEAT_INDEX]: float(t.values[0]) for t in mine if t.values}


def measured(study: optuna.Study) -> list[Repeated]:
    """Each repeated configuration, the best mean first; of several objectives one after the other that can vary."""
    goals, trials = shown.goals_of(study), study.get_trials(deepcopy=False)
    repeated, found = study.user_attrs["plan"]["repeats"], []
    for at, sign in enumerate(ranking.signs(study)):
        name = goals.objectives[at].name
        if name not in KNOWN or not goals.several:
            each = [_measured(source, trials, sign, at, name) for source in repeated]
            found += sorted(each, key=lambda r: (math.isnan(r.mean), -sign * r.mean))
    return found


def _measured(source: Mapping[str, Any], trials: Sequence[FrozenTrial], sign: int, at: int, name: str) -> Repeated:
    mine = [t for t in engine.counted(list(trials)) if t.user_attrs.get(REPEAT_TRIAL) == source["trial"]]
    values = tuple(float(t.values[at]) for t in mine if t.state == TrialState.COMPLETE and t.values)
    first = source.get("values", {}).get(name, source["value"])
    mean = float(np.mean(values)) if values else math.nan
    return Repeated(
        objective=name,
        trial=source["trial"],
        first=first,
        values=values,
        failed=sum(t.state in (TrialState.FAIL, TrialState.PRUNED) for t in mine),
        mean=mean,
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
        interval=mean_interval(values),
        flattery=sign * (first - mean),
    )


def check_same(stored: Mapping[str, Any], repeated: Sequence[Source], name: str) -> None:
    """Raises InputError where the study `name` repeats something else."""
    before = [(s["study"], s["trial"], s["epochs"]) for s in stored.get("repeats", ())]
    if before != [(s.study, s.trial, s.epochs) for s in repeated]:
        told = ", ".join(f"{trial} of {study} for {epochs} epochs" for study, trial, epochs in before) or "none"
        raise InputError(f"study {name!r} repeats trials {told}; name another with --name")
