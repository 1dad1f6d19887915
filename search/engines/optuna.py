"""Optuna's home: opens a study, proposes configurations, writes only what is accepted."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from search.engines.samplers import SAMPLERS, Ask
from search.errors import StoreError
from search.settings import hint, masked
from spaces import HyperParameters, Parameter, Space, config_hash, declared

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

MAX_ASKS = 100
NOTING = (optuna.pruners.SuccessiveHalvingPruner, optuna.pruners.HyperbandPruner)  # pruners that write to the store
REFUSED = "search.refused"
POSITION = "search.position"  # along the sequence of a sampler that walks one
ASIDE = "@"  # in the name of a study that is none of its own: the draft of a newer version, or the one it replaced


class Exhausted(Exception):
    """Raised when no new configuration is found after MAX_ASKS proposals in a row."""


class SpaceFault(Exception):
    """Raised when a space's own code fails on one configuration; holds what is known of that."""

    def __init__(self, error: Exception, trial: FrozenTrial, position: int) -> None:
        self.error, self.trial, self.position = error, trial, position
        super().__init__(f"the space failed on one configuration: {type(error).__name__}: {error}")


class OptunaDraws(HyperParameters):
    """The hp vocabulary over a live Optuna trial, which follows plain Python ifs.

    A parameter with one value left is not suggested at all. What Optuna cannot express is suggested
    under another name: a multiplicative step as `name#index`, a reversed logarithm as `name#reflected`.
    """

    def __init__(self, trial: optuna.Trial | FixedTrial, narrowings: Mapping[str, str]) -> None:
        super().__init__(narrowings)
        self.trial = trial

    def draw(self, parameter: Parameter) -> Any:
        name, trial = parameter.name, self.trial
        if parameter.single:
            return parameter.choices[0] if parameter.choices else _typed(parameter, cast(float, parameter.low))
        if parameter.choices:
            return trial.suggest_categorical(name, parameter.choices)
        grid, low, high = parameter.grid(), cast(float, parameter.low), cast(float, parameter.high)
        log = parameter.sampling == "log"
        if grid is not None and parameter.sampling != "linear" and parameter.step is not None:
            return _typed(parameter, grid[trial.suggest_int(f"{name}#index", 0, len(grid) - 1)])
        if parameter.sampling == "reverse_log":
            drawn = trial.suggest_float(f"{name}#reflected", low, high, log=True)
            return _typed(parameter, high + low - drawn)
        if parameter.kind == "int":
            return trial.suggest_int(name, int(low), int(high), step=int(parameter.step or 1), log=log)
        if grid is not None:
            drawn = trial.suggest_float(name, grid[0], grid[-1], step=parameter.step)
            return min(grid, key=lambda v: abs(v - drawn))
        return trial.suggest_float(name, low, high, log=log)


def _typed(parameter: Parameter, value: float) -> float:
    return round(value) if parameter.kind == "int" else float(value)


@dataclass(frozen=True)
class Proposal:
    """One configuration and what Optuna must store of it; `seed` proposed it after `asks` repeats.

    `position` is where along its sampler's sequence it was found; None for what no sampler drew.
    """

    config: dict[str, Any]
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    seed: int | None = None
    asks: int = 0
    refused: str | None = None
    position: int | None = None


def derive(seed: int, *parts: object) -> int:
    """A 31-bit seed from the study's and what it is for; the same everywhere."""
    text = ":".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF


def storage(address: str) -> optuna.storages.BaseStorage:
    """The study store at a SQLAlchemy address. Raises StoreError where it cannot be opened."""
    for last in (False, False, False, True):
        try:
            return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
        except Exception as error:
            # Two processes that make the tables at the same time: one of them fails, and finds them made.
            cause = error.__cause__ or error
            if last or type(cause).__name__ not in ("IntegrityError", "OperationalError"):
                reason = str(getattr(cause, "orig", cause)).splitlines()[0]
                told = f"study store {masked(address)} cannot be opened: {reason}; {hint(reason)}"
                raise StoreError(told) from error
            time.sleep(0.5)
    raise AssertionError("unreachable")


