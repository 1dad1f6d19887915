"""A checkpoint is exactly what was written, or it is passed over."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.trial import checkpoints
from search.trial.checkpoints import Snapshot, Unusable
from search.trial.keeper import SHARE, Keeper


def snapshot(epochs, scale=1.0):
    draw = np.random.default_rng(epochs)
    return Snapshot(
        config_hash="abc",
        variables=[draw.normal(size=(3, 4)).astype("float32") * scale, np.array([1, 2], "uint32")],
        best=[draw.normal(size=(3, 4)).astype("float32")],
        history=tuple({"loss": float(e) / 3, "val_loss": float("inf")} for e in range(epochs)),
    )


def same(one, other):
    pairs = zip([*one.variables, *one.best], [*other.variables, *other.best], strict=True)
    return (
        one.config_hash == other.config_hash
        and list(one.history) == list(other.history)
        and all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return checkpoints.write(tmp_path_factory.mktemp("written"), snapshot(12)).read_bytes()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "checkpoint-00012.npz"


def test_what_was_written_is_read_back_to_the_bit(tmp_path):
    path = checkpoints.write(tmp_path, snapshot(12))
    assert path.name == "checkpoint-00012.npz"
    assert same(checkpoints.read(path), snapshot(12))
    with np.load(path) as plain:
        assert plain["v00000"].shape == (3, 4), "numpy alone opens it"


def test_half_precision_is_read_back_to_the_bit(tmp_path):
    import ml_dtypes

    half = Snapshot("h", [np.arange(5, dtype=ml_dtypes.bfloat16)], [], ({"loss": 1.0},))
    assert same(checkpoints.read(checkpoints.write(tmp_path, half)), half)


@settings(max_examples=300, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_flipped_byte_anywhere_is_noticed(written, damaged, where, mask):
    data = bytearray(written)
    data[int(where * len(data))] ^= mask
    damaged.write_bytes(data)
    with pytest.raises(Unusable):
        checkpoints.read(damaged)


@settings(max_examples=100, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_torn_file_is_noticed(written, damaged, cut):
    damaged.write_bytes(written[: int(cut * len(written))])
    with pytest.raises(Unusable):
        checkpoints.read(damaged)


def test_a_file_under_another_files_name_is_noticed(tmp_path):
    path = checkpoints.write(tmp_path, snapshot(3))
    with pytest.raises(Unusable, match="it holds 3 epochs"):
        checkpoints.read(path.rename(tmp_path / "checkpoint-00004.npz"))


def test_the_two_newest_are_kept_and_those_passed_over_are_replaced(tmp_path):
    for epochs in (1, 2, 9, 3, 4):
        checkpoints.write(tmp_path, snapshot(epochs))
    (tmp_path / "checkpoint-00007.part").write_bytes(b"torn")
    checkpoints.write(tmp_path, snapshot(5))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["checkpoint-00004.npz", "checkpoint-00005.npz"]
    assert [checkpoints.epochs_of(p) for p in checkpoints.files(tmp_path)] == [5, 4]


def test_removing_leaves_nothing_of_any_age(tmp_path):
    checkpoints.write(tmp_path, snapshot(5))
    for name in ("checkpoint.npz", "checkpoint.part", "checkpoint-00009.part", "events.jsonl"):
        (tmp_path / name).touch()
    checkpoints.remove(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["events.jsonl"]
    checkpoints.remove(tmp_path)


class Trained:
    """What a Keeper asks of a training."""

    def __init__(self, size):
        self.history, self.array = [], np.zeros(size // 4, "float32")
        self.size = size

    def snapshot(self):
        return Snapshot("h", [np.array(self.array)], [], tuple(self.history))


@pytest.mark.parametrize("cost", [0.004, 0.1], ids=["cheap", "dear"])
def test_copies_and_files_cost_a_fiftieth_of_training_time(tmp_path, cost):
    # Every look at the clock finds it `cost` later: that long takes a copy, and that long a file.
    training, keeper, written, overrun = Trained(4_000), Keeper(tmp_path, clock=count(0.0, cost).__next__), [], 0
    for _ in range(200):
        training.history.append({"loss": 0.0})
        keeper.acknowledged(training, 0.5, must=False)
        written.append(keeper.on_disk)
        overrun += keeper.spent > SHARE * keeper.trained
    assert keeper.spent <= SHARE * keeper.trained
    assert written[0] == 0, "the first is foreseen to cost more than an epoch allows"
    assert len(set(written)) > 3
    assert overrun == 0 or cost == 0.1, "only a cost that was not foreseen is made up for afterwards"


def test_a_checkpoint_that_is_asked_for_is_written_whatever_it_costs(tmp_path):
    training, keeper = Trained(400), Keeper(tmp_path)
    training.history.append({"loss": 0.0})
    keeper.acknowledged(training, 0.0, must=False)
    assert (keeper.write(), checkpoints.files(tmp_path)) == (0, [])
    keeper.save(training)
    assert keeper.write() == 1
    training.history.append({"loss": 0.0})
    keeper.acknowledged(training, 0.0, must=True)
    assert [checkpoints.epochs_of(p) for p in checkpoints.files(tmp_path)] == [2, 1]


def test_a_checkpoint_that_cannot_be_written_costs_the_trial_nothing_and_is_told(tmp_path):
    training, keeper = Trained(400), Keeper(tmp_path / "gone")
    training.history.append({"loss": 0.0})
    keeper.acknowledged(training, 0.0, must=True)
    assert keeper.on_disk == 0
    assert "checkpoint of epoch 1 could not be written" in keeper.trouble


def test_nothing_is_written_once_a_trial_is_over(tmp_path):
    training, keeper = Trained(400), Keeper(tmp_path)
    training.history.append({"loss": 0.0})
    keeper.acknowledged(training, 100.0, must=False)
    checkpoints.remove(tmp_path)
    keeper.close()
    keeper.on_disk = 0
    assert (keeper.write(), checkpoints.files(tmp_path)) == (0, [])
