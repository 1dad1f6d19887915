"""Proposals: distinct, seeded, resumable; refused ones teach the sampler, repeated ones leave no trace."""

import optuna
import pytest
from optuna.trial import TrialState

from search.engines import optuna as engine
from search.engines.pruners import PRUNERS, rungs
from search.engines.samplers import SAMPLERS
from search.plan import PRUNER_NAMES, SAMPLER_NAMES
from spaces import config_hash, find

SPACE = find("cnn_digits")


def study(tmp_path=None, name="s"):
    store = engine.storage(f"sqlite:///{tmp_path}/study.db") if tmp_path else optuna.storages.InMemoryStorage()
    create = name not in {s.study_name for s in engine.studies(store)}
    return engine.open_study(store, name, direction="maximize", pruner=PRUNERS["none"](1), create=create)


def search(opened, count, sampler="tpe", narrowings=None, refuse=lambda config: None, seed=0):
    """Ask and tell until `count` trials are done; the value is a function of the configuration."""
    while len(engine.counted(opened.get_trials(deepcopy=False))) < count:
        proposal = engine.propose(opened, SPACE, narrowings or {}, sampler=sampler, seed=seed, refuse=refuse)
        frozen = engine.accept(opened, proposal, {})
        if proposal.refused is None:
            value = proposal.config["dense_units"] + proposal.config["learning_rate"]
            opened.tell(engine.reopen(opened, frozen), value)
    return [t.user_attrs["config"] for t in engine.counted(opened.get_trials(deepcopy=False))]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_resumed_half_way_proposes_what_one_go_would_have(tmp_path, sampler):
    whole = search(study(), 24, sampler)
    search(study(tmp_path), 11, sampler)
    assert search(study(tmp_path), 24, sampler) == whole


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


def test_the_menus_and_the_command_line_name_the_same():
    assert set(SAMPLER_NAMES) == set(SAMPLERS)
    assert set(PRUNER_NAMES) == set(PRUNERS)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, []), (3, []), (5, [2]), (6, [2]), (8, [3]), (20, [2, 6, 18]), (100, [4, 12, 36])]
)
def test_successive_halving_compares_at_rungs_that_grow_by_three(epochs, expected):
    assert rungs(epochs) == expected
