"""The outbox keeps order, merges, waits out an outage, names what is refused, and never holds up who puts."""

import re
import threading
import time

import pytest
import requests

from tracking import outbox as outboxes
from tracking.batch import Batch
from tracking.faults import Fault, fault_of, one_line
from tracking.outbox import Outbox
from tracking.values import Point


class Store:
    """Takes batches as MLflow does, and fails as told."""

    def __init__(self):
        self.batches = []
        self.fails = lambda run_id, batch: None

    def __call__(self, run_id, batch):
        error = self.fails(run_id, batch)
        if error is not None:
            raise error
        self.batches.append((run_id, batch))

    def metrics(self, run_id):
        return [point for run, batch in self.batches if run == run_id for point in batch.metrics]


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def outbox(store, monkeypatch):
    monkeypatch.setattr(outboxes, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(outboxes, "LAST_DELAY", 0.02)
    box = Outbox(store)
    yield box
    store.fails = lambda run_id, batch: None
    box.close(5)


@pytest.fixture
def blocked(outbox):
    """Holds the thread in a job until it is set, so that what is put meanwhile waits."""
    gate, reached = threading.Event(), threading.Event()

    def wait():
        reached.set()
        gate.wait(10)

    outbox.put("gate", wait, what="gate")
    assert reached.wait(5)
    yield gate
    gate.set()


def point(step, key="loss"):
    return Point(key, 1.0 / (step + 1), 1000 + step, step)


def test_entries_of_a_run_keep_their_order_and_neighbours_share_a_request(outbox, store, blocked):
    seen = []
    for step in range(5):
        outbox.put_batch("a", metrics=[point(step)])
        outbox.put_batch("b", metrics=[point(step)])
    outbox.put("a", lambda: seen.append(len(store.metrics("a"))), what="job")
    outbox.put_batch("a", tags={"end": "1"})
    blocked.set()
    assert outbox.flush(5)
    assert [len(batch.metrics) for run, batch in store.batches if run == "a"] == [5, 0]
    assert [p.step for p in store.metrics("a")] == [p.step for p in store.metrics("b")] == [0, 1, 2, 3, 4]
    assert seen == [5], "the job came after what was put before it"


def test_a_request_stays_within_mlflows_limits(outbox, store, blocked):
    outbox.put_batch("a", metrics=[point(i) for i in range(2500)], params={f"p{i}": "v" for i in range(150)})
    outbox.put_batch("a", tags={f"t{i}": "x" * 8000 for i in range(120)})
    blocked.set()
    assert outbox.flush(5)
    for _, batch in store.batches:
        assert len(batch.metrics) <= 1000
        assert len(batch.params) <= 100
        assert len(batch.tags) <= 100
        assert len(batch) <= 1000
        assert batch.size <= 600_000
    assert len(store.metrics("a")) == 2500
    assert sum(len(batch.params) for _, batch in store.batches) == 150


def test_putting_takes_no_time_while_the_store_hangs(outbox, blocked):
    before = time.perf_counter()
    for step in range(1000):
        outbox.put_batch("a", metrics=[point(step, f"m{i}") for i in range(12)])
    assert (time.perf_counter() - before) / 1000 < 0.005
    assert outbox.pending == 1001
    assert outbox.flush(0.05) is False


def test_while_the_store_is_away_everything_waits_and_then_arrives_once_in_order(outbox, store):
    store.fails = lambda run_id, batch: requests.exceptions.ConnectionError("[Errno 111] Connection refused")
    for step in range(20):
        outbox.put_batch("a" if step % 2 else "b", metrics=[point(step)])
    assert outbox.flush(0.2) is False
    assert outbox.waiting_since is not None
    assert abs(outbox.waiting_since - time.time()) < 5
    assert outbox.pending == 20
    store.fails = lambda run_id, batch: None
    assert outbox.flush(5)
    assert outbox.waiting_since is None
    assert [p.step for p in store.metrics("a")] == list(range(1, 20, 2))
    assert [p.step for p in store.metrics("b")] == list(range(0, 20, 2))
    assert outbox.failures == []


def test_of_a_merged_request_only_what_is_refused_is_dropped(outbox, store, blocked):
    store.fails = lambda run_id, batch: ValueError("no such name") if "bad" in str(batch.metrics) else None
    for step in range(8):
        outbox.put_batch("a", metrics=[point(step, "bad" if step == 3 else "loss"), point(step, "accuracy")])
    blocked.set()
    assert outbox.flush(5), "what is refused for good does not count as lost"
    assert outbox.failures == ["a: metric 'bad': no such name"]
    assert [p.step for p in store.metrics("a") if p.key == "loss"] == [0, 1, 2, 4, 5, 6, 7]
    assert [p.step for p in store.metrics("a") if p.key == "accuracy"] == list(range(8))


def test_a_parameter_said_twice_with_two_values_reaches_mlflow_as_two(outbox, store, blocked):
    outbox.put_batch("a", params={"lr": "1"})
    outbox.put_batch("a", params={"lr": "2"})
    blocked.set()
    assert outbox.flush(5)
    assert [batch.params for _, batch in store.batches] == [{"lr": "1"}, {"lr": "2"}]


def test_a_run_that_keeps_failing_holds_up_no_other_and_is_given_up_in_the_end(outbox, store):
    store.fails = lambda run_id, batch: OSError(28, "No space left on device") if run_id == "sick" else None
    outbox.put_batch("sick", metrics=[point(0)])
    outbox.put_batch("well", metrics=[point(0)])
    assert outbox.flush(5) is False, "it may yet be replayed, so nobody may believe it arrived"
    assert len(store.metrics("well")) == 1
    assert outbox.failures == ["sick: metric 'loss': [Errno 28] No space left on device"]
    assert outbox.close(1) == 1


def test_a_store_that_only_fails_is_taken_for_silent_until_it_takes_something(outbox, store, monkeypatch):
    monkeypatch.setattr(outboxes, "LAST_DELAY", 0.5)
    store.fails = lambda run_id, batch: OSError("500")
    for run_id in "abc":
        outbox.put_batch(run_id, metrics=[point(0)])
    until = time.monotonic() + 5
    while not outbox.silent and time.monotonic() < until:
        time.sleep(0.01)
    assert outbox.silent
    assert outbox.waiting_since is None, "it answers, if only with errors"
    store.fails = lambda run_id, batch: None
    assert outbox.flush(5)
    assert not outbox.silent


def test_nothing_is_given_up_while_the_store_fails_whatever_is_sent(outbox, store):
    tries = []

    def fails(run_id, batch):
        tries.append(run_id)
        return OSError("500")

    store.fails = fails
    for run_id in "abc":
        outbox.put_batch(run_id, metrics=[point(0)])
    assert outbox.settle(away=0.1, at_most=5) is False, "it is not waited for any longer than one that is away"
    until = time.monotonic() + 10
    while len(tries) < 60 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(tries) >= 60, "it is tried again and again"
    store.fails = lambda run_id, batch: None
    assert outbox.flush(20)
    assert outbox.failures == []
    assert [len(store.metrics(run_id)) for run_id in "abc"] == [1, 1, 1]


def test_one_entry_that_fails_among_many_that_arrive_is_no_silence(outbox, store, blocked):
    silent = []

    def fails(run_id, batch):
        silent.append(outbox.silent)
        return OSError("500") if run_id == "sick" and len(silent) < 6 else None

    store.fails = fails
    for step in range(8):
        outbox.put_batch("sick", metrics=[point(step)])
        outbox.put_batch(f"well {step}", metrics=[point(step)])
    blocked.set()
    assert outbox.flush(5)
    assert not any(silent)


def test_what_fails_for_a_while_arrives_in_order(outbox, store):
    tries = []

    def fails(run_id, batch):
        tries.append(run_id)
        return OSError("busy") if len(tries) < 4 else None

    store.fails = fails
    outbox.put_batch("a", metrics=[point(0)])
    outbox.put_batch("a", metrics=[point(1)])
    assert outbox.flush(5)
    assert [p.step for p in store.metrics("a")] == [0, 1]
    assert outbox.failures == []


def test_a_job_is_called_again_until_it_succeeds(outbox):
    calls = []

    def job():
        calls.append(1)
        if len(calls) < 3:
            raise requests.exceptions.ReadTimeout("slow")

    outbox.put("a", job, what="job")
    assert outbox.flush(5)
    assert len(calls) == 3


def test_memory_is_bounded_and_an_overflow_is_never_taken_for_success(outbox, blocked, monkeypatch):
    monkeypatch.setattr(outboxes, "MAX_BYTES", 1000)
    outbox.put("a", lambda: None, what="small", size=900)
    outbox.put("a", lambda: None, what="large", size=200)
    blocked.set()
    assert outbox.flush(5) is False
    assert outbox.failures == ["a: large: too much is waiting for the server"]
    assert outbox.close(1) == 1


def test_closing_says_what_is_left_and_later_entries_are_named(store, monkeypatch):
    monkeypatch.setattr(outboxes, "FIRST_DELAY", 0.01)
    box = Outbox(store)
    store.fails = lambda run_id, batch: requests.exceptions.ConnectionError("refused")
    for step in range(3):
        box.put_batch("a", metrics=[point(step)])
    before = time.monotonic()
    assert box.close(0.1) == 3
    assert time.monotonic() - before < 2
    box.put_batch("a", tags={"late": "1"})
    assert box.failures == ["a: tag 'late': it came after the end"]


def test_a_program_that_forgets_to_close_still_sends_and_still_ends(python, tmp_path):
    code = """
import sys, threading, time
from pathlib import Path
from tracking.outbox import Outbox
from tracking.values import Point
def send(run_id, batch):
    time.sleep(0.2)
    Path(sys.argv[1]).write_text(str(batch.metrics[0].value))
box = Outbox(send)
box.put("a", lambda: time.sleep(0.3), what="slow")
box.put_batch("a", metrics=[Point("loss", 0.5, 1, 1)])
"""
    python(code, str(tmp_path / "sent"))
    assert (tmp_path / "sent").read_text() == "0.5"
    away = code.replace("time.sleep(0.2)", "import requests; raise requests.exceptions.ConnectionError('away')")
    before = time.monotonic()
    python(away, str(tmp_path / "never"))
    assert time.monotonic() - before < 20


def test_batches_split_into_halves_with_all_of_it():
    batch = Batch.of([point(0), point(1)], {"p": "1"}, {"t": "2"})
    first, second = batch.halves()
    assert (first.metrics, second.params, second.tags) == ([point(0), point(1)], {"p": "1"}, {"t": "2"})
    assert first.size + second.size == batch.size


@pytest.mark.parametrize(
    ("status", "fault"),
    [(400, "REFUSED"), (404, "REFUSED"), (401, "AWAY"), (403, "AWAY"), (429, "AWAY"), (500, "SICK"), (503, "AWAY")],
)
def test_an_answer_means_wait_or_try_again_or_give_up(answering, status, fault):
    from tracking.client import connect

    body = b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}' if status == 400 else b"<html>no</html>"
    uri = answering(status, body)
    with pytest.raises(Exception) as caught:
        connect(uri).get_run("0" * 32)
    assert fault_of(caught.value) is Fault[fault]
    assert "\n" not in one_line(caught.value)


def test_errors_are_told_on_one_line_without_passwords():
    text = one_line(RuntimeError("cannot\n reach postgresql://me:secret@db:5432/x " + "y" * 500))
    assert re.fullmatch(r"cannot reach postgresql://me:\*\*\*@db:5432/x y+…", text)
    assert len(text) == 300