def open_study(
    store: optuna.storages.BaseStorage,
    name: str,
    *,
    direction: Literal["maximize", "minimize"],
    pruner: optuna.pruners.BasePruner,
    create: bool,
) -> optuna.Study:
    """The study `name`, made where `create` is true. Raises KeyError where it is not there."""
    sampler = optuna.samplers.RandomSampler(seed=0)  # never asked: proposals are drawn on a copy
    if create:
        return optuna.create_study(study_name=name, storage=store, sampler=sampler, pruner=pruner, direction=direction)
    return optuna.load_study(study_name=name, storage=store, sampler=sampler, pruner=pruner)


def replay(space: Space, config: Mapping[str, Any], narrowings: Mapping[str, str]) -> Proposal:
    """A known configuration as a proposal."""
    hp = OptunaDraws(FixedTrial(dict(config)), narrowings)
    drawn = space.sample(hp)
    trial = cast(FixedTrial, hp.trial)
    return Proposal(drawn, dict(trial.params), dict(trial.distributions))


def propose(
    study: optuna.Study,
    space: Space,
    narrowings: Mapping[str, str],
    *,
    sampler: str,
    seed: int,
    refuse: Callable[[dict[str, Any]], str | None],
    lessons: Sequence[FrozenTrial] = (),
) -> Proposal:
    """The next configuration, one not yet in the study; `refused` says why where it is not to be run.

    `lessons` are trials of other studies that the sampler learns from first; the configuration of one that has a hash
    is known, too.

    It is drawn on an in-memory copy of the study by a sampler made from the stored trials and the seeds alone
    (see Ask), so a repeated configuration leaves no trace and teaches the sampler nothing. Raises Exhausted, and
    SpaceFault where sample() or `refuse` fails.
    """
    trials = study.get_trials(deepcopy=False)
    known = {t.user_attrs.get("config.hash") for t in (*lessons, *trials)}
    faulty = [t.params for t in trials if t.state == TrialState.FAIL and REFUSED in t.user_attrs]
    start = 1 + max((t.user_attrs.get(POSITION, -1) for t in trials), default=-1)
    for asks in range(MAX_ASKS):
        drawn_by = derive(seed, "ask", len(trials), asks)
        ask = Ask(drawn_by, seed, start + asks, lambda: _dimensions(space, narrowings))
        copy = optuna.create_study(sampler=SAMPLERS[sampler](ask), directions=study.directions)
        copy.add_trials([*lessons, *trials])
        trial = copy.ask()
        try:
            config = space.sample(OptunaDraws(trial, narrowings))
            if config_hash(config) in known:
                continue
            refused = refuse(config)
        except Exception as error:
            fault = SpaceFault(error, copy.get_trials(deepcopy=False)[-1], start + asks)
            if fault.trial.params in faulty:
                continue
            raise fault from error
        frozen = copy.get_trials(deepcopy=False)[-1]
        params, distributions = dict(frozen.params), dict(frozen.distributions)
        return Proposal(config, params, distributions, drawn_by, asks, refused, start + asks)
    raise Exhausted(f"no new configuration in {MAX_ASKS} proposals")


