"""Limits are read, counted over all attempts of a study, and bind."""

import pytest

from search import budget, store
from search.budget import Budget, Clock
from search.executors.devices import Slot


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("8h", 28800), ("2d", 172800)])
def test_times_are_read_with_their_units(text, seconds):
    assert budget.read_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "0h", "1w", "1h30m"])
def test_what_is_no_time_is_none(text):
    assert budget.read_time(text) is None


@pytest.mark.parametrize(("text", "size"), [("6gb", 6000), ("6G", 6000), ("512mb", 512), ("512", 512), ("1.5GB", 1500)])
def test_sizes_are_read_in_megabytes(text, size):
    assert budget.read_size(text) == size


def test_a_budget_is_device_hours_and_prints_as_it_is_read():
    assert budget.read_budget("8gpu-h") == Budget(28800, "gpu")
    assert budget.read_budget("90core-m") == Budget(5400, "core")
    assert [str(budget.read_budget(text)) for text in ("90core-m", "8core-s", "0.25gpu-h")] == [
        "1.5core-h",
        "8core-s",
        "0.25gpu-h",
    ]
    for seconds in (5400, 1, 3.6e9, 100 / 3):
        assert budget.read_budget(str(Budget(seconds, "core"))).seconds == pytest.approx(seconds)
    assert [budget.read_budget(text) for text in ("8", "8h", "8gpu", "0gpu-h", "8tpu-h")] == [None] * 5


def test_a_slot_uses_its_cores_and_its_share_of_a_gpu():
    shared = (Slot(0, (0, 1), 0), Slot(1, (2,), 0), Slot(2, (3,), 1))
    assert [budget.share(s, shared, "core") for s in shared] == [2, 1, 1]
    assert [budget.share(s, shared, "gpu") for s in shared] == [0.5, 0.5, 1]
    assert budget.share(Slot(0, (0,)), (Slot(0, (0,)),), "gpu") == 0


def test_what_was_used_is_counted_over_attempts_and_across_processes(tmp_path):
    for number, spans in ((0, [(100, 130), (500, 510)]), (1, [(200, 260)])):
        folder = store.trial_folder(tmp_path, number)
        for began, ended in spans:
            began_with = {"attempt": 1, "slot": "cpu", "devices": {"core": 2.0}, "time": began}
            store.append(folder, {"event": "attempt", **began_with})
            store.append(folder, {"event": "epoch", "epoch": 0, "metrics": {}, "time": ended})
    assert budget.spent(tmp_path, "core") == 200
    assert budget.spent(tmp_path, "gpu") == 0
    clock = Clock(None, Budget(300, "core"), tmp_path)
    assert clock.reached([(10, {"core": 2.0})]) == ""
    clock.ended(20, {"core": 2.0})
    assert clock.reached([(10, {"core": 2.0})]) == ""
    assert clock.reached([(30, {"core": 2.0})]) == "the budget is used up (--budget 5core-m)"


def test_a_clock_that_is_set_back_takes_nothing_away(tmp_path):
    for time in (1000.0, 1030.0, 500.0):
        event = "epoch" if time != 1000.0 else "attempt"
        said = {"attempt": 1, "slot": "cpu", "devices": {"core": 1.0}, "epoch": int(time), "metrics": {}}
        store.append(store.trial_folder(tmp_path, 0), {"event": event, "time": time} | said)
    assert budget.spent(tmp_path, "core") == 30


def test_without_limits_nothing_is_reached(tmp_path):
    assert Clock(None, None, tmp_path).reached([(1e9, {"core": 64.0})]) == ""
    assert Clock(1e-9, None, tmp_path).reached([]) == "time limit"
