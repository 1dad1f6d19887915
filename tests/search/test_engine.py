"""Proposals: distinct, seeded, resumable; refused ones teach the sampler, repeated ones leave no trace."""

import contextlib
import functools
import sqlite3
import tempfile
from collections import Counter
from itertools import pairwise

import numpy as np
import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from search.engines import menu, pruners, samplers
from search.engines import optuna as engine
from search.engines.menu import Chosen
from search.engines.rungs import rungs
from search.engines.samplers import Ask
from spaces import config_hash, find

SPACE = find("cnn_digits")


def study(tmp_path=None, name="s"):
    store = engine.storage(f"sqlite:///{tmp_path}/study.db") if tmp_path else optuna.storages.InMemoryStorage()
    create = name not in {s.study_name for s in engine.studies(store)}
    return engine.open_study(store, name, direction="maximize", pruner=pruners.make(Chosen("none"), 1), create=create)


def search(opened, count, sampler="tpe", narrowings=None, refuse=lambda config: None, seed=0):
    """Ask and tell until `count` trials are done; the value is a function of the configuration."""
    while len(engine.counted(opened.get_trials(deepcopy=False))) < count:
        proposal = engine.propose(opened, SPACE, narrowings or {}, sampler=sampler, seed=seed, refuse=refuse)
        frozen = engine.accept(opened, proposal, {})
        if proposal.refused is None:
            value = proposal.config["dense_units"] + proposal.config["learning_rate"]
            opened.tell(engine.reopen(opened, frozen), value)
    return [t.user_attrs["config"] for t in engine.counted(opened.get_trials(deepcopy=False))]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_search_resumed_half_way_proposes_what_one_go_would_have(tmp_path, sampler):
    whole = search(study(), 24, sampler)
    search(study(tmp_path), 11, sampler)
    assert search(study(tmp_path), 24, sampler) == whole


def mixed(opened, count, sampler, space=SPACE):
    """A search in which everything happens: a baseline first, pruned, failed, refused and infeasible trials."""

    def refuse(config):
        return "too wide" if config["batch_size"] == 64 and config["optimizer"] == "sgd" else None

    while len(done := engine.counted(opened.get_trials(deepcopy=False))) < count:
        if not done:
            proposal = engine.replay(space, space.baselines[0].config, {})
        else:
            proposal = engine.propose(opened, space, {}, sampler=sampler, seed=5, refuse=refuse)
        frozen = engine.accept(opened, proposal, {}, violation=0.3)
        if proposal.refused is None:
            trial, value = engine.reopen(opened, frozen), proposal.config["learning_rate"]
            outcome = engine.derive(0, "outcome", frozen.number) % 6
            if outcome == 0:
                trial.report(value / 3, 1)
                trial.report(value / 2, 2)
                opened.tell(trial, state=TrialState.PRUNED)
            elif outcome == 1:
                opened.tell(trial, state=TrialState.FAIL)
            elif outcome == 2:
                engine.tell_infeasible(opened, trial, "memory", 0.1 + value)
            else:
                opened.tell(trial, value)
    return [t.user_attrs["config"] for t in opened.get_trials(deepcopy=False)]


@functools.cache
def in_one_go(sampler):
    return mixed(study(), 30, sampler)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
@given(splits=st.lists(st.integers(0, 30), min_size=1, max_size=3).map(sorted))
@example(splits=[15])
@settings(max_examples=3, deadline=None)
def test_a_search_resumed_anywhere_proposes_what_one_go_would_have(sampler, splits):
    """Whatever became of its trials, baselines first, in a file or in memory."""
    in_memory = study()
    with tempfile.TemporaryDirectory() as folder:
        for count in (*splits, 30):
            from_file = mixed(study(folder), count, sampler)
            from_memory = mixed(in_memory, count, sampler)
    assert from_file == from_memory == in_one_go(sampler)


def positions(opened):
    return [t.user_attrs[engine.POSITION] for t in opened.get_trials(deepcopy=False) if engine.POSITION in t.user_attrs]


def test_qmc_walks_along_one_sequence_from_its_start_whatever_became_of_its_trials():
    opened = study()
    mixed(opened, 30, "qmc")
    assert positions(opened) == list(range(len(positions(opened)))), "no repeats in a large space, hence no gaps"
    assert any(engine.REFUSED in t.user_attrs for t in opened.get_trials(deepcopy=False))
    assert engine.POSITION not in opened.get_trials(deepcopy=False)[0].user_attrs, "the baseline is not part of it"


