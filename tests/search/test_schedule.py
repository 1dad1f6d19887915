"""Learning rates and early stopping are functions of the epoch and what came before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.trial.schedule import best_epoch, learning_rate, stops_early
from spaces import Recipe


def recipe(**changes):
    return Recipe(**({"batch_size": 32, "optimizer": "adam", "learning_rate": 0.1} | changes))


def losses(*values):
    return [{"val_loss": v, "val_accuracy": 1 - v} for v in values]


def test_step_divides_by_ten_at_shares_of_the_budget():
    step = recipe(schedule="step", milestones=(0.5, 0.75))
    rates = [learning_rate(step, e, 8, (), []) for e in range(8)]
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_milestones_in_epochs_replace_the_shares():
    step = recipe(schedule="step", milestones=(0.5, 0.75))
    assert learning_rate(step, 34, 35, (50, 75), []) == 0.1
    assert learning_rate(step, 50, 100, (50, 75), []) == pytest.approx(0.01)


def test_cosine_falls_from_the_first_rate_towards_zero():
    rates = [learning_rate(recipe(schedule="cosine"), e, 10, (), []) for e in range(10)]
    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_plateau_divides_after_five_epochs_without_a_better_loss():
    plateau = recipe(schedule="plateau")
    assert learning_rate(plateau, 5, 20, (), losses(1, 2, 2, 2, 2)) == 0.1
    assert learning_rate(plateau, 6, 20, (), losses(1, 2, 2, 2, 2, 2)) == pytest.approx(0.01)
    assert learning_rate(plateau, 7, 20, (), losses(1, 2, 2, 2, 2, 2, 0.5)) == pytest.approx(0.01)


@given(st.lists(st.floats(0, 10), max_size=30))
def test_a_constant_rate_never_changes(values):
    assert learning_rate(recipe(), len(values), 40, (), losses(*values)) == 0.1


@pytest.mark.parametrize(
    ("values", "stops"),
    [((3, 2, 1), False), ((1, 2), False), ((1, 2, 2), True), ((1, 2, 0.5), False), ((1, 1, 1), True)],
)
def test_training_stops_after_patience_epochs_of_no_better_loss(values, stops):
    assert stops_early(losses(*values), 2) is stops


def test_no_patience_never_stops():
    assert not stops_early(losses(1, 2, 3, 4, 5, 6), 0)
    assert not stops_early(losses(1, 2, 3, 4, 5, 6), None)


def test_the_best_epoch_is_the_first_of_equals():
    assert best_epoch(losses(0.5, 0.2, 0.2), "val_accuracy", "maximize") == 1
    assert best_epoch(losses(0.5, 0.2, 0.2), "val_loss", "minimize") == 1
