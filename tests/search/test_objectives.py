"""Objectives and limits: read from text, written as text, checked before anything is trained."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import settings_of

from search.errors import InputError
from search.goals import read_goals
from search.objectives import (
    BESIDE,
    Limit,
    Objective,
    natural,
    parse_limit,
    parse_objective,
    read_limits,
    read_objectives,
    written,
)
from search.plan import Request, check_identity, describe_plan, make, resume
from search.reader import Reader
from search.specs import goals_of, space_of

OWN = Objective("val_accuracy", "maximize")
NAMES = st.sampled_from(["val_accuracy", "val_loss", "val_top_5_accuracy", "accuracy", *BESIDE])
BOUNDS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**12), 10**12).map(float)
LIMITS = st.builds(Limit, NAMES, st.sampled_from(["<=", ">=", "<", ">"]), BOUNDS)
OBJECTIVES = st.builds(Objective, NAMES, st.sampled_from(["maximize", "minimize"]))


def planned(tmp_path, *objectives, limits=(), **asked):
    request = Request(space="cnn_digits", study="s", objectives=objectives, limits=tuple(limits), **asked)
    return make(request, settings_of(tmp_path), check_places=False)


@given(st.lists(OBJECTIVES, unique_by=lambda o: o.name, min_size=1))
def test_objectives_are_read_as_they_are_written(objectives):
    read = Reader()
    found = read_objectives([str(o) for o in objectives], OWN, 10, read)
    assert found == (() if objectives == [OWN] else tuple(objectives))
    assert [parse_objective(str(o)) for o in objectives] == objectives
    assert not read.problems


@given(LIMITS)
def test_limits_are_read_as_they_are_written(limit):
    read = Reader()
    assert parse_limit(str(limit)) == limit
    assert read_limits([str(limit)], OWN, 10, read) == (limit,)
    assert str(parse_limit(f" {limit.name} {limit.operator} {limit.bound!r} ")) == str(limit)


@given(LIMITS, st.floats() | BOUNDS)
def test_a_violation_is_above_zero_exactly_where_the_limit_is_broken(limit, value):
    violation = limit.violation(value)
    assert math.isfinite(violation)
    assert (violation > 0) == limit.broken(value)
    assert limit.broken(math.nan)


@given(st.sampled_from([Limit("latency_ms", "<=", 5.0), Limit("val_accuracy", ">=", 0.9)]), st.floats(0, 1e6))
def test_a_violation_is_how_far_a_value_is_beyond_relative_to_the_limit(limit, value):
    beyond = (value / limit.bound - 1) * (1 if limit.is_upper else -1)
    assert limit.violation(value) == pytest.approx(beyond, rel=1e-6, abs=1e-6)


def test_what_breaks_a_limit_is_said_so_that_it_does_not_look_like_the_limit():
    assert Limit("latency_ms", "<=", 5.0).words(7.2) == "latency_ms 7.200 > 5"
    assert Limit("latency_ms", "<=", 5.0).words(5.00001) == "latency_ms 5.00001 > 5"
    assert Limit("params", "<", 1e6).words(1e6) == "params 1,000,000 >= 1,000,000"
    assert Limit("val_accuracy", ">=", 0.9).words(0.85) == "val_accuracy 0.8500 < 0.9"
    assert written("train_seconds", 12345.6) == "12,346"
    assert written("model_mb", 0.01234) == "0.0123"


def test_without_a_direction_the_natural_one_is_taken():
    read = Reader()
    names = ["val_accuracy", "val_top_3_accuracy", "val_loss", *BESIDE]
    found = read_objectives(names, OWN, 10, read)
    assert [o.direction for o in found] == ["maximize", "maximize", *["minimize"] * 6]
    assert natural("val_mae") == "minimize"
    (odd,) = read_objectives(["val_odd"], Objective("val_odd", "minimize"), 10, read) or [None]
    assert odd is None, "a space's own metric, whatever its name, has the space's direction"
    assert not read.problems


def test_every_problem_of_objectives_and_limits_is_named_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        planned(
            tmp_path,
            "val_acuracy",
            "val_top_12_accuracy",
            "params:up",
            "val_loss",
            "val_loss:max",
            limits=["params", "params<=1e6", "params<2e6", "val_loss>=2", "val_loss<=1", "foo<=1", "params<=nan"],
        )
    told = "\n".join(caught.value.problems)
    assert "--objective val_acuracy: unknown; choose one of val_accuracy, val_loss, val_top_5_accuracy" in told
    assert "Did you mean 'val_accuracy'?" in told
    assert "there are 10 classes; give a number from 1 to 9" in told
    assert "--objective params:up: give NAME, NAME:max or NAME:min" in told
    assert "--objective val_loss:max: val_loss is named twice" in told
    assert "--limit params<2e6: params is limited twice, by params<=1000000 too" in told
    assert "no value is within both" in told
    assert sum(line.startswith("--limit params") and "in quotes" in line for line in caught.value.problems) == 2
    assert "--limit foo<=1: unknown" in told


def test_the_space_s_own_objective_is_none_at_all(tmp_path):
    assert planned(tmp_path, "val_accuracy") == planned(tmp_path)
    assert planned(tmp_path, "val_accuracy:min").objectives == ("val_accuracy:min",)


def test_one_other_metric_replaces_the_space_s_metric_and_direction_and_is_pruned_by(tmp_path):
    plan = planned(tmp_path, "val_loss")
    space = space_of(plan)
    assert (space.metric, space.direction, plan.pruner) == ("val_loss", "minimize", "asha")
    assert goals_of(plan, space).plain


@pytest.mark.parametrize("objectives", [("val_loss", "params"), ("params", "val_loss:min"), ("latency_ms",)])
def test_several_objectives_or_one_that_no_epoch_has_switch_pruning_off_and_say_so(tmp_path, objectives):
    plan = planned(tmp_path, *objectives, pruner="median")
    assert plan.pruner == "none"
    assert any("nothing is pruned (pruner none)" in line for line in describe_plan(plan))
    metric = "val_loss" if "val_loss" in str(objectives) else "val_accuracy"
    assert goals_of(plan, space_of(plan)).metric == metric, "the best epoch is that of the first metric"


def test_goals_are_part_of_what_a_study_is_and_go_on_with_it(tmp_path):
    plan = planned(tmp_path, "val_accuracy", "params", limits=["latency_ms<=5", "params<=2e4"])
    stored = plan.to_json() | {"objectives": list(plan.objectives), "limits": list(plan.limits)}
    check_identity(planned(tmp_path, "val_accuracy", "params", limits=["params<=20000", "latency_ms<=5.0"]), stored)
    again = resume(stored, Request(space="cnn_digits", study="s"))
    assert (again.objectives, again.limits) == (plan.objectives, plan.limits)
    for other in (planned(tmp_path), planned(tmp_path, "params", "val_accuracy", limits=plan.limits)):
        with pytest.raises(InputError, match="a study's objectives"):
            check_identity(other, stored)
    older = {k: v for k, v in planned(tmp_path).to_json().items() if k not in ("objectives", "limits")}
    check_identity(planned(tmp_path), older)
    assert resume(older, Request(space="cnn_digits", study="s")).objectives == ()


def test_a_known_setting_beyond_a_known_limit_is_left_out_and_said(tmp_path):
    plan = planned(tmp_path, limits=["model_mb<=0.001"])
    assert plan.baselines == ()
    assert "baseline plain is left out: model_mb" in plan.left_out[0]


def test_figures_are_those_of_the_best_epoch_and_of_the_whole_trial():
    goals = read_goals(["params:min", "val_loss:min", "val_accuracy:max"], ["train_seconds<=3"], OWN)
    history = [
        {"val_accuracy": 0.5, "val_loss": 1.0, "seconds": 2.0},
        {"val_accuracy": 0.4, "val_loss": 0.9, "seconds": 1.5},
        {"val_accuracy": 0.9, "val_loss": 1.1, "seconds": 1.0},
    ]
    figures = goals.figures(history, {"params": 7}, {})
    assert figures == {"params": 7, "val_loss": 0.9, "val_accuracy": 0.4, "train_seconds": 4.5}
    assert goals.values(figures) == [7, 0.9, 0.4]
    assert goals.constraints(figures) == {"train_seconds<=3": 0.5}
    assert goals.over(figures) == "over limit: train_seconds 4.500 > 3"


def test_where_all_images_are_trained_on_training_s_metrics_take_the_place_of_validation_s():
    goals = read_goals(["val_loss:min", "params:min"], ["val_accuracy>=0.5", "params<=9"], OWN, merged=True)
    assert (goals.metric, [str(limit) for limit in goals.limits]) == ("loss", ["params<=9"])
