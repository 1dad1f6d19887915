"""Optuna's home: opens a study, proposes configurations, writes only what is accepted."""

from __future__ import annotations

import functools
import hashlib
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy as copy_of
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from search.engines import menu, samplers
from search.engines.menu import Chosen
from search.engines.samplers import Ask
from search.errors import StoreError
from search.objectives import Direction
from search.settings import hint, masked
from spaces import HyperParameters, Parameter, Space, config_hash, declared, reachable

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

# Repeats in a row after which a sampler, which sees no other way, is helped out by random draws; one that walks along a
# sequence passes over more of them.
OWN_ASKS, WALK_ASKS = 5, 20
MAX_ASKS = 100  # and after which nothing is left, unless what is left can be counted
REFUSED = "search.refused"
NOTED = "sampler.notes"  # of a trial: what its sampler keeps with it, to go on from
RESTS = "rests"  # of an unfinished trial: the epochs after which it waits to be gone on with, None where it does not
AUDITED = "audited"  # of a trial that goes on although it was stopped: the epochs after which
POSITION = "search.position"  # along the sequence of a sampler that walks one
ASIDE = "@"  # in the name of a study that is none of its own: the draft of a newer version, or the one it replaced


NOTING = ("cmaes", "nsga2", "nsga3")  # samplers that go on from what they noted with each trial


class Exhausted(Exception):
    """Raised when no new configuration is found after MAX_ASKS proposals in a row."""


class SpaceFault(Exception):
    """Raised when a space's own code fails on one configuration; holds what is known of that."""

    def __init__(self, error: Exception, trial: FrozenTrial, position: int) -> None:
        self.error, self.trial, self.position = error, trial, position
        super().__init__(f"the space failed on one configuration: {type(error).__name__}: {error}")


class OptunaDraws(HyperParameters):
    """The hp vocabulary over a live Optuna trial, which follows plain Python ifs.

    A parameter with one value left is not suggested at all. What Optuna cannot express is suggested under another
    name: a multiplicative or uneven step as `name#index`, a reversed logarithm as `name#reflected`, a second
    hyperparameter of the same name as `name#` and what it is.
    """

    def __init__(self, trial: optuna.Trial | FixedTrial, narrowings: Mapping[str, str]) -> None:
        super().__init__(narrowings)
        self.trial = trial

    def draw(self, parameter: Parameter) -> Any:
        name, trial = parameter.own_name, self.trial
        if parameter.single:
            return parameter.choices[0] if parameter.choices else _typed(parameter, cast(float, parameter.low))
        if parameter.choices:
            return trial.suggest_categorical(name, parameter.choices)
        grid, low, high = parameter.grid(), cast(float, parameter.low), cast(float, parameter.high)
        log = parameter.sampling == "log"
        if grid is not None and parameter.step is not None and not _is_stepped(parameter, grid):
            return _typed(parameter, grid[trial.suggest_int(f"{name}#index", 0, len(grid) - 1)])
        if parameter.sampling == "reverse_log":
            drawn = trial.suggest_float(f"{name}#reflected", low, high, log=True)
            return _typed(parameter, high + low - drawn)
        if parameter.kind == "int":
            most = int(grid[-1] if grid else high)
            return trial.suggest_int(name, int(low), most, step=int(parameter.step or 1), log=log)
        if grid is not None:
            drawn = trial.suggest_float(name, grid[0], grid[-1], step=parameter.step)
            return min(grid, key=lambda v: abs(v - drawn))
        return trial.suggest_float(name, low, high, log=log)


def _is_stepped(parameter: Parameter, grid: Sequence[float]) -> bool:
    """Whether Optuna has such steps: even ones, and of floats those that it finds to add up digit by digit."""
    low, high, step = (Decimal(str(number)) for number in (grid[0], grid[-1], parameter.step))
    return parameter.sampling == "linear" and (high - low) % step == 0


def _typed(parameter: Parameter, value: float) -> float:
    return round(value) if parameter.kind == "int" else float(value)


@dataclass(frozen=True)
class Proposal:
    """One configuration and what Optuna must store of it; `seed` proposed it after `asks` repeats.

    `position` is where along its sampler's sequence it was found; None for what no sampler drew. `notes` are what its
    sampler keeps with it, `said` further attributes of its trial.
    """

    config: dict[str, Any]
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    seed: int | None = None
    asks: int = 0
    refused: str | None = None
    position: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)


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


def unsynced(store: optuna.storages.BaseStorage) -> None:
    """Have an SQLite store leave it to the system when it writes to the disk: some ten times as fast.

    A kill loses nothing by it, a power cut may lose the whole store. Other stores stay as they are.
    """
    if not isinstance(store, RDBStorage) or store.engine.dialect.name != "sqlite":
        return
    sqlalchemy.event.listen(store.engine, "connect", lambda made, _: made.execute("pragma synchronous = off"))
    store.engine.dispose()  # connections from before


