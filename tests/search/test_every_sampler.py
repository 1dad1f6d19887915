"""One contract for every sampler: distinct proposals, the same after a kill, whatever became of the trials before."""

from __future__ import annotations

import importlib.util
import tempfile
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from search.engines import menu, pruners, samplers
from search.engines import optuna as engine
from search.engines.menu import Chosen
from spaces import config_hash
from spaces._space import Space

HERE = [name for name in samplers.MAKERS if menu.missing("sampler", name) is None]
LISTED = [name for name in HERE if menu.member("sampler", name).listed]


def drawn(hp: Any) -> dict[str, Any]:
    """Numbers with steps of every kind, and momentum where there is one."""
    hp.Int("width", 8, 64, step=2, sampling="log")
    hp.Float("rate", 0.001, 1.0, step=10, sampling="log")
    hp.Choice("optimizer", ["adam", "sgd"])
    with hp.conditional_scope("optimizer", "sgd"):
        hp.Float("momentum", 0.0, 0.8, step=0.4)
    return dict(hp.values)


def one(hp: Any) -> dict[str, Any]:
    hp.Int("width", 8, 8)
    return dict(hp.values)


def few(hp: Any) -> dict[str, Any]:
    hp.Int("width", 1, 2)
    hp.Boolean("deep")
    if hp.values["deep"]:
        hp.Choice("layers", [3, 4])
    return dict(hp.values)


def none(*_: Any) -> Any:
    raise NotImplementedError


def space(sample: Any = drawn) -> Space:
    return Space(name="s", summary="", dataset="digits", sample=sample, build=none, recipe=none, epochs=9, trials=1)


def study(folder: str | None = None, directions: tuple[str, ...] = ("maximize",)) -> optuna.Study:
    if folder is None:
        return optuna.create_study(study_name="s", pruner=pruners.make(Chosen("none"), 9), directions=directions)
    store = engine.storage(f"sqlite:///{folder}/study.db")
    create = "s" not in {s.study_name for s in engine.studies(store)}
    pruner = pruners.make(Chosen("none"), 9)
    return engine.open_study(store, "s", direction="maximize", pruner=pruner, create=create)


def value(config: dict[str, Any]) -> float:
    return config["rate"] + config["width"] / 64 + config.get("momentum", 0.1)


def go(opened: optuna.Study, count: int, sampler: str, sample: Any = drawn) -> list[dict[str, Any]]:
    """Ask and tell until `count` trials are there: complete, pruned, failed, infeasible, resting and refused ones."""
    while len(engine.counted(opened.get_trials(deepcopy=False))) < count:
        proposal = engine.propose(
            opened,
            space(sample),
            {},
            sampler=sampler,
            seed=5,
            refuse=lambda c: "no" if c.get("momentum") == 0.4 else None,
        )
        frozen = engine.accept(opened, proposal, {}, violation=0.3)
        if proposal.refused is not None:
            continue
        trial = engine.reopen(opened, frozen)
        outcome = engine.derive(0, "outcome", frozen.number) % 7
        if outcome in (0, 1):
            trial.report(value(proposal.config) / 2, 1)
            trial.report(value(proposal.config), 3)
            if outcome:
                trial.set_user_attr(engine.RESTS, 3)
            else:
                opened.tell(trial, state=TrialState.PRUNED)
        elif outcome == 2:
            opened.tell(trial, state=TrialState.FAIL)
        elif outcome == 3:
            engine.tell_infeasible(opened, trial, "memory", 0.5)
        else:
            opened.tell(trial, value(proposal.config))
    return [t.user_attrs["config"] for t in opened.get_trials(deepcopy=False)]


@pytest.mark.parametrize("sampler", HERE)
@given(splits=st.lists(st.integers(1, 17), min_size=1, max_size=2).map(sorted))
@settings(max_examples=2, deadline=None)
def test_after_a_kill_a_sampler_proposes_what_it_would_have(sampler, splits):
    """Whatever became of its trials; every configuration is a new one and has what is active, and no more."""
    whole = go(study(), 18, sampler)
    with tempfile.TemporaryDirectory() as folder:
        for count in (*splits, 18):
            resumed = go(study(folder), count, sampler)
    assert resumed == whole
    assert len({config_hash(config) for config in whole}) == len(whole)
    assert all(("momentum" in config) == (config["optimizer"] == "sgd") for config in whole)


@pytest.mark.parametrize("sampler", HERE)
def test_a_space_with_one_point_gives_one_trial_and_then_none(sampler):
    opened = study()
    with pytest.raises(engine.Exhausted):
        go_on(opened, sampler, one)
    assert [t.user_attrs["config"] for t in opened.get_trials()] == [{"width": 8}]


@pytest.mark.parametrize("sampler", HERE)
def test_a_space_with_none_left_has_given_every_point_once(sampler):
    opened = study()
    with pytest.raises(engine.Exhausted):
        go_on(opened, sampler, few)
    assert len(opened.get_trials()) == 6


def go_on(opened: optuna.Study, sampler: str, sample: Any) -> None:
    while True:
        proposal = engine.propose(opened, space(sample), {}, sampler=sampler, seed=1, refuse=lambda c: None)
        opened.tell(engine.reopen(opened, engine.accept(opened, proposal, {})), float(proposal.config["width"]))


@pytest.mark.parametrize("sampler", [n for n in HERE if menu.member("sampler", n).several])
def test_a_sampler_that_says_so_pursues_several_objectives(sampler):
    opened = study(directions=("maximize", "minimize"))
    for _ in range(14):
        proposal = engine.propose(opened, space(), {}, sampler=sampler, seed=5, refuse=lambda c: None)
        told = [value(proposal.config), float(proposal.config["width"])]
        opened.tell(engine.reopen(opened, engine.accept(opened, proposal, {})), told)
    assert len({t.user_attrs["config.hash"] for t in opened.trials}) == 14


@pytest.mark.parametrize("sampler", HERE)
def test_every_option_of_the_menu_is_one_that_optuna_takes(sampler):
    options = {}
    for name, option in menu.member("sampler", sampler).options.items():
        options[name] = option.default if option.default is not None else {bool: False, int: 5, float: 0.5}[option.kind]
    ask = samplers.Ask(1, 1, 0, lambda: {}, options)
    assert isinstance(samplers.make(Chosen(sampler, options), ask), optuna.samplers.BaseSampler)


def test_what_a_sampler_needs_and_lacks_is_said_with_the_command_that_installs_it():
    for name in ("gp", "cmaes"):
        needs = menu.member("sampler", name).needs
        if importlib.util.find_spec(needs) is None:
            assert menu.missing("sampler", name) == (
                f'it needs {needs}, which is not installed: pip install -c constraints.txt -e ".[{name}]"'
            )
        else:
            assert menu.missing("sampler", name) is None
