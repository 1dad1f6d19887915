"""Training is one seeded epoch at a time: it can be stopped after any epoch and go on as if it had not been."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from search.trial.train import epoch_order, even_batch

RUN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from search.trial import checkpoints
from search.trial.keeper import Keeper
from search.trial.spec import TrialSpec
from search.trial.train import Training
from spaces import find
from spaces.datasets import describe, load, prepare
import keras
space, home = find("cnn_digits"), Path(sys.argv[1])
data_folder = prepare("digits", cache=home / "data")
config = dict(space.baselines[0].config) | {"dropout": 0.3, "augmentation": "flip_shift", "schedule": "cosine"}
arrays = load("digits", data_folder, seed=0, train_limit=320, validation_limit=100)
timing = ("seconds", "images_per_second")

def train(folder, stops, damage):
    folder.mkdir()
    notes = []
    spec = TrialSpec(study="s", number=0, attempt=1, space="cnn_digits", config=config, config_hash="h",
                     data_folder=str(data_folder), data_seed=0, train_limit=320, validation_limit=100, epochs=4,
                     milestones=(), patience=0, seed=7, metric="val_accuracy", direction="maximize",
                     precision="float32", folder=str(folder))
    for stop in stops:
        training = Training(space, spec, describe("digits"), arrays)
        for path in checkpoints.files(folder):
            if checkpoints.epochs_of(path) in damage:
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 1
                path.write_bytes(data)
            try:
                training.restore(checkpoints.read(path), most_epochs=stop)
            except checkpoints.Unusable as error:
                notes.append(f"{path.name}: {error}")
                continue
            break
        keeper = Keeper(folder, epochs=len(training.history))
        notes.append(len(training.history))
        while len(training.history) < stop:
            training.epoch()
            keeper.acknowledged(training, 0.0, must=True)
    good, before = training.snapshot(), [w.tobytes() for w in training.network.get_weights()]
    last = len(good.variables) - 1
    for wrong in (
        replace(good, config_hash="other"),
        replace(good, variables=good.variables[:-1]),
        replace(good, variables=[v + 1 if i < last else v[None] for i, v in enumerate(good.variables)]),
        replace(good, variables=[v + 1 if i < last else v.astype("float16") for i, v in enumerate(good.variables)]),
        replace(good, best=[]),
        replace(good, history=[*good.history, good.history[-1]]),
    ):
        try:
            training.restore(wrong, most_epochs=stop)
            notes.append("taken")
        except checkpoints.Unusable:
            assert [w.tobytes() for w in training.network.get_weights()] == before
    files = [path.name for path in checkpoints.files(folder)]
    history = [{k: v for k, v in record.items() if k not in timing} for record in training.history]
    weights = [w.astype("float64").sum() for w in training.network.get_weights()]
    training.best_network().save(folder / "net.keras")
    kinds = sorted({type(layer).__name__ for layer in keras.models.load_model(folder / "net.keras").layers})
    return {"history": history, "weights": weights, "kinds": kinds, "notes": notes, "files": files}

cases = json.loads(sys.argv[2])
print(json.dumps([train(home / str(i), *case) for i, case in enumerate(cases)]))
"""


def trained(cases, folder, backend):
    """The outcome of each case: the epochs at which it is stopped, and the checkpoints damaged before it goes on."""
    env = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), json.dumps(cases)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.long)])
def test_training_stopped_and_restored_after_each_epoch_equals_training_in_one_go(tmp_path, backend):
    whole, parts, damaged = trained([([4], []), ([1, 3, 4], []), ([3, 4], [3])], tmp_path, backend)
    assert parts["history"] == whole["history"]
    assert parts["weights"] == whole["weights"]
    assert parts["notes"] == [0, 1, 3]
    assert parts["files"] == ["checkpoint-00004.npz", "checkpoint-00003.npz"]
    assert len({record["learning_rate"] for record in whole["history"]}) == 4
    assert not [kind for kind in whole["kinds"] if kind.startswith("Random") or kind == "ToPixels"]

    assert damaged["notes"] == [0, "checkpoint-00003.npz: it is torn or corrupt", 2]
    assert damaged["history"] == whole["history"]
    assert damaged["weights"] == whole["weights"]


def test_an_epochs_order_is_a_function_of_seed_and_epoch_and_drops_the_remainder():
    indices = np.arange(100, 205)
    first = epoch_order(1, 0, indices, 32)
    assert len(first) == 96
    assert len(set(first.tolist())) == 96
    assert set(first.tolist()) <= set(indices.tolist())
    assert (first == epoch_order(1, 0, indices, 32)).all()
    assert (first != epoch_order(1, 1, indices, 32)).any()
    assert (first != epoch_order(2, 0, indices, 32)).any()


def test_a_set_smaller_than_a_batch_is_one_batch():
    assert len(epoch_order(1, 0, np.arange(10), 32)) == 10


@pytest.mark.parametrize(("count", "batch"), [(5000, 250), (1000, 250), (288, 144), (100, 100), (283, 256)])
def test_the_validation_batch_divides_the_set_where_that_is_not_small(count, batch):
    assert even_batch(count) == batch


def test_each_class_weighs_the_same_however_rare_it_is():
    labels = np.array([0] * 6 + [1] * 3 + [3] * 1)
    from sklearn.utils.class_weight import compute_class_weight

    from search.trial.train import class_weights

    weights = class_weights(labels, 4)
    assert weights[2] == 0.0
    assert [weights[c] * np.sum(labels == c) for c in (0, 1, 3)] == pytest.approx([2.5] * 3)
    theirs = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    assert [weights[c] * 4 / 3 for c in (0, 1, 3)] == pytest.approx(list(theirs))  # theirs knows no absent class


def test_an_objective_among_the_likeliest_is_measured_and_no_other():
    from search.trial.train import _asked_for

    (metric,) = _asked_for("val_top_5_accuracy")
    assert (metric.name, metric.k) == ("top_5_accuracy", 5)
    probabilities = (np.eye(10)[[0, 1]] * 0.5 + np.linspace(0.1, 0.0, 10)).astype(np.float32)
    metric.update_state(np.array([4, 9]), probabilities)
    assert float(metric.result()) == 0.5
    assert _asked_for("val_accuracy") == _asked_for("val_loss") == []


def test_latency_is_the_median_of_single_images_after_a_warm_up():
    import keras

    from search.trial.latency import LEAST, MOST, SECONDS, WARM_UP, latency_ms

    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    beats = []

    def timed(*passes):
        """Of a network whose passes take these seconds, the last one for ever."""
        looks, now, left = 0, 0.0, list(passes)

        def clock():
            nonlocal looks, now
            if looks and looks % 2 == 0:  # once at first, then as each pass begins and ends
                now += left.pop(0) if len(left) > 1 else left[0]
            looks += 1
            return now

        beats.clear()
        return latency_ms(network, np.zeros((4, 4, 1), np.uint8), lambda phase, number: beats.append(phase), clock)

    assert timed(*[9.0] * WARM_UP, 0.5, 0.5, 0.002) == pytest.approx(2.0), "milliseconds; warming up does not count"
    assert len(beats) == WARM_UP + MOST
    assert timed(SECONDS) == pytest.approx(1000 * SECONDS)
    assert len(beats) == WARM_UP + LEAST, "a slow network is not timed for ever"
    assert set(beats) == {"measuring"}