def open_study(
    store: optuna.storages.BaseStorage,
    name: str,
    *,
    direction: Direction | Sequence[Direction],
    pruner: optuna.pruners.BasePruner,
    create: bool,
) -> optuna.Study:
    """The study `name`, made where `create` is true, with the direction of each objective.

    Raises KeyError where it is not there.
    """
    sampler = optuna.samplers.RandomSampler(seed=0)  # never asked: proposals are drawn on a copy
    if create:
        directions = [direction] if isinstance(direction, str) else list(direction)
        return optuna.create_study(
            study_name=name, storage=store, sampler=sampler, pruner=pruner, directions=directions
        )
    return optuna.load_study(study_name=name, storage=store, sampler=sampler, pruner=pruner)


class Known(OptunaDraws):
    """A configuration drawn again, by the values that it has or, where they differ, those that Optuna stored of it."""

    def __init__(self, config: Mapping[str, Any], narrowings: Mapping[str, str]) -> None:
        self.config, self._given = config, dict(config)
        super().__init__(FixedTrial(self._given), narrowings)

    def draw(self, parameter: Parameter) -> Any:
        """One value for `parameter`."""
        name, stored, grid = parameter.name, parameter.own_name, parameter.grid()
        if not parameter.single and name in self.config:
            self._given.setdefault(stored, self.config[name])
        if not parameter.single and not parameter.choices and name in self.config:
            value = cast(float, self.config[name])
            if grid is not None and parameter.step is not None and not _is_stepped(parameter, grid):
                nearest = min(range(len(grid)), key=lambda i: abs(grid[i] - value))
                there = math.isclose(grid[nearest], value, rel_tol=1e-9)
                self._given.setdefault(f"{stored}#index", nearest if there else len(grid))  # Optuna says: out of range
            elif parameter.sampling == "reverse_log":
                reflected = cast(float, parameter.high) + cast(float, parameter.low) - value
                self._given.setdefault(f"{stored}#reflected", reflected)
        drawn = super().draw(parameter)
        return self.config[name] if name in self.config and parameter.sampling == "reverse_log" else drawn


def replay(space: Space, config: Mapping[str, Any], narrowings: Mapping[str, str]) -> Proposal:
    """A known configuration as a proposal; `config` may also hold what Optuna stored of it (`name#index`)."""
    hp = Known(config, narrowings)
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
    (see Ask), so a repeated configuration leaves no trace and teaches the sampler nothing of later ones. A sampler that
    proposes known configurations again and again, as on a small grid, is helped out by random draws, at last by what is
    left. For the options `spread` and `partial` of tpe see samplers.OURS. Raises Exhausted, and SpaceFault where
    sample() or `refuse` fails.
    """
    chosen, by_chance = menu.read("sampler", sampler), Chosen("random")
    trials = study.get_trials(deepcopy=False)
    seen = [_as_seen(t) for t in (*lessons, *trials)]
    if chosen.options.get("partial") and len(study.directions) == 1:
        best = max if study.direction == StudyDirection.MAXIMIZE else min
        seen = [_at_its_best(t, best) for t in seen]
    known = {t.user_attrs.get("config.hash") for t in (*lessons, *trials)}
    faulty = [t.params for t in trials if t.state == TrialState.FAIL and REFUSED in t.user_attrs]
    start = 1 + max((t.user_attrs.get(POSITION, -1) for t in trials), default=-1)
    listed, most = menu.member("sampler", chosen.name).listed, MAX_ASKS
    dimensions = functools.cache(lambda: _dimensions(space, narrowings, all_of_them=not listed))
    if listed:
        most = max(MAX_ASKS, samplers.grid_size(dimensions()) - start)
    copy, drawn_by = study, 0
    asked = Chosen("qmc") if len(seen) < chosen.options.get("spread", 0) else chosen
    own_asks = WALK_ASKS if asked.name in samplers.WALKING else OWN_ASKS
    for asks in range(most + 1):
        if not listed and asks == own_asks:
            asked = by_chance
        if asks == most:  # the one that knows what is left, where that can be listed
            if not all(map(samplers.is_listed, _dimensions(space, narrowings, all_of_them=False).values())):
                break
            asked = Chosen("brute")
        # One that walks along a sequence is told its place; another is asked again on the same copy, where it sees
        # what it has just proposed.
        if asked.name in samplers.WALKING or asks in (0, own_asks, most):
            drawn_by = derive(seed, "ask", len(trials), asks)
            options = asked.options if asked is chosen else {}
            shown = seen
            if asked.name == "brute":  # it takes whatever it sees for tried
                shown = [t for t in seen[: len(lessons)] if "config.hash" in t.user_attrs] + seen[len(lessons) :]
            copy = _copy(study, samplers.make(asked, Ask(drawn_by, seed, start + asks, dimensions, options)), shown)
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
        notes = {k: v for k, v in frozen.system_attrs.items() if asked.name in NOTING}
        return Proposal(config, params, distributions, drawn_by, asks, refused, start + asks, notes)
    raise Exhausted(f"no new configuration in {most} proposals")


def _copy(study: optuna.Study, sampler: optuna.samplers.BaseSampler, trials: list[FrozenTrial]) -> optuna.Study:
    """A study in memory of these trials, of the same name, since a pruner tells a trial's bracket by it."""
    kept = InMemoryStorage()
    copy = optuna.create_study(
        study_name=study.study_name, storage=kept, sampler=sampler, pruner=study.pruner, directions=study.directions
    )
    for trial in trials:
        kept.create_new_trial(copy._study_id, _Uncopied.of(trial))
    return copy