def _dimensions(space: Space, narrowings: Mapping[str, str]) -> dict[str, BaseDistribution]:
    """Every hyperparameter that is sampled, active or not, as Optuna has it."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    hp = OptunaDraws(trial, narrowings)
    for parameter in declared(space, narrowings).values():
        hp.draw(parameter)
    return trial.distributions


def complete(proposal: Proposal, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """All attributes of a trial made from a proposal."""
    found = dict(attributes) | {"config": proposal.config, "config.hash": config_hash(proposal.config)}
    return found if proposal.position is None else found | {POSITION: proposal.position}


def accept(
    study: optuna.Study, proposal: Proposal, attributes: Mapping[str, Any], *, violation: float = 1.0
) -> FrozenTrial:
    """Writes a proposal into the study: running, or pruned and infeasible by `violation` where it was refused."""
    refused = {} if proposal.refused is None else {REFUSED: proposal.refused}
    frozen = optuna.trial.create_trial(
        state=TrialState.PRUNED if refused else TrialState.RUNNING,
        params=proposal.params,
        distributions=proposal.distributions,
        user_attrs=complete(proposal, attributes) | refused,
        constraints={"refused": violation} if refused else None,
    )
    study.add_trial(frozen)
    return study.get_trials(deepcopy=False)[-1]


def pass_over(study: optuna.Study, fault: SpaceFault, why: str) -> None:
    """Writes down that the space failed on a configuration, so that it is not drawn again and again."""
    frozen = optuna.trial.create_trial(
        state=TrialState.FAIL,
        params=fault.trial.params,
        distributions=fault.trial.distributions,
        user_attrs={REFUSED: why, POSITION: fault.position},
    )
    study.add_trial(frozen)


def record(
    number: int,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """A trial as JSON, from which `restored` makes it again."""
    return {
        "number": number,
        "params": dict(params),
        "distributions": {name: distribution_to_json(d) for name, d in distributions.items()},
        "attributes": dict(attributes),
    }


def restored(stored: Mapping[str, Any], **known: Any) -> FrozenTrial:
    """The trial of a `record`, with what else is known of it: state, values, attributes."""
    distributions = {n: json_to_distribution(text) for n, text in stored["distributions"].items()}
    attributes = {**stored["attributes"], **known.pop("user_attrs", {})}
    return optuna.trial.create_trial(
        params=stored["params"], distributions=distributions, user_attrs=attributes, **known
    )


def reopen(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """A stored, unfinished trial that takes reports again and can be told."""
    return optuna.trial.Trial(study, trial._trial_id)


def numbered(study: optuna.Study, number: int) -> FrozenTrial:
    """A trial as the study store has it now. Raises KeyError where it is not there."""
    storage = study._storage
    return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def should_prune(study: optuna.Study, trial: optuna.Trial) -> tuple[bool, dict[str, Any]]:
    """Whether the pruner stops a trial, and what the pruner would note of it in the store.

    It is asked on an in-memory copy, so that asking again after a kill gives the same answer: a pruner that compares
    at rungs notes a rung as passed while it is asked. `note_verdict` writes the notes once the answer is written down.
    """
    if not isinstance(study.pruner, NOTING):
        return bool(trial.should_prune()), {}  # some give numpy's
    copy = optuna.create_study(directions=study.directions, pruner=study.pruner)
    copy.add_trials(study.get_trials(deepcopy=False))
    mine = numbered(copy, trial.number)
    before = dict(mine.system_attrs)
    verdict = study.pruner.prune(copy, mine)
    after = numbered(copy, trial.number).system_attrs
    return verdict, {name: value for name, value in after.items() if name not in before}


def note_verdict(study: optuna.Study, trial: optuna.Trial, notes: Mapping[str, Any]) -> None:
    """Write what a pruner noted; done again it changes nothing."""
    for name, value in notes.items():
        study._storage.set_trial_system_attr(trial._trial_id, name, value)


def tell_infeasible(study: optuna.Study, trial: optuna.Trial, name: str, violation: float) -> None:
    """Ends a trial that broke constraint `name` by `violation`, above zero: pruned, and infeasible to the sampler.

    Raises ValueError where `violation` is not above zero, which would read as feasible.
    """
    if not violation > 0:
        raise ValueError(f"violation {violation:g}: must be above zero")
    if name not in trial.constraints:  # told before, by a coordinator killed in between
        trial.set_constraint(name, violation)
    study.tell(trial, state=TrialState.PRUNED)


def unfinished(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were begun and not told, the oldest first."""
    return [t for t in counted(trials) if not t.state.is_finished()]


def counted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count towards --trials: all but those refused beforehand."""
    return [t for t in trials if REFUSED not in t.user_attrs]


def database(study: optuna.Study, otherwise: str) -> RDBStorage:
    """The database a study is in. Raises StoreError, which says what is so `otherwise`, where it is in none."""
    store: Any = study._storage
    store = getattr(store, "_backend", store)
    if not isinstance(store, RDBStorage):
        raise StoreError(f"the study store of {study.study_name!r} is no database; {otherwise}")
    return store


def studies(store: optuna.storages.BaseStorage) -> list[FrozenStudy]:
    """Every study of a store, newest last."""
    # Not Optuna's summaries: those look for each study's best trial, which one damaged row makes impossible for all.
    found = [study for study in store.get_all_studies() if ASIDE not in study.study_name]
    return sorted(found, key=lambda study: _started(store, study._study_id))


def _started(store: optuna.storages.BaseStorage, study_id: int) -> datetime:
    try:
        trials = store.get_all_trials(study_id, deepcopy=False)
    except Exception:  # whatever rows that Optuna cannot read raise: where it stands in a list matters less
        return datetime.max
    return min((t.datetime_start for t in trials if t.datetime_start), default=datetime.max)
