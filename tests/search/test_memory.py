"""What does not fit into memory is learned from what was seen and refused before launch, and little else is."""

import functools
import json
import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.engines import memory, pruners
from search.engines import optuna as engine
from search.engines.memory import Demand, Observation
from search.engines.menu import Chosen
from spaces import RandomDraws, Recipe, Space, find
from spaces.datasets import describe

DATA = describe("digits")
PIXELS = 32 * 32
MAX_REFUSED = 200


def sample(hp):
    hp.Int("width", 16, 128, step=8)
    hp.Int("depth", 2, 12)
    hp.Choice("kernel", [1, 3, 5])
    hp.Choice("batch_size", [32, 64, 128, 256])
    hp.Choice("optimizer", ["adam", "sgd"])
    with hp.conditional_scope("optimizer", "sgd"):
        hp.Float("momentum", 0.0, 0.95)
    hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    hp.Float("dropout", 0.0, 0.5)
    return dict(hp.values)


def recipe(config):
    names = ("batch_size", "optimizer", "learning_rate")
    return Recipe(**{name: config[name] for name in names})


def params(config, data):
    return config["kernel"] ** 2 * config["width"] ** 2 * config["depth"] * 4


def activations(config, data):
    return PIXELS * config["width"] * config["depth"] * 3


SPACE = Space(
    name="synthetic",
    summary="a network whose memory is known",
    dataset="digits",
    sample=sample,
    build=lambda config, data: None,
    recipe=recipe,
    params=params,
    multiply_adds=lambda config, data: params(config, data) * PIXELS,
    activations=activations,
    epochs=1,
    trials=100,
)


def need(config):
    """MB without noise: a process, weights and what the optimizer keeps, activations, a workspace that is capped."""
    weights = params(config, DATA) * (16 if config["optimizer"] == "adam" else 8) / 1e6
    kept = activations(config, DATA) * config["batch_size"] * 8 / 1e6
    workspace = PIXELS * config["width"] * config["kernel"] ** 2 * config["batch_size"] / 1e6
    return 700 + weights + kept + min(workspace, 1000)


@functools.cache
def limit():
    """MB into which two thirds of the configurations fit."""
    return float(np.quantile([need(SPACE.sample(RandomDraws(seed))) for seed in range(3000)], 2 / 3))


def quality(config, noise):
    """Rises with size, so that a sampler that learns pushes against the limit."""
    size = math.log(params(config, DATA)) + math.log(activations(config, DATA)) / 2
    return size / 30 - 0.05 * (math.log10(config["learning_rate"]) + 2.5) ** 2 - 0.1 * config["dropout"] + noise / 100


def search(sampler, seed, *, peaks, space=SPACE, learn=True):
    """One hundred launches with 10 % noise.

    Gives how many after the first 20 ran out of memory, how many were refused that would fit, of how many that
    would, and the most refused in a row.
    """
    study = optuna.create_study(direction="maximize", pruner=pruners.make(Chosen("none"), 1))
    seen, late, in_vain, fitting, row, most, launched = [], 0, 0, 0, 0, 0, 0

    def sized(config):
        return memory.demand(space, config, DATA, device="gpu", limit=limit() if peaks else None)

    def refuse(config):
        return memory.verdict(seen, sized(config)) if learn else None

    while launched < 100:
        proposal = engine.propose(study, space, {}, sampler=sampler, seed=seed, refuse=refuse)
        config = proposal.config
        size = sized(config)
        fits = need(config) <= limit()
        fitting += fits
        frozen = engine.accept(study, proposal, {}, violation=memory.judge(seen, size).violation)
        if proposal.refused is not None:
            in_vain += fits
            row += 1
            most = max(most, row)
            assert row < MAX_REFUSED
            continue
        row, launched = 0, launched + 1
        rng = np.random.default_rng((seed, frozen.number))
        peak = need(config) * rng.uniform(0.9, 1.1)
        trial, fitted = engine.reopen(study, frozen), bool(peak <= limit())
        if fitted:
            study.tell(trial, quality(config, rng.normal()))
        else:
            late += launched > 20
            engine.tell_infeasible(study, trial, "memory", memory.judge(seen, size).violation)
        seen.append(Observation(size, fitted, min(peak, limit()) if peaks else None))
    return late, in_vain, fitting, most


def check(sampler, seeds, *, peaks, share, space=SPACE):
    """At most 5 of trials 21 to 100 run out of memory, and of what fits at most `share` is refused over all seeds."""
    found = [search(sampler, seed, peaks=peaks, space=space) for seed in seeds]
    print(f"{sampler}, peaks {peaks}: launched into OOM {[late for late, *_ in found]},")
    in_vain, fitting = sum(f[1] for f in found), sum(f[2] for f in found)
    print(
        f"  {in_vain} of {fitting} that fit refused ({in_vain / fitting:.1%}), most in a row {max(f[3] for f in found)}"
    )
    assert max(late for late, *_ in found) <= 5
    assert in_vain <= share * fitting


@pytest.mark.parametrize("peaks", [True, pytest.param(False, marks=pytest.mark.long)], ids=["peaks", "outcomes"])
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_few_trials_run_out_of_memory_and_little_that_fits_is_refused(sampler, peaks):
    check(sampler, range(1), peaks=peaks, share=0.1)