def test_qmc_leaves_out_of_its_sequence_only_what_would_repeat_a_configuration():
    narrow = {"learning_rate": "0.001", "weight_decay": "0", "dropout": "0", "optimizer": "adam", "filters": "8"}
    opened = study()
    search(opened, 60, "qmc", narrow)
    walked = positions(opened)
    assert walked[-1] > 59
    everything, seen = [], set()
    for position in range(walked[-1] + 1):
        ask = Ask(0, 0, position, lambda: engine._dimensions(SPACE, narrow))
        trial = optuna.create_study(sampler=samplers.make(Chosen("qmc"), ask)).ask()
        name = config_hash(SPACE.sample(engine.OptunaDraws(trial, narrow)))
        everything += [position] if name not in seen else []
        seen.add(name)
    assert walked == everything


@pytest.mark.parametrize("name", ["cnn_digits", "densenet_cifar10"])
def test_qmc_spreads_conditional_hyperparameters_too_though_a_baseline_without_them_came_first(name):
    space, opened = find(name), study()
    engine.accept(opened, engine.replay(space, space.baselines[0].config, {}), {})
    for _ in range(160):
        proposal = engine.propose(opened, space, {}, sampler="qmc", seed=3, refuse=lambda config: None)
        engine.accept(opened, proposal, {})
    configs = [t.user_attrs["config"] for t in opened.get_trials(deepcopy=False)[1:]]
    optimizers = Counter(c["optimizer"] for c in configs)
    assert all(28 <= count <= 36 for count in optimizers.values()), "160 fall evenly on five, about 32 each"
    momentum = sorted(c["momentum"] for c in configs if c["optimizer"] == "sgd")
    assert len(set(momentum)) == len(momentum)
    assert max(b - a for a, b in pairwise([0.0, *momentum, 0.95])) < 0.95 / 5
    rates = np.log10([c["learning_rate"] for c in configs])
    assert np.histogram(rates, bins=16, range=(-4, -1))[0].tolist() == [10] * 16


def test_another_seed_gives_qmc_another_sequence():
    assert search(study(), 8, "qmc", seed=1) != search(study(), 8, "qmc", seed=2)


def test_a_trial_out_of_memory_is_stored_pruned_and_infeasible(tmp_path):
    opened = study(tmp_path)
    for number in range(30):
        proposal = engine.propose(opened, SPACE, {}, sampler="tpe", seed=1, refuse=lambda config: None)
        trial = engine.reopen(opened, engine.accept(opened, proposal, {}))
        if proposal.config["filters"] == 32:
            trial.report(0.9, 1)
            engine.tell_infeasible(opened, trial, "memory", 0.25)
        else:
            opened.tell(trial, number / 100)
    stored = study(tmp_path).get_trials(deepcopy=False)
    wide = [t for t in stored if t.user_attrs["config"]["filters"] == 32]
    assert wide
    assert all(t.state == TrialState.PRUNED and t.constraints == {"memory": 0.25} for t in wide)
    late = [t for t in stored[15:] if t in wide]
    assert len(late) < len(wide) - len(late), "TPE sees it and keeps away"


def test_a_violation_must_be_above_zero_and_is_kept_where_the_coordinator_was_killed_before_the_state():
    opened = study()
    proposal = engine.propose(opened, SPACE, {}, sampler="tpe", seed=1, refuse=lambda config: None)
    trial = engine.reopen(opened, engine.accept(opened, proposal, {}))
    with pytest.raises(ValueError, match="above zero"):
        engine.tell_infeasible(opened, trial, "memory", 0.0)
    trial.set_constraint("memory", 0.5)
    engine.tell_infeasible(opened, engine.reopen(opened, opened.get_trials()[0]), "memory", 0.7)
    assert opened.get_trials()[0].constraints == {"memory": 0.5}
    assert opened.get_trials()[0].state == TrialState.PRUNED


def test_no_configuration_is_proposed_twice_and_a_small_space_ends_exhausted():
    small = {
        "optimizer": "adam",
        "learning_rate": "0.001",
        "weight_decay": "0",
        "batch_size": "16,32",
        "schedule": "constant",
        "augmentation": "none",
        "dropout": "0",
        "dense_units": "16,32",
        "filters": "8",
        "conv_layers": "1,2",
    }
    opened = study()
    with pytest.raises(engine.Exhausted):
        search(opened, 100, narrowings=small)
    hashes = [config_hash(t.user_attrs["config"]) for t in opened.get_trials(deepcopy=False)]
    assert len(hashes) == len(set(hashes)) == 8


