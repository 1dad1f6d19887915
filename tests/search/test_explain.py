"""What mattered: shares that are right where the truth is known, honest words, and a command that can be typed."""

from __future__ import annotations

import math
import shlex

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState, create_trial

from search import explain, figures, words
from search.engines.optuna import REFUSED
from search.explained import examine
from search.fanova import Axis, Fanova
from search.goals import read_goals
from search.good import difference, good, narrowed
from search.influence import influence
from search.objectives import Objective
from search.observed import Dimension, observe
from spaces import declared, find
from spaces._hp import narrow

DIMENSIONS = (
    *(Dimension(f"x{i}", f"x{i}", "number", 0.0, 1.0) for i in range(3)),
    Dimension("rate", "rate", "number", 1e-4, 1e-1, log=True),
    Dimension("kind", "kind", "choice", choices=("a", "b", "c", None)),
    Dimension("width", "width", "ordered", choices=(8, 16, 32)),
)


def drawn(count, seed):
    rng = np.random.default_rng(seed)
    return [
        {
            **{f"x{i}": float(rng.random()) for i in range(3)},
            "rate": float(10 ** rng.uniform(-4, -1)),
            "kind": ("a", "b", "c", None)[rng.integers(4)],
            "width": (8, 16, 32)[rng.integers(3)],
        }
        for _ in range(count)
    ]


PLACES = {d.name: d for d in DIMENSIONS}


def alone(name, row):
    """A function of one hyperparameter."""
    d = PLACES[name]
    return {"a": 0.0, "b": 1.0, "c": 3.0, None: 2.0}[row[name]] if d.kind == "choice" else d.place(row[name]) ** 2


@given(st.sampled_from([d.name for d in DIMENSIONS]), st.integers(0, 1000))
@settings(max_examples=4, deadline=None)
def test_a_function_of_one_hyperparameter_gives_it_nearly_all_importance(name, seed):
    rows = drawn(40, seed)
    found = influence(DIMENSIONS, rows, [alone(name, row) for row in rows], seed)
    assert next(iter(found.shares)) == name
    assert found.shares[name].mean > 0.6
    assert found.shares[name].mean > 5 * max(s.mean for n, s in found.shares.items() if n != name)
    assert name in found.matter and found.skill > 0.4
    assert sum(s.mean for s in found.shares.values()) <= 1 + 1e-9


def test_noise_matters_in_nothing_and_what_only_works_together_is_found():
    rng = np.random.default_rng(1)
    flagged = [influence(DIMENSIONS, drawn(30, s), list(rng.normal(size=30)), s).matter for s in range(3)]
    assert sum(map(bool, flagged)) <= 1, "one in twenty or so"
    rows = drawn(150, 3)
    found = influence(DIMENSIONS, rows, [(r["x0"] - 0.5) * (r["x1"] - 0.5) for r in rows])
    assert found.together[0] in (("x0", "x1"), ("x1", "x0"))
    assert {"x0", "x1"} <= set(found.matter)


def test_the_same_trials_give_the_same_figures():
    rows = drawn(20, 0)
    results = [r["x0"] + r["x1"] for r in rows]
    assert influence(DIMENSIONS, rows, results) == influence(DIMENSIONS, rows, results)
    with pytest.raises(ValueError, match="the same"):
        influence(DIMENSIONS, rows, [1.0] * 20)


def test_shares_are_those_of_optunas_fanova():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))

    def objective(trial):
        a, b, c = (trial.suggest_float(n, low, high) for n, low, high in (("a", 0, 2), ("b", -1, 1), ("c", 0, 9)))
        return a**2 + b * c

    study.optimize(objective, n_trials=60)
    theirs = FanovaImportanceEvaluator(n_trees=64, seed=3).evaluate(study)
    points = np.array([[t.params[n] for n in "abc"] for t in study.trials])
    axes = (Axis(0, 2), Axis(-1, 1), Axis(0, 9))
    ours = Fanova(axes, points, np.array([t.value for t in study.trials]), trees=64, seed=3)
    for index, name in enumerate("abc"):
        assert ours.share(index) == pytest.approx(theirs[name], abs=0.02)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=30), st.floats(-1, 1), st.sampled_from([1, -1]))
