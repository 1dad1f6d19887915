"""A set read batch by batch: the same training to the bit, in little memory, and its errors are its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.trial import stream
from spaces.datasets import TrainingData

RUN = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
from search.trial import stream
from search.trial.spec import TrialSpec
from search.trial.train import Training
from spaces import find
from spaces.datasets import describe, load, prepare
space, home = find("cnn_digits"), Path(sys.argv[1])
folder = prepare("digits", cache=home / "data")
found = []
for large in (stream.LARGE, 0):
    for balanced in (False, True):
        stream.LARGE = large
        config = dict(space.baselines[0].config) | {"dropout": 0.3, "augmentation": "flip_shift"}
        spec = TrialSpec(study="s", number=0, attempt=1, space="cnn_digits", config=config, config_hash="h",
                         data_folder=str(folder), data_seed=0, train_limit=333, validation_limit=101, epochs=2,
                         milestones=(), patience=0, seed=7, metric="val_accuracy", direction="maximize",
                         precision="float32", folder=str(home))
        training = Training(space, spec, describe("digits"),
                            load("digits", folder, seed=0, train_limit=333, validation_limit=101))
        if balanced:
            training._class_weight = {label: 0.5 + label / 7 for label in range(10)}
        records = [training.epoch(), training.epoch()]
        waits = [record.pop("data_wait", None) for record in records]
        for record in records:
            del record["seconds"], record["images_per_second"]
        weights = b"".join(w.tobytes() for w in training.network.get_weights())
        found.append({"records": records, "weights": hashlib.sha256(weights).hexdigest(), "waits": waits})
print(json.dumps(found))
"""


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.long)])
def test_training_batch_by_batch_equals_training_from_memory_to_the_bit(tmp_path: Path, backend: str) -> None:
    env = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    plain, weighted, streamed, streamed_weighted = json.loads(done.stdout.splitlines()[-1])
    assert streamed["records"] == plain["records"]
    assert streamed["weights"] == plain["weights"]
    assert streamed_weighted["records"] == weighted["records"]
    assert streamed_weighted["weights"] == weighted["weights"] != plain["weights"]
    assert plain["waits"] == weighted["waits"] == [None, None]
    assert all(0 <= wait <= 1 for wait in streamed["waits"])


def mapped(folder: Path, count: int = 50) -> TrainingData:
    """Images whose every pixel is their number, on disk."""
    x = np.tile(np.arange(count, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 3))
    np.save(folder / "x.npy", x)
    index = np.arange(count)
    y = (np.arange(count) % 3).astype(np.uint8)
    return TrainingData(np.load(folder / "x.npy", mmap_mode="r"), y, index[:40], index[40:], "d")


@settings(max_examples=30)
@given(order=st.lists(st.integers(0, 49), min_size=1, max_size=60), size=st.integers(1, 20))
def test_every_image_comes_in_its_place_with_its_label(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], size: int
) -> None:
    arrays = mapped(tmp_path_factory.mktemp("x"))
    with stream.streamed(arrays, np.array(order), size, {0: 1.0, 1: 2.0, 2: 0.5}) as read:
        batches = list(read.batches)
    assert len(batches) == read.steps
    assert {len(x) for x, _, _ in batches[:-1]} <= {size}
    assert np.concatenate([x for x, _, _ in batches])[:, 2, 1, 0].tolist() == order
    assert np.concatenate([y for _, y, _ in batches]).tolist() == [i % 3 for i in order]
    assert np.concatenate([w for _, _, w in batches]).tolist() == [(1.0, 2.0, 0.5)[i % 3] for i in order]


def test_a_file_that_is_cut_off_is_an_error_whatever_keras_makes_of_it(tmp_path: Path) -> None:
    arrays = mapped(tmp_path)
    os.truncate(tmp_path / "x.npy", 1000)

    def use(read: Any) -> None:
        try:
            list(read.batches)
        except OSError:
            raise RuntimeError("what a framework makes of it") from None

    with pytest.raises(OSError, match="is truncated"), stream.streamed(arrays, np.arange(50), 8) as read:
        use(read)


def test_a_pass_that_is_broken_off_leaves_no_reader_behind(tmp_path: Path) -> None:
    arrays = mapped(tmp_path)
    with pytest.raises(KeyError), stream.streamed(arrays, np.arange(50), 1) as read:
        next(iter(read.batches))
        raise KeyError("stopped")
    assert "read ahead" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("large", [10**9, 100])
def test_what_is_held_in_memory_is_the_same_however_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(stream, "LARGE", large)
    arrays = mapped(tmp_path)
    x, y = stream.gathered(arrays, arrays.validation)
    assert type(x) is np.ndarray or large > 100
    assert x[:, 3, 3, 2].tolist() == arrays.validation.tolist()
    assert y.tolist() == [i % 3 for i in arrays.validation]
    assert len(stream.gathered(arrays, arrays.validation[:0])[0]) == 0


def test_only_what_is_large_and_on_disk_is_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = mapped(tmp_path)
    assert not stream.is_large(arrays, 50)
    monkeypatch.setattr(stream, "LARGE", 10 * 48)
    assert not stream.is_large(arrays, 10)
    assert stream.is_large(arrays, 11)