class _Uncopied(FrozenTrial):
    """A trial that a store in memory keeps as it is: it never changes one in place, and copies of all take long."""

    @classmethod
    def of(cls, trial: FrozenTrial) -> _Uncopied:
        """The same trial."""
        found = copy_of(trial)
        found.__class__ = cls
        return cast(_Uncopied, found)

    def __deepcopy__(self, memo: Any) -> _Uncopied:
        return copy_of(self)


def _as_seen(trial: FrozenTrial) -> FrozenTrial:
    """A trial as samplers are to see it: one that waits at a rung is as good as its epochs say, not unknown."""
    notes, rests = trial.user_attrs.get(NOTED), trial.user_attrs.get(RESTS) is not None
    rests = rests and not trial.state.is_finished()
    if not notes and not rests:
        return trial
    seen = copy_of(trial)
    seen.system_attrs = {**trial.system_attrs, **(notes or {})}
    if rests:
        seen.state, seen.datetime_complete = TrialState.PRUNED, trial.datetime_start
    return seen


def _at_its_best(trial: FrozenTrial, best: Callable[[Sequence[float]], float]) -> FrozenTrial:
    """A trial as a sampler is to see it to which one that was stopped is worth the best it reached."""
    values = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
    if trial.state != TrialState.PRUNED or not values:
        return trial
    seen = copy_of(trial)
    seen.state, seen.values = TrialState.COMPLETE, [best(values)]
    return seen


def _dimensions(
    space: Space, narrowings: Mapping[str, str], *, all_of_them: bool = True
) -> dict[str, BaseDistribution]:
    """Every hyperparameter that is sampled, active or not, as Optuna has it; or those that can be active."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    hp = OptunaDraws(trial, narrowings)
    found = declared(space, narrowings)
    for parameter in (found if all_of_them else reachable(found)).values():
        hp.draw(parameter)
    return trial.distributions


def complete(proposal: Proposal, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """All attributes of a trial made from a proposal."""
    found = dict(attributes) | {"config": proposal.config, "config.hash": config_hash(proposal.config)}
    found |= {NOTED: dict(proposal.notes)} if proposal.notes else {}
    found |= proposal.said
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
    if len(study.directions) > 1 or isinstance(study.pruner, optuna.pruners.NopPruner):
        return False, {}
    copy = _copy(study, study.sampler, [_as_stopped(t) for t in study.get_trials(deepcopy=False)])
    mine = numbered(copy, trial.number)
    before = dict(mine.system_attrs)
    verdict = bool(study.pruner.prune(copy, mine))  # some give numpy's
    after = numbered(copy, trial.number).system_attrs
    return verdict, {name: value for name, value in after.items() if name not in before}


def _as_stopped(trial: FrozenTrial) -> FrozenTrial:
    """A trial that went on only to be audited, as others are to be compared with it: as if it had been stopped."""
    audited = trial.user_attrs.get(AUDITED)
    if audited is None:
        return trial
    seen = copy_of(trial)
    seen.state, seen.datetime_complete = TrialState.PRUNED, trial.datetime_complete or trial.datetime_start
    seen.values = None
    seen.intermediate_values = {step: v for step, v in trial.intermediate_values.items() if step <= audited}
    return seen


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


def plans(store: optuna.storages.BaseStorage) -> list[dict[str, Any]]:
    """What each study of a store has as its plan; empty for those that this program did not make."""
    return [store.get_study_user_attrs(study._study_id).get("plan", {}) for study in store.get_all_studies()]


def _started(store: optuna.storages.BaseStorage, study_id: int) -> datetime:
    try:
        trials = store.get_all_trials(study_id, deepcopy=False)
    except Exception:  # whatever rows that Optuna cannot read raise: where it stands in a list matters less
        return datetime.max
    return min((t.datetime_start for t in trials if t.datetime_start), default=datetime.max)