@settings(max_examples=50, deadline=None)
def test_a_difference_of_means_lies_in_its_interval_and_turns_with_the_direction(values, shift, sign):
    other = [v - shift for v in values]
    gap, (low, high) = difference(values, other, sign)
    assert gap == pytest.approx(sign * shift, abs=1e-9)
    assert low - 1e-9 <= gap <= high + 1e-9
    assert difference(other, values, sign)[0] == pytest.approx(-gap)


# ---- a study

GOALS = read_goals((), (), Objective("val_accuracy", "maximize"))

DISTRIBUTIONS = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "kind": CategoricalDistribution(["adam", "sgd", "other"]),
    "units": IntDistribution(8, 512),
    "dull": FloatDistribution(0.0, 0.5, step=0.1),
    "momentum": FloatDistribution(0.0, 0.95),
}


def made(count, *, stop=True, seed=0):
    """A study whose results depend on `rate` and `kind`: best about 0.003 with adam; bad trials are stopped early."""
    study = optuna.create_study(direction="maximize")
    plan = {"space": "cnn_digits", "narrowings": {"filters": "8,16"}, "epochs": 4, "full": False}
    study.set_user_attr("plan", plan)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        params = {
            "rate": float(10 ** rng.uniform(-4, -1)),
            "kind": ("adam", "sgd", "other")[rng.integers(3)],
            "units": int(rng.integers(8, 513)),
            "dull": float(rng.integers(6) / 10),
        }
        params |= {"momentum": float(rng.uniform(0, 0.95))} if params["kind"] == "sgd" else {}
        best = 0.9 - 0.15 * (math.log10(params["rate"]) + 2.5) ** 2 - 0.1 * (params["kind"] == "sgd")
        curve = {epoch: best * (1 - 0.3 / epoch) + 0.005 * rng.normal() for epoch in range(1, 5)}
        stopped = stop and curve[2] < 0.6
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
                value=curve[2] if stopped else max(curve.values()),
                params=params,
                distributions={name: DISTRIBUTIONS[name] for name in params},
                intermediate_values={e: v for e, v in curve.items() if e <= 2} if stopped else curve,
                user_attrs={"config": params, "parameters": 100 * params["units"], "config.hash": "h"},
            )
        )
    return study


def test_where_many_were_stopped_all_are_compared_after_the_epochs_that_all_reached():
    study = made(30)
    infeasible = create_trial(state=TrialState.PRUNED, constraints={"memory": 1.0}, user_attrs={"config": {}})
    refused = create_trial(state=TrialState.PRUNED, user_attrs={REFUSED: "too large"})
    study.add_trials([infeasible, refused, create_trial(state=TrialState.FAIL)])
    found = observe(study.get_trials(), "maximize")
    assert (found.epochs, len(found.trials)) == (2, 30)
    assert found.counts == {"complete": found.counts["complete"], "stopped": 30 - found.counts["complete"]} | {
        "infeasible": 1,
        "failed": 1,
    }
    ends = [t.end for t in found.leading()]
    complete = found.counts["complete"]
    assert ends[:complete] == sorted(ends[:complete], reverse=True)
    assert ends[complete:] == [None] * (30 - complete)
    whole = observe(made(30, stop=False).get_trials(), "maximize")
    assert whole.epochs is None
    assert all(t.value == t.end for t in whole.trials)


def test_the_words_say_what_mattered_where_the_good_values_lie_and_what_to_type_next():
    found = examine(made(40), GOALS, None)
    assert found.influence.matter[0] == "rate"
    said = "\n".join(words.lines(found))
    best = found.good["rate"]
    assert best.low < 3e-3 < best.high and best.high < 0.05
    assert f"the best quarter ({best.best} trials) lies in" in said
    assert "above it: mean val_accuracy" in said and "stopped early" in said
    assert "within 2 epochs of 40 trials" in said
    assert "only in some trials (" in said and "momentum" in said
    assert "no more than chance" in said and "dull (" in said
    typed = shlex.split(found.command)
    assert typed[:5] == ["python", "-m", "search", "run", "cnn_digits"]
    assert typed[-2:] == ["--warm-start", found.study]
    assert "filters=8,16" in typed, "what was narrowed stays narrowed"
    rate = next(word.partition("=")[2] for word in typed if word.startswith("rate="))
    low, high = map(float, rate.split(".."))
    assert 1e-4 <= low <= best.low <= best.high <= high <= 1e-1
    assert explain.to_json(found)["hyperparameters"][0]["name"] == "rate"
    text = explain.markdown([found], {"contours": "figures/contours.png"})
    assert text.startswith("# What mattered in") and "![contours](figures/contours.png)" in text