@pytest.mark.long
@pytest.mark.parametrize("peaks", [True, False], ids=["peaks", "outcomes"])
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_few_trials_run_out_of_memory_whatever_the_seed(sampler, peaks):
    # TPE is drawn to the largest that fits, where noise alone decides; there the share is of other proposals.
    check(sampler, range(10), peaks=peaks, share=0.08 if sampler == "tpe" else 0.05)


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_multiply_adds_stand_in_where_a_space_counts_no_activations(sampler):
    space = replace(SPACE, activations=None)
    found = [search(sampler, seed, peaks=True, space=space) for seed in range(4)]
    without = [search(sampler, seed, peaks=True, learn=False) for seed in range(4)]
    print(sampler, found, without)
    assert sum(f[0] for f in found) < sum(f[0] for f in without) / 2


def fit(parameters, activations, peak=None, limit=None, device=""):
    return Observation(Demand(parameters, activations, device, limit), True, peak)


def oom(parameters, activations, peak=None, limit=None, device=""):
    return Observation(Demand(parameters, activations, device, limit), False, peak)


MILLION = 1_000_000


def test_nothing_is_refused_before_anything_was_seen():
    assert memory.verdict([], Demand(10**12, 10**15, limit=1.0)) is None


def test_nothing_is_refused_while_all_fitted_and_nobody_knows_the_limit():
    seen = [fit(n * MILLION, n * MILLION, peak=1000.0 * n) for n in range(1, 20)]
    assert memory.verdict(seen, Demand(10**12, 10**15)) is None


sizes = st.integers(1, 10**9)
outcomes = st.lists(
    st.builds(Observation, st.builds(Demand, sizes, sizes), st.booleans(), st.none() | st.floats(1, 1e5)), max_size=12
)


@given(seen=outcomes, parameters=sizes, activations=sizes)
@settings(max_examples=150, deadline=None)
def test_what_is_no_larger_than_a_fit_is_launched_and_what_is_no_smaller_than_a_failure_is_not(
    seen, parameters, activations
):
    candidate = Demand(parameters, activations)
    enough = any(o.fitted and o.demand.parameters >= parameters and o.demand.activations >= activations for o in seen)
    too_much = any(
        not o.fitted and o.demand.parameters <= parameters and o.demand.activations <= activations for o in seen
    )
    contradicted = any(
        o.fitted
        and not bad.fitted
        and o.demand.parameters >= bad.demand.parameters
        and o.demand.activations >= bad.demand.activations
        for o in seen
        for bad in seen
    )
    judged = memory.judge(seen, candidate)
    if enough and not too_much:
        assert judged.refused is None
    if too_much and not contradicted:
        assert judged.refused
    assert judged.violation > 0
    assert judged.refused is None or "\n" not in judged.refused


def test_a_failure_where_less_memory_was_there_does_not_bind_and_elsewhere_neither():
    seen = [oom(10, 10, limit=4000.0, device="small")]
    assert memory.verdict(seen, Demand(20, 20, "small", 4000.0))
    assert memory.verdict(seen, Demand(20, 20, "small", 2000.0))
    assert memory.verdict(seen, Demand(20, 20, "small", 8000.0)) is None
    assert memory.verdict(seen, Demand(20, 20, "large", 4000.0)) is None


def peaks(*sizes, limit=4000.0):
    """Fits of a device that takes 500 MB and 8 bytes an activation."""
    return [fit(MILLION, n * MILLION, 500 + 8.0 * n, limit) for n in sizes]


def test_what_clearly_exceeds_the_limit_is_refused_before_anything_failed():
    seen = peaks(20, 60, 100, 150, 200, 250)
    judged = memory.judge(seen, Demand(MILLION, 800 * MILLION, limit=4000.0))
    assert judged.refused == "about 6,900 MB expected, 4,000 MB are there (learned from 6 trials)"
    assert judged.expected == pytest.approx(6900)
    assert judged.violation == pytest.approx(6900 / 4000 - 1)
    assert memory.verdict(seen, Demand(MILLION, 400 * MILLION, limit=4000.0)) is None


def test_peaks_too_alike_to_tell_what_grows_refuse_nothing():
    seen = peaks(20, 20, 21, 21, 22, 22)
    assert memory.verdict(seen, Demand(MILLION, 2000 * MILLION, limit=4000.0)) is None


def test_one_odd_failure_does_not_close_the_space():
    seen = [*peaks(*range(20, 300, 10)), oom(MILLION, 40 * MILLION, limit=4000.0)]
    assert memory.verdict(seen, Demand(MILLION, 200 * MILLION, limit=4000.0)) is None
    assert memory.verdict(seen, Demand(MILLION, 310 * MILLION, limit=4000.0)) is None


def test_without_peaks_the_reason_names_what_happened():
    seen = [fit(10, 10), oom(100, 100)]
    assert memory.judge(seen, Demand(200, 200)) == memory.Judgement(
        None, "of the size at which memory ran out once (learned from 2 trials)", 1.0
    )


def test_an_observation_survives_being_stored_as_json():
    seen = oom(10, 20, 3.5, 4000.0, "NVIDIA T4")
    assert Observation.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_the_demand_is_that_of_one_batch():
    space = find("cnn_digits")
    config = dict(space.baselines[0].config)
    size = memory.demand(space, config, DATA, device="cpu", limit=1.0)
    assert size == Demand(space.params(config, DATA), space.activations(config, DATA) * 32, "cpu", 1.0)
    plain = memory.demand(replace(space, activations=None), config, DATA)
    assert plain.activations == round(space.multiply_adds(config, DATA) * 32 / math.sqrt(plain.parameters))
