"""The write-ahead record: what is torn is left out, and nothing after it is lost."""

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
