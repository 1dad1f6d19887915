"""A trial's figures are written down before they are told, and stay what they were, however often it is killed."""

import math

import optuna
import pytest
from optuna.trial import TrialState
from support import trial_spec

from search import store
from search.engines import optuna as engine
from search.engines import pruners
from search.engines.menu import Chosen
from search.fitting import over_known
from search.goals import read_goals
from search.objectives import Objective
from search.ranking import Point, within
from search.scores import Scores
from spaces import find
from spaces.datasets import describe

SPACE = find("cnn_digits")
OWN = Objective(SPACE.metric, SPACE.direction)
HISTORY = [{"val_accuracy": a, "val_loss": 1 - a, "seconds": 2.0} for a in (0.3, 0.6, 0.5)]
DONE = {"state": "complete", "value": 0.6, "figures": {"latency_ms": 7.2}}


def opened(*objectives, limits=()):
    goals = read_goals(objectives, limits, OWN)
    study = optuna.create_study(directions=[o.direction for o in goals.objectives])
    return study, Scores(goals, SPACE, study)


def again(study):
    """The first trial as a new coordinator gets hold of it."""
    return optuna.trial.Trial(study, study.get_trials(deepcopy=False)[0]._trial_id)


def test_what_was_written_down_first_is_what_counts(tmp_path):
    study, scores = opened("val_accuracy:max", "latency_ms:min", limits=["latency_ms<=5"])
    spec, trial = trial_spec(tmp_path), study.ask()
    assert scores.trained(spec, HISTORY, DONE) == Point(0, (0.6, 7.2), within=False)
    later = DONE | {"figures": {"latency_ms": 1.0}}
    assert scores.trained(spec, HISTORY, later) == Point(0, (0.6, 7.2), within=False), "measured again after a kill"
    assert scores.over(tmp_path) == "over limit: latency_ms 7.200 > 5"
    scores.tell(trial, tmp_path, 0.6)
    told = study.get_trials()[0]
    assert (told.state, told.values) == (TrialState.COMPLETE, [0.6, 7.2])
    assert told.constraints == {"latency_ms<=5": pytest.approx(0.44)}
    assert not within(told)


def test_a_coordinator_killed_while_it_told_a_trial_tells_it_again(tmp_path):
    study, scores = opened("val_accuracy:max", "params:min", limits=["latency_ms<=5"])
    spec, trial = trial_spec(tmp_path), study.ask()
    scores.trained(spec, HISTORY, DONE)
    trial.set_constraint("latency_ms<=5", 0.44)
    scores.tell(again(study), tmp_path, 0.6)
    assert study.get_trials()[0].values == [0.6, SPACE.params(spec.config, scores.data)]


def test_epochs_are_counted_where_optuna_takes_no_reports_and_caught_up_with_after_a_kill():
    study, scores = opened("val_accuracy:max", "params:min")
    trial = study.ask()
    scores.report(trial, HISTORY[0], 1)
    recorded = [{"epoch": i, "metrics": metrics} for i, metrics in enumerate(HISTORY)]
    scores.catch_up(again(study), study.get_trials()[0], recorded)
    assert study.get_trials()[0].user_attrs["trained"] == 3
    assert study.get_trials()[0].intermediate_values == {}
    single, plain = opened()
    reported = single.ask()
    plain.report(reported, HISTORY[0], 1)
    plain.catch_up(reported, single.get_trials()[0], recorded)
    assert single.get_trials()[0].intermediate_values == {1: 0.3, 2: 0.6, 3: 0.5}


def test_a_study_of_the_space_s_own_objective_writes_nothing_beside_its_epochs(tmp_path):
    study, scores = opened()
    trial = study.ask()
    assert scores.trained(trial_spec(tmp_path), HISTORY, {"state": "complete", "value": 0.6}) == Point(0, (0.6,))
    scores.tell(trial, tmp_path, 0.6)
    assert not store.events(tmp_path)
    assert study.best_value == 0.6
    assert study.get_trials()[0].user_attrs == {}


def test_an_objective_that_is_no_number_is_named(tmp_path):
    _, scores = opened("val_accuracy:max", "val_loss:min")
    broken = [record | {"val_loss": math.nan} for record in HISTORY]
    scores.trained(trial_spec(tmp_path), broken, DONE)
    assert scores.unusable(tmp_path, 0.6) == "val_loss is nan"
    _, single = opened()
    assert single.unusable(tmp_path, math.nan) == "val_accuracy is nan"
    assert single.unusable(tmp_path, 0.5) == ""


def searched(store, count, sampler):
    """A search with a front, in which everything happens: trials refused, over a limit, out of memory, failed."""
    goals = read_goals(["val_accuracy:max", "params:min"], ["latency_ms<=5", "params<=12000"], OWN)
    known = {s.study_name for s in engine.studies(store)}
    directions = [o.direction for o in goals.objectives]
    study = engine.open_study(
        store, "s", direction=directions, pruner=pruners.make(Chosen("none"), 1), create="s" not in known
    )
    data = describe(SPACE.dataset)
    while len(engine.counted(study.get_trials(deepcopy=False))) < count:
        proposal = engine.propose(
            study,
            SPACE,
            {},
            sampler=sampler,
            seed=3,
            refuse=lambda config: over_known(SPACE, config, data, goals.limits),
        )
        size = SPACE.params(proposal.config, data)
        excess = goals.excess({"params": size})
        frozen = engine.accept(study, proposal, {}, violation=excess or 1.0)
        if proposal.refused is not None:
            assert excess > 0
            continue
        trial, outcome = engine.reopen(study, frozen), engine.derive(0, "outcome", frozen.number) % 6
        if outcome == 0:
            study.tell(trial, state=TrialState.FAIL)
        elif outcome == 1:
            engine.tell_infeasible(study, trial, "memory", 0.2)
        else:
            assert engine.should_prune(study, trial) == (False, {})
            figures = {"val_accuracy": proposal.config["learning_rate"], "params": size, "latency_ms": outcome + 0.5}
            for key, violation in goals.constraints(figures).items():
                trial.set_constraint(key, violation)
            study.tell(trial, goals.values(figures))
    return [t.params for t in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_search_for_a_front_resumed_half_way_proposes_what_one_go_would_have(tmp_path, sampler):
    whole = searched(optuna.storages.InMemoryStorage(), 24, sampler)
    address = f"sqlite:///{tmp_path}/study.db"
    searched(engine.storage(address), 11, sampler)
    assert searched(engine.storage(address), 24, sampler) == whole
