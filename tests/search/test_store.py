"""The write-ahead record: what is torn is left out, and nothing after it is lost."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import store


def epoch(number):
    return {"event": "epoch", "epoch": number, "metrics": {"loss": float(number)}}


def test_events_come_back_in_order(tmp_path):
    for number in range(3):
        store.append(tmp_path, epoch(number))
    assert [e["epoch"] for e in store.epochs(tmp_path)] == [0, 1, 2]


@given(cut=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_a_torn_last_line_loses_itself_and_nothing_written_later(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("trial")
    store.append(folder, epoch(0))
    store.append(folder, epoch(1))
    path = folder / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    kept = [e["epoch"] for e in store.epochs(folder)]
    assert kept in ([0], [0, 1])  # all but the newline may be there
    store.append(folder, epoch(len(kept)))
    store.append(folder, epoch(len(kept) + 1))
    assert [e["epoch"] for e in store.epochs(folder)] == list(range(len(kept) + 2))


def test_epochs_behind_a_lost_one_are_not_counted(tmp_path):
    for number in (0, 1, 3, 4):
        store.append(tmp_path, epoch(number))
    assert [e["epoch"] for e in store.epochs(tmp_path)] == [0, 1]


def test_bytes_that_are_no_text_are_left_out(tmp_path):
    store.append(tmp_path, epoch(0))
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x00 nonsense\n[1]\n3\n")
    store.append(tmp_path, epoch(1))
    assert [e["epoch"] for e in store.epochs(tmp_path)] == [0, 1]


def test_the_first_of_two_records_of_an_epoch_counts(tmp_path):
    store.append(tmp_path, epoch(0))
    store.append(tmp_path, {"event": "epoch", "epoch": 0, "metrics": {"loss": 9.0}})
    assert store.epochs(tmp_path)[0]["metrics"]["loss"] == 0.0


def test_a_text_that_no_encoding_takes_is_kept_all_the_same(tmp_path):
    store.write_text(tmp_path / "error.txt", "no file \udc80")
    assert (tmp_path / "error.txt").read_text() == "no file \\udc80"
    store.write_json(tmp_path / "trial.json", {"error": "no file \udc80"})
    assert store.read_json(tmp_path / "trial.json") == {"error": "no file \udc80"}


def attempt(number):
    return {"event": "attempt", "attempt": number, "slot": "cpu", "devices": {"core": 1.0}, "provenance": "p"}


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_a_flipped_bit_of_an_event_loses_that_line_or_changes_nothing_of_it(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("trial")
    store.append(folder, attempt(1))
    store.append(folder, epoch(0))
    path, before = folder / "events.jsonl", store.events(folder)
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= 1 << bit
    path.write_bytes(damaged)
    left, lost = store.read_events(folder)
    known = [{k: v for k, v in event.items() if k in ("time", *attempt(1), *epoch(0))} for event in left]
    assert all(event in before for event in known)  # a checksum that lost its name counts as one of no version
    assert len(left) == 2 or lost


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_a_record_with_a_flipped_bit_is_as_good_as_gone(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("trial") / "trial.json"
    record = {
        "number": 3,
        "params": {"rate": 0.1, "nan": float("inf")},
        "text": "\udc80 \u2028",
        "list": [1, {"a": None}],
    }
    store.write_json(path, record)
    assert store.read_json(path) == record
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= 1 << bit
    path.write_bytes(damaged)
    found = store.read_json(path)
    assert found is None or {k: v for k, v in found.items() if k in record} == record


@pytest.mark.parametrize(
    "changed",
    [
        {"time": None},
        {"time": "1"},
        {"time": float("nan")},
        {"time": 1e300},
        {"epoch": "0"},
        {"epoch": None},
        {"epoch": True},
        {"epoch": -1},
        {"metrics": None},
        {"metrics": {"loss": "low"}},
        {"event": ["epoch"]},
        {"event": "attempt"},
        {"event": "attempt", "attempt": "x", "slot": "cpu"},
        {"event": "attempt", "attempt": 1, "slot": "cpu", "devices": 7},
        {"event": "verdict"},
        {"event": "started"},
        {"event": "finished"},
        {"event": "finished", "state": "BOGUS"},
        {"event": "finished", "state": "COMPLETE", "attributes": 3},
    ],
)
def test_a_line_of_an_older_version_that_lacks_what_its_kind_has_is_a_torn_one(tmp_path, changed):
    whole = {"time": 1.0, "event": "epoch", "epoch": 0, "metrics": {"loss": 1.0}}
    lines = [whole | changed, whole]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert store.read_events(tmp_path) == ([whole], 1)


def test_a_changed_figure_is_no_figure(tmp_path):
    store.append(tmp_path, epoch(0))
    store.append(tmp_path, epoch(1))
    path = tmp_path / "events.jsonl"
    path.write_text(path.read_text().replace('"loss": 1.0', '"loss": 9.0'))
    assert store.read_events(tmp_path) == (store.events(tmp_path), 1)
    assert [e["epoch"] for e in store.epochs(tmp_path)] == [0]
