"""The simulated clock that methods are driven by, and what their results are worth."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import peers, regret, synthetic
from bench.grid import points
from bench.simulation import METRIC, Ask, Truth, simulate
from search.executors.table import Table, grouped
from spaces import find

SPACE = find(str(Path(__file__).parent / "grids" / "digits.py"))
TABLE = synthetic.table(SPACE)
TRUTH = Truth(TABLE)
POINTS = list(points(SPACE))


class Scripted:
    """Does what its script says: (id, point, epochs) or wait; answers reports from `verdicts`."""

    def __init__(self, script, verdicts=()):
        self.script, self.verdicts = list(script), dict(verdicts)
        self.heard, self.over = [], []

    def suggest(self):
        if not self.script:
            return "done"
        if self.script[0] == "wait":
            return self.script.pop(0)
        number, point, epochs = self.script.pop(0)
        return Ask(number, POINTS[point], epochs)

    def report(self, trial, epoch, value):
        self.heard.append((trial, epoch, value))
        return self.verdicts.get((trial, epoch), "go")

    def ended(self, trial, how):
        self.over.append((trial, how))


def ran(method, slots=1, seconds=1e9, truth=TRUTH):
    return simulate(truth, method, slots=slots, seconds=seconds, seed=0)


def curve(point):
    return next(c for c in TABLE.everything() if c.config == POINTS[point] and c.seed == 0)


def single(point):
    """A point with one recorded seed."""
    return len([c for c in TABLE.everything() if c.config == POINTS[point]]) == 1


ONE, TWO = [n for n in range(len(POINTS)) if single(n)][:2]


def test_one_slot_runs_trials_one_after_the_other_and_pays_what_was_recorded():
    method = Scripted([(0, ONE, 3), (1, TWO, 3)])
    outcome = ran(method)
    assert outcome.time == pytest.approx(curve(ONE).cost() + curve(TWO).cost())
    assert [value for *_, value in method.heard] == [*curve(ONE).metrics[METRIC], *curve(TWO).metrics[METRIC]]
    assert method.over == [(0, "complete"), (1, "complete")]
    assert (outcome.trials, outcome.epochs) == (2, 6)


def test_two_slots_run_two_trials_at_once():
    outcome = ran(Scripted([(0, ONE, 3), (1, TWO, 3)]), slots=2)
    assert outcome.time == pytest.approx(max(curve(ONE).cost(), curve(TWO).cost()))


def test_a_stopped_trial_leaves_its_slot_and_a_paused_one_goes_on_where_it_was():
    method = Scripted([(0, ONE, 3), (1, TWO, 3), (0, ONE, 3)], {(0, 1): "pause", (1, 2): "stop"})
    outcome = ran(method)
    assert [(trial, epoch) for trial, epoch, _ in method.heard] == [(0, 1), (1, 1), (1, 2), (0, 2), (0, 3)]
    assert method.over == [(0, "paused"), (1, "stopped"), (0, "complete")]
    paid = curve(ONE).cost() + curve(ONE).start_cpu + curve(TWO).start_cpu + sum(curve(TWO).cpu[:2])
    assert outcome.time == pytest.approx(paid)
    assert outcome.trials == 2


def test_time_ends_a_search_and_what_was_not_ended_does_not_count():
    outcome = ran(Scripted([(0, ONE, 3)]), seconds=curve(ONE).start_cpu + curve(ONE).cpu[0] + 0.01)
    assert outcome.epochs == 1
    assert outcome.time == pytest.approx(curve(ONE).start_cpu + curve(ONE).cpu[0] + 0.01)


def test_a_slot_waits_until_another_trial_has_ended():
    method = Scripted([(0, ONE, 3), "wait", (1, TWO, 3)])
    outcome = ran(method, slots=2)
    assert outcome.time >= curve(ONE).start_cpu + curve(ONE).cpu[0] + curve(TWO).cost() - 1e-9


def test_a_training_that_broke_off_is_told_as_failed_after_what_it_cost():
    whole = curve(ONE)
    short = {name: values[:1] for name, values in whole.metrics.items()}
    broken = type(whole)(**{**vars(whole), "metrics": short, "cpu": whole.cpu[:2], "failed": "nan"})
    rest = [c for c in TABLE.everything() if c.config != POINTS[ONE]]
    method = Scripted([(0, ONE, 3)])
    outcome = ran(method, truth=Truth(Table(**{**vars(TABLE), "curves": grouped([broken, *rest])})))
    assert method.over == [(0, "failed")]
    assert outcome.time == pytest.approx(broken.cost())


def test_the_model_in_hand_is_worth_what_its_epoch_was_and_not_what_it_would_come_to():
    method = Scripted([(0, ONE, 3)], {(0, 1): "stop"})
    outcome = ran(method)
    assert outcome.steps[-1].value == curve(ONE).metrics[METRIC][0]


@given(st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 1)), max_size=10), st.floats(0, 100))
@settings(max_examples=60, deadline=None)
def test_regret_at_a_budget_is_that_of_the_last_step_before_it(steps, budget):
    ordered = sorted(steps)
    before = [value for time, value in ordered if time <= budget]
    found = regret.at(ordered, np.array([budget]), 1.0)[0]
    assert found == pytest.approx(1.0 - (before[-1] if before else 0.0))


def test_standings_say_mean_interval_and_rank():
    runs = {"a": {0: [(1, 0.9)], 1: [(1, 0.8)]}, "b": {0: [(1, 0.5)], 1: [(1, 0.8)]}, "c": {0: [(1, 0.1)]}}
    first, second, third = regret.standings(runs, 10, 1.0)
    assert [first.method, second.method, third.method] == ["a", "b", "c"]
    assert first.mean == pytest.approx(0.15)
    assert first.low <= first.mean <= first.high
    assert (first.rank, second.rank, third.rank) == (1, 2, 3), "over the seeds that all have"


def test_how_soon_others_are_reached():
    budgets = np.array([1.0, 2.0, 3.0])
    assert regret.reached(np.array([0.5, 0.2, 0.1]), budgets, 0.2) == 2.0
    assert regret.reached(np.array([0.5, 0.4, 0.3]), budgets, 0.2) is None


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("name", ["auto", "random", "optuna-tpe", "optuna-random"])
def test_every_method_searches_and_does_the_same_again_with_its_seed(name, slots):
    def once(seed):
        method = peers.make(name, SPACE, seed, TABLE.epochs, slots)
        return simulate(TRUTH, method, slots=slots, seconds=8 * TRUTH.full / slots, seed=seed)

    assert once(1) == once(1)
    assert once(1).asked != once(2).asked
    assert once(1).epochs >= 8
