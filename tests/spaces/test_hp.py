"""The vocabulary: what is drawn lies in range, what is inactive is None, what is narrowed stays narrowed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces import Defaults, Parameter, RandomDraws, Replay
from spaces._hp import narrow
from spaces.errors import SpaceError


@given(
    low=st.integers(-50, 50), width=st.integers(0, 100), step=st.none() | st.integers(1, 20), seed=st.integers(0, 999)
)
def test_an_int_is_drawn_from_its_grid(low, width, step, seed):
    hp = RandomDraws(seed)
    drawn = hp.Int("n", low, low + width, step=step)
    assert isinstance(drawn, int)
    assert low <= drawn <= low + width
    assert (drawn - low) % (step or 1) == 0
    assert hp.declared["n"].contains(drawn)


@given(
    low=st.floats(1e-6, 1.0),
    factor=st.floats(1.01, 1e6),
    seed=st.integers(0, 999),
    sampling=st.sampled_from(["linear", "log", "reverse_log"]),
)
def test_a_float_is_drawn_from_its_range(low, factor, seed, sampling):
    hp = RandomDraws(seed)
    drawn = hp.Float("x", low, low * factor, sampling=sampling)
    assert low * (1 - 1e-9) <= drawn <= low * factor * (1 + 1e-9)


def test_what_a_conditional_scope_switches_off_is_none_and_not_in_the_configuration():
    hp = Defaults()
    hp.Choice("optimizer", ["adam", "sgd"])
    with hp.conditional_scope("optimizer", "sgd"):
        momentum = hp.Float("momentum", 0.0, 0.9)
    assert momentum is None
    assert hp.values == {"optimizer": "adam"}
    assert "momentum" in hp.declared


def test_a_scope_inside_an_inactive_scope_is_inactive():
    hp = Defaults()
    hp.Choice("a", ["x", "y"])
    with hp.conditional_scope("a", "y"):
        hp.Boolean("b", default=True)
        with hp.conditional_scope("b", True):
            assert hp.Int("c", 1, 3) is None


def test_the_same_name_drawn_twice_gives_the_same_value_and_another_range_is_an_error():
    hp = RandomDraws(1)
    assert hp.Int("n", 1, 100) == hp.Int("n", 1, 100)
    with pytest.raises(SpaceError, match="drawn twice with different ranges"):
        hp.Int("n", 1, 50)


def test_get_gives_active_values_only():
    hp = Defaults()
    hp.Fixed("k", 3)
    assert hp.get("k") == 3
    with pytest.raises(KeyError, match="not active"):
        hp.get("missing")


def test_a_multiplicative_step_gives_powers():
    assert Parameter("n", "int", 8, 64, 2, "log", default=8).grid() == (8, 16, 32, 64)
    assert Parameter("n", "int", 8, 64, 2, "reverse_log", default=8).grid() == (8, 40, 56, 64)


def test_a_parameter_that_somebody_else_knows_to_be_active_is_drawn_once_and_its_variants_share_the_value():
    hp = RandomDraws(1)
    small, large = (Parameter("n", "int", low, low + 9, default=low) for low in (1, 100))
    assert hp.meet(large, active=False) is None
    drawn = hp.meet(small, active=True)
    assert small.contains(drawn)
    assert hp.meet(large, active=True) == drawn
    assert hp.values == {"n": drawn}


@pytest.mark.parametrize(
    ("text", "kept"),
    [("3", (3, 3)), ("2..5", (2, 5)), ("2 .. 5", (2, 5))],
)
def test_an_int_is_fixed_or_narrowed_by_text(text, kept):
    narrowed = narrow(Parameter("n", "int", 1, 9, default=1), text)
    assert (narrowed.low, narrowed.high) == kept
    assert narrowed.contains(narrowed.default)


def test_a_list_of_numbers_becomes_a_choice():
    narrowed = narrow(Parameter("n", "int", 1, 9, default=1), "2,4,8")
    assert narrowed.choices == (2, 4, 8)


def test_a_boolean_and_a_choice_are_narrowed_by_name():
    assert narrow(Parameter("b", "boolean", choices=(False, True), default=False), "true").choices == (True,)
    kinds = Parameter("o", "choice", choices=("adam", "sgd", "rmsprop"), default="adam")
    assert narrow(kinds, "sgd,rmsprop").choices == ("sgd", "rmsprop")
    decay = Parameter("w", "choice", choices=(0.0, 1e-5), default=0.0)
    assert narrow(decay, "0.00001").choices == (1e-5,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("abc", "not a whole number"),
        ("3.5", "not a whole number"),
        ("0", "outside 1..9"),
        ("5..20", "outside 1..9"),
        ("5..3", "the range is empty"),
        ("3..", "not a whole number"),
        ("", "not a whole number"),
    ],
)
def test_text_that_does_not_fit_is_refused_with_the_reason(text, says):
    with pytest.raises(SpaceError, match=says):
        narrow(Parameter("n", "int", 1, 9, default=1), text)


@given(st.text(max_size=12))
def test_any_text_is_either_taken_or_refused_in_one_line(text):
    for parameter in (
        Parameter("x", "float", 0.1, 2.0, default=1.0),
        Parameter("n", "int", 1, 9, 2, default=1),
        Parameter("o", "choice", choices=("a", 1, 0.5, True), default="a"),
    ):
        try:
            assert narrow(parameter, text).size() >= 1
        except SpaceError as error:
            assert str(error)


@given(seed=st.integers(0, 10_000))
def test_a_narrowed_draw_never_leaves_what_was_asked_for(seed):
    hp = RandomDraws(seed, {"n": "3..5", "x": "0.01..0.02", "o": "b"})
    assert 3 <= hp.Int("n", 1, 100) <= 5
    assert 0.01 <= hp.Float("x", 1e-4, 1.0, sampling="log") <= 0.02
    assert hp.Choice("o", ["a", "b"]) == "b"


def test_a_replayed_configuration_must_be_whole_and_in_range():
    with pytest.raises(SpaceError, match="n is missing"):
        Replay({}).Int("n", 1, 9)
    with pytest.raises(SpaceError, match="not in 1..9"):
        Replay({"n": 10}).Int("n", 1, 9)
    assert Replay({"n": 9}).Int("n", 1, 9) == 9


def test_the_size_of_a_parameter_counts_its_values():
    assert Parameter("n", "int", 1, 9, 2, default=1).size() == 5
    assert math.isinf(Parameter("x", "float", 0.0, 1.0, default=0.0).size())


@pytest.mark.parametrize("kind", ["Int", "Float"])
@pytest.mark.parametrize(("low", "high"), [(9, 1), ("a", "b"), (float("nan"), 1.0)])
def test_a_range_that_holds_nothing_is_refused_where_it_is_drawn(kind, low, high):
    with pytest.raises(SpaceError, match=rf"hp.{kind}\('n', .*give two numbers, the lower one first"):
        getattr(Defaults(), kind)("n", low, high)