def test_a_refused_configuration_is_infeasible_to_the_sampler_and_does_not_count():
    opened = study()

    def refuse(config):
        return "too wide" if config["filters"] == 32 else None

    configs = search(opened, 30, refuse=refuse)
    everything = opened.get_trials(deepcopy=False)
    refused = [t for t in everything if engine.REFUSED in t.user_attrs]
    assert len(configs) == 30
    assert refused
    assert all(t.state == TrialState.PRUNED and t.constraints == {"refused": 1.0} for t in refused)
    assert all(c["filters"] != 32 for c in configs)
    late = [t for t in everything[len(everything) // 2 :] if engine.REFUSED in t.user_attrs]
    assert len(late) <= len(refused) - len(late), "the sampler learns to keep away"


def test_fixed_hyperparameters_are_in_the_configuration_but_not_sampled():
    proposal = engine.propose(study(), SPACE, {"filters": "16"}, sampler="random", seed=1, refuse=lambda c: None)
    assert proposal.config["filters"] == 16
    assert "filters" not in proposal.params


def test_a_trial_is_reopened_by_its_id_in_another_process_and_told(tmp_path):
    opened = study(tmp_path)
    proposal = engine.propose(opened, SPACE, {}, sampler="tpe", seed=0, refuse=lambda c: None)
    engine.accept(opened, proposal, {})
    again = study(tmp_path)
    frozen = again.get_trials(deepcopy=False)[0]
    assert frozen.state == TrialState.RUNNING
    trial = engine.reopen(again, frozen)
    trial.report(0.5, 1)
    again.tell(trial, 0.5)
    assert study(tmp_path).best_value == 0.5


def test_a_baseline_is_stored_with_its_parameters():
    opened = study()
    config = dict(SPACE.baselines[0].config)
    frozen = engine.accept(opened, engine.replay(SPACE, config, {}), {"baseline": "plain"})
    assert frozen.params == config
    assert frozen.user_attrs["config"] == config


def test_multiplicative_steps_and_reversed_logarithms_are_drawn_in_range():
    class Odd:
        def sample(self, hp):
            hp.Int("width", 8, 64, step=2, sampling="log")
            hp.Float("keep", 0.1, 0.9, sampling="reverse_log")
            hp.Float("rate", 0.5, 1.0, step=0.05)
            return dict(hp.values)

    opened = optuna.create_study()
    for _ in range(30):
        trial = opened.ask()
        config = Odd().sample(engine.OptunaDraws(trial, {}))
        assert config["width"] in (8, 16, 32, 64)
        assert 0.1 <= config["keep"] <= 0.9
        assert config["rate"] == round(config["rate"], 2)
        opened.tell(trial, config["keep"])


def test_derived_seeds_differ_and_are_the_same_everywhere():
    assert engine.derive(0, "trial", 3) == 712252051
    assert len({engine.derive(0, "trial", n) for n in range(1000)}) == 1000


def test_every_member_of_the_menus_can_be_made():
    assert {n for n in menu.SAMPLERS if not n.startswith("kt-")} == set(samplers.MAKERS)
    assert set(menu.PRUNERS) == {*pruners.MAKERS, *menu.OVER_REPLICATES}


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, ()), (3, ()), (5, (2,)), (6, (2,)), (8, (3,)), (20, (2, 6, 18)), (100, (4, 12, 36))]
)
def test_successive_halving_compares_at_rungs_that_grow_by_three(epochs, expected):
    assert rungs(epochs) == expected


@pytest.mark.parametrize("table, what", [("trial_values", ""), ("trial_params", "distribution_json = 'torn'")])
def test_a_damaged_row_of_one_study_hides_no_study(tmp_path, table, what):
    for name in ("first", "second"):
        search(study(tmp_path, name), 2, "random")
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as database, database:
        database.execute(f"UPDATE {table} SET {what}" if what else f"DELETE FROM {table} WHERE trial_id = 1")
    store = engine.storage(f"sqlite:///{tmp_path}/study.db")
    assert {s.study_name for s in engine.studies(store)} == {"first", "second"}


def test_the_first_proposals_of_tpe_can_be_spread_like_those_of_qmc():
    spread, even = search(study(), 12, "tpe:spread=8,n_startup_trials=5"), search(study(), 12, "qmc")
    assert spread[:8] == even[:8]
    assert spread[8:] != even[8:]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_a_stopped_trial_reached_can_be_its_value_to_tpe(direction):
    """All good trials are stopped early, all bad ones complete: only by what those reached are they the good ones."""
    sign = 1 if direction == "maximize" else -1
    shares = []
    for partial in ("true", "false"):
        opened = engine.open_study(
            optuna.storages.InMemoryStorage(), "s", direction=direction, pruner=optuna.pruners.NopPruner(), create=True
        )
        for _ in range(60):
            proposal = engine.propose(
                opened, SPACE, {}, sampler=f"tpe:partial={partial}", seed=4, refuse=lambda config: None
            )
            trial = engine.reopen(opened, engine.accept(opened, proposal, {}))
            if proposal.config["optimizer"] == "sgd":
                trial.report(sign * 0.9, 1)
                opened.tell(trial, state=TrialState.PRUNED)
            else:
                trial.report(sign * 0.1, 1)
                opened.tell(trial, sign * 0.1)
        late = opened.get_trials()[30:]
        shares.append(sum(t.user_attrs["config"]["optimizer"] == "sgd" for t in late) / len(late))
    assert shares[0] > 0.6 > 0.3 > shares[1]
