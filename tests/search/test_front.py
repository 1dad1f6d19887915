"""The Pareto front is what its definition says, and orders the trials of a study."""

import math

import optuna
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from search import ranking, weights
from search.front import front
from search.ranking import Point, places

VALUES = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, math.inf, -math.inf, math.nan]) | st.floats(-5, 5)
SIGNS = st.lists(st.sampled_from([1, -1]), min_size=1, max_size=4)


@st.composite
def problems(draw, values=VALUES):
    signs = draw(SIGNS)
    points = draw(st.lists(st.tuples(*[values] * len(signs)), max_size=14))
    return points, signs


def by_definition(points, signs):
    """Those without NaN of which no other without NaN is nowhere worse and somewhere better."""

    def beats(one, other):
        gains = [s * a - s * b if a != b else 0 for a, b, s in zip(one, other, signs, strict=True)]
        return min(gains) >= 0 and max(gains) > 0

    able = [i for i, point in enumerate(points) if not any(value != value for value in point)]
    return [i for i in able if not any(beats(points[j], points[i]) for j in able)]


@given(problems())
def test_the_front_is_what_its_definition_says(problem):
    points, signs = problem
    assert front(points, signs) == by_definition(points, signs)


def test_equals_are_on_the_front_together_and_nan_never_is():
    assert front([(1, 2), (1, 2), (0, 2), (math.nan, 9), (2, 1)], [1, 1]) == [0, 1, 4]
    assert front([], [1, -1]) == []


FINITE = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(-5, 5)


@st.composite
def studies(draw):
    """A study of complete, infeasible, pruned, failed and running trials, and what was complete and within limits."""
    points, signs = draw(problems(FINITE))
    study = optuna.create_study(directions=["maximize" if sign == 1 else "minimize" for sign in signs])
    able = {}
    for number, values in enumerate(points):
        kind = draw(st.sampled_from(["complete", "complete", "within", "over", "pruned", "failed", "running"]))
        state = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL, "running": TrialState.RUNNING}.get(
            kind, TrialState.COMPLETE
        )
        violations = {"within": {"x<=1": -0.5, "y<=1": 0.0}, "over": {"x<=1": 0.1, "y<=1": -1.0}}
        violations |= {"pruned": {"memory": 0.4}}
        study.add_trial(
            create_trial(
                state=state,
                values=list(values) if state == TrialState.COMPLETE else None,
                constraints=violations.get(kind),
            )
        )
        if kind in ("complete", "within"):
            able[number] = values
    return study, signs, able


@given(studies())
@settings(deadline=None)
def test_a_study_s_front_has_no_trial_over_a_limit_and_leads_its_order(made):
    study, signs, able = made
    expected = {list(able)[i] for i in by_definition(list(able.values()), signs)}
    leading = [t.number for t in ranking.front(study)]
    ranked = [t.number for t in ranking.ranked(study)]
    assert set(ranked) == set(able)
    if len(signs) == 1:
        assert leading == ranked[:1]
        assert set(leading) <= expected
    else:
        assert set(leading) == expected
        assert ranked[: len(leading)] == leading
        assert {t.number for t in study.best_trials} == expected, "Optuna sees the same front"
    firsts = [signs[0] * able[n][0] for n in leading]
    assert firsts == sorted(firsts, reverse=True)


@given(studies(), st.integers(0, 5))
@settings(deadline=None)
def test_the_weights_that_are_kept_are_those_that_lead(made, keep):
    """However they came: each is offered as it ends, and gives way as others turn out better."""
    study, signs, able = made
    told = optuna.create_study(directions=study.directions)
    shelf = weights.Shelf(told, None, None, None, keep)
    for trial in study.get_trials(deepcopy=False):
        told.add_trial(trial)
        stands = ranking.point(told.get_trials(deepcopy=False)[-1], told)
        if stands is None or not shelf.has_room(stands):
            continue
        weights.remember(told, weights.Kept(trial.number, stands.values[0], f"m{trial.number}"))
        for fallen in weights.kept(told)[keep:]:
            weights.forget(told, fallen.number)
    kept = [k.number for k in weights.kept(told)]
    assert len(kept) <= keep
    within = [n for n in kept if n in able]
    assert kept[: len(within)] == within, "what is over a limit comes last"
    if len(signs) == 1:
        assert within == [t.number for t in ranking.ranked(told)][:keep]
    elif keep:
        best = next(iter(t.number for t in ranking.ranked(told)), None)
        assert best is None or best in kept or any(able[n][0] == able[best][0] for n in within)


def test_a_trial_about_to_be_told_is_placed_among_those_that_are():
    points = [Point(0, (0.9, 10.0)), Point(1, (0.8, 5.0)), Point(2, (0.95, 4.0)), Point(3, (0.99, 1.0), within=False)]
    order = places(points, [1, -1])
    assert sorted(order, key=order.__getitem__) == [2, 0, 1, 3]
    assert [order[n][0] for n in range(4)] == [1, 1, 0, 2]
    assert places([Point(0, (0.3,)), Point(1, (0.4,), within=False)], [1]) == {0: (0, -0.3), 1: (2, -0.4)}


def test_no_limit_is_broken_where_there_is_none():
    trial = create_trial(state=TrialState.COMPLETE, value=1.0)
    assert ranking.within(trial)
    assert not ranking.over(trial)
