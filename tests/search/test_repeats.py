"""Repeats: every seed of every configuration once, the same configurations as first found, honest figures."""

import math

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from search import repeats
from search.engines import optuna as engine
from search.errors import InputError
from search.plan import Request, make
from search.repeat import _span
from search.settings import resolve
from spaces import config_hash, find

SPACE = find("densenet_cifar10")


def searched(values, **plan):
    """A study in memory with a drawn configuration for each value."""
    study = optuna.create_study(direction="maximize", study_name="s")
    study.set_user_attr("plan", plan)
    for value in values:
        proposal = engine.propose(study, SPACE, {}, sampler="random", seed=3, refuse=lambda config: None)
        attributes = engine.complete(proposal, {"epochs": 6, "seed": 1})
        study.add_trial(
            create_trial(
                value=value,
                params=proposal.params,
                distributions=proposal.distributions,
                user_attrs=attributes,
            )
        )
    return study


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    home = str(tmp_path_factory.mktemp("home"))
    return make(Request(space="densenet_cifar10", gpus="none"), resolve(home=home), check_places=False)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=st.integers(1, 4), seeds=st.integers(1, 5))
def test_every_seed_of_every_configuration_is_drawn_once_and_is_the_same_configuration(plan, top, seeds):
    study = searched([0.1, 0.4, 0.3, 0.2])
    chosen = repeats.sources(study, top, epochs=None)
    made = repeats.planned(plan, "s-repeat", chosen, seeds)
    drawn = [repeats.draw(made, SPACE, number) for number in range(made.trials)]
    pairs = [(said[repeats.REPEAT_TRIAL], said[repeats.REPEAT_INDEX]) for _, said in drawn]
    best = [1, 2, 3, 0][:top]
    assert sorted(pairs) == sorted((trial, index) for trial in best for index in range(seeds))
    assert [trial for trial, _ in pairs[:top]] == best, "one seed of each before the next seed"
    assert len({said["seed"] for _, said in drawn}) == len(drawn)
    by_number = {t.number: t.user_attrs["config.hash"] for t in study.trials}
    assert all(config_hash(p.config) == by_number[said[repeats.REPEAT_TRIAL]] for p, said in drawn)


def test_more_seeds_go_on_with_the_same_ones(plan):
    chosen = repeats.sources(searched([0.1, 0.4]), 2, epochs=None)
    few, more = (repeats.planned(plan, "s-repeat", chosen, seeds) for seeds in (2, 5))
    seeds = [[repeats.draw(p, SPACE, n)[1]["seed"] for n in range(4)] for p in (few, more)]
    assert seeds[0] == seeds[1]
    assert few.identity() == more.identity()


def test_a_study_without_a_complete_trial_or_of_other_repeats_is_refused(plan):
    with pytest.raises(InputError, match="no complete trial"):
        repeats.sources(searched([]), 3, epochs=None)
    chosen = repeats.sources(searched([0.1, 0.4]), 2, epochs=None)
    stored = repeats.planned(plan, "s-repeat", chosen, 2).to_json()
    repeats.check_same(stored, chosen, "s-repeat")
    with pytest.raises(InputError, match="repeats trials 1 of s for 6 epochs, 0 of s for 6 epochs"):
        repeats.check_same(stored, chosen[:1], "s-repeat")


def test_how_flattering_the_first_figure_was_is_its_distance_from_the_mean(plan):
    study = searched([0.5, 0.9])
    chosen = repeats.sources(study, 2, epochs=None)
    again = optuna.create_study(direction="maximize")
    again.set_user_attr("plan", repeats.planned(plan, "s-repeat", chosen, 3).to_json())
    for trial, value in ((1, 0.7), (0, 0.5), (1, 0.8), (0, 0.6), (1, 0.75)):
        again.add_trial(create_trial(value=value, user_attrs={repeats.REPEAT_TRIAL: trial}))
    again.add_trial(create_trial(state=TrialState.FAIL, user_attrs={repeats.REPEAT_TRIAL: 0}))
    best, other = repeats.measured(again)
    assert (best.trial, best.first, best.values, best.failed) == (1, 0.9, (0.7, 0.8, 0.75), 0)
    assert best.mean == pytest.approx(0.75)
    assert best.flattery == pytest.approx(0.15)
    assert best.interval[0] < 0.75 < best.interval[1]
    assert (other.trial, other.failed, other.mean) == (0, 1, pytest.approx(0.55))
    assert math.isnan(repeats.measured(_none(plan, chosen))[0].mean)


def _none(plan, chosen):
    empty = optuna.create_study(direction="maximize")
    empty.set_user_attr("plan", repeats.planned(plan, "s-repeat", chosen, 3).to_json())
    return empty


def test_the_interval_of_a_mean_accuracy_is_within_what_an_accuracy_can_be():
    assert _span("val_accuracy", (0.91, 1.04)) == "0.9100 to 1.0000"
    assert _span("val_loss", (0.91, 1.04)) == "0.9100 to 1.0400"
    assert _span("val_accuracy", (float("nan"), float("nan"))) == "-"


@pytest.mark.parametrize(
    ("others", "stopped"), [([0.2, 0.1, 0.3, 0.2, 0.1], True), ([0.81, 0.79, 0.82, 0.8, 0.79], False), ([0.2], False)]
)
def test_a_configuration_that_is_surely_worse_gets_no_more_seeds(plan, others, stopped):
    study = searched([0.1, 0.4])
    made = repeats.planned(plan, "s-repeat", repeats.sources(study, 2, epochs=None), 9, "wilcoxon")
    again = optuna.create_study(direction="maximize")
    for trial, values in ((1, [0.8, 0.81, 0.79, 0.8, 0.82]), (0, others)):
        for index, value in enumerate(values):
            said = {repeats.REPEAT_TRIAL: trial, repeats.REPEAT_INDEX: index}
            again.add_trial(create_trial(value=value, user_attrs=said))
    said = repeats.surely_worse(again, made, 0)
    assert (said is not None) == stopped
    assert not stopped or said == "trial 0: no more seeds, 0.1800 is surely worse than 0.8040 of trial 1"
    assert repeats.surely_worse(again, made, 1) is None
    assert repeats.surely_worse(again, repeats.planned(plan, "s", repeats.sources(study, 2, epochs=None), 9), 0) is None


def test_only_what_compares_repeats_stops_repeats():
    assert repeats.read_pruner("wilcoxon:p_threshold=0.2") == "wilcoxon:p_threshold=0.2"
    assert repeats.read_pruner(None) == repeats.read_pruner("none") == "none"
    for text in ("median", "wilcoxen", "wilcoxon:p=1"):
        with pytest.raises(InputError, match=text):
            repeats.read_pruner(text)