@given(st.integers(0, 500))
@settings(max_examples=8, deadline=None)
def test_what_to_narrow_to_can_be_typed_and_holds_the_best(seed):
    space = find("cnn_digits")
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed))
    parameters = declared(space)
    rng = np.random.default_rng(seed)
    drawn_ones = {
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.5, step=0.1),
        "optimizer": CategoricalDistribution(parameters["optimizer"].choices),
        "filters": CategoricalDistribution((8, 16, 32)),
        "dense_units": IntDistribution(16, 64, step=16),
    }
    for _ in range(24):
        trial = study.ask(drawn_ones)
        study.tell(trial, float(rng.normal()) - abs(math.log10(trial.params["learning_rate"]) + 3))
    found = observe(study.get_trials(), "maximize")
    best = found.leading()[:6]
    for name, dimension in found.dimensions.items():
        text = narrowed(dimension, good(found, dimension))
        if text is not None:
            kept = narrow(parameters[name], text)
            assert all(kept.contains(trial.values[name]) for trial in best)


def test_too_few_trials_are_said_to_be_too_few():
    for count in (0, 9):
        found = examine(made(count), GOALS, None)
        assert found.influence is None and found.contoured() == []
        assert "too few to say what mattered; 10 are the least" in words.lines(found)[-1]
        assert explain.to_json(found)["hyperparameters"] == []
    few = examine(made(12), GOALS, None)
    assert "12 trials are few for 5 hyperparameters" in "\n".join(words.lines(few))


def test_contours_of_the_most_important_are_drawn_and_the_worst_trials_can_be_seen():
    study = made(16, stop=False)
    found = examine(study, GOALS, None)
    drawn_ones, skipped = figures.pictures(study, GOALS, (), {"val_accuracy": found.contoured()})
    assert not skipped
    assert {"contours.png", "contours.html", "parallel_coordinates.png"} <= set(drawn_ones)
    assert b"rgb(247,251,255)" not in drawn_ones["parallel_coordinates.html"].replace(b", ", b",")
    assert found.contoured()[0] == "rate"


def test_each_of_several_objectives_is_explained_and_those_over_a_limit_are_not_among_the_good():
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_user_attr("plan", {"space": "cnn_digits", "narrowings": {}, "epochs": 4, "limits": ["params<=4000"]})
    rng = np.random.default_rng(2)
    for _ in range(24):
        params = {"rate": float(10 ** rng.uniform(-4, -1)), "units": int(rng.integers(8, 513)), "dull": 0.1}
        params["dull"] = float(rng.integers(6) / 10)
        value = 0.9 - 0.1 * (math.log10(params["rate"]) + 2.5) ** 2
        count = 10 * params["units"]
        study.add_trial(
            create_trial(
                values=[value, count],
                params=params,
                distributions={name: DISTRIBUTIONS[name] for name in params},
                user_attrs={"config": params, "parameters": count, "config.hash": "h"},
                constraints={"params<=4000": (count - 4000) / 4000},
            )
        )
    goals = read_goals(("val_accuracy:max", "params:min"), ("params<=4000",), Objective("val_accuracy", "maximize"))
    first, second = (examine(study, goals, None, objective) for objective in (0, 1))
    assert (first.influence.matter[0], second.influence.matter[0]) == ("rate", "units")
    over = [t for t in first.observed.trials if t.over]
    assert over
    assert [t.over for t in first.observed.leading()] == sorted(t.over for t in first.observed.trials)
    assert f"{len(over)} of these are over a limit" in "\n".join(words.lines(first))
    assert "--limit" in first.command and "--objective" not in first.command
    contents, skipped = explain.drawn(study, find("cnn_digits"), goals)
    assert not skipped
    assert {"figures/importances_val_accuracy.png", "figures/importances_params.html", "explain.md"} <= set(contents)
    assert b"## params" in contents["explain.md"]
