"""KerasTuner models are trained as they are, stopped and gone on with exactly, kept behind raw images, and searched."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import environment, fetched, trial_spec

from spaces import find
from spaces.datasets import TrainingData, describe, load

STRANGERS = Path(__file__).parents[1] / "strangers.py"
TIMING = {"seconds", "images_per_second", "data_wait"}


@pytest.fixture(scope="module")
def keras() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
        import keras_tuner  # noqa: F401
    gc.freeze()  # each session that is cleared looks through all that is in memory
    return keras


@pytest.fixture(scope="module")
def arrays() -> TrainingData:
    return load("digits", fetched("digits"), seed=0, train_limit=200, validation_limit=60)


def training(keras: Any, folder: Path, arrays: TrainingData, name: str, config: dict[str, Any], **said: Any) -> Any:
    """A trial of a stranger's model, as a worker makes it."""
    from search.trial.hypermodel import HyperTraining

    data = said.pop("data", describe("digits"))
    reference = f"{STRANGERS}:{name}"
    spec = trial_spec(folder, space=reference, dataset="digits", config=config, **{"epochs": 4, "seed": 3, **said})
    return HyperTraining(find(reference, "digits", alone=True), spec, data, arrays)


def told(trained: Any) -> tuple[Any, ...]:
    """All that must be the same."""
    history = [{k: v for k, v in record.items() if k not in TIMING} for record in trained.history]
    return history, [np.array(w).tobytes() for w in trained.model.get_weights()], trained.stops()


EXACT: dict[str, dict[str, Any]] = {
    "Trained": {"units": 16, "optimizer": "adam", "batch_size": 48, "epochs": 4},
    "averaged": {"units": 8},
    "own_step": {"units": 8},
    "Shuffled": {"units": 8, "shuffle": False},
    "loop": {"layers": 1, "units_0": 8, "activation": "relu", "dropout": True, "rate": 0.5, "learning_rate": 0.01},
}


long = pytest.mark.long


@pytest.mark.parametrize("name", ["Trained", *(pytest.param(name, marks=long) for name in list(EXACT)[1:])])
def test_training_stopped_and_gone_on_with_equals_training_in_one_go(
    keras: Any, tmp_path: Path, arrays: TrainingData, name: str
) -> None:
    from search.trial import checkpoints

    whole = training(keras, tmp_path, arrays, name, EXACT[name])
    for _ in range(4):
        whole.epoch()
    for epochs in (3, 1):
        part = training(keras, tmp_path, arrays, name, EXACT[name])
        for path in checkpoints.files(tmp_path)[:1]:
            part.restore(checkpoints.read(path), most_epochs=3)
        for _ in range(epochs):
            part.epoch()
        checkpoints.write(tmp_path, part.snapshot())
    assert told(part) == told(whole)
    if name == "Trained":
        assert len({record["learning_rate"] for record in whole.history}) > 1, "a callback lowered it"


def test_a_callback_that_ends_training_ends_it_again_after_a_restore(
    keras: Any, tmp_path: Path, arrays: TrainingData
) -> None:
    config = EXACT["Trained"] | {"optimizer": "sgd", "epochs": 6}
    trained = training(keras, tmp_path, arrays, "Trained", config, epochs=9)
    assert trained.most == 6, "its own"
    trained.model.optimizer.learning_rate.assign(0.0)  # nothing gets better
    while not trained.stops():
        trained.epoch()
    assert len(trained.history) == 3
    again = training(keras, tmp_path, arrays, "Trained", config, epochs=9)
    again.restore(trained.snapshot(), most_epochs=3)
    assert again.stops()


def test_what_is_trained_is_what_keras_trains(keras: Any, tmp_path: Path, arrays: TrainingData) -> None:
    import keras_tuner
    import strangers

    trained = training(keras, tmp_path, arrays, "Shuffled", EXACT["Shuffled"])
    trained.epoch()
    trained.epoch()
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    hp = keras_tuner.HyperParameters()
    hp.values = dict(EXACT["Shuffled"])
    hypermodel = strangers.Shuffled()
    model = hypermodel.build(hp)
    x, x_val = (a[0].astype("float32") / 255 for a in (arrays.train_arrays(), arrays.validation_arrays()))
    y, y_val = (np.eye(10)[a[1]] for a in (arrays.train_arrays(), arrays.validation_arrays()))
    history = hypermodel.fit(hp, model, x, y, validation_data=(x_val, y_val), epochs=2, verbose=0).history
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [r[name] for r in trained.history] == pytest.approx(history[name], rel=1e-4)
    for ours, theirs in zip(trained.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_callback_of_its_own_hears_what_keras_would_tell_it_and_is_never_restored(
    keras: Any, tmp_path: Path, arrays: TrainingData
) -> None:
    from search.trial.checkpoints import Unusable

    trained = training(keras, tmp_path, arrays, "WithOwnCallback", {"units": 8})
    heard = trained.call.callbacks[0].heard
    heard.clear()
    trained.epoch()
    trained.epoch()
    trained.finish()
    batches = [("batch", ["accuracy", "loss"])] * 7
    epochs = [(n, ["accuracy", "loss", "val_accuracy", "val_loss"]) for n in (0, 1)]
    assert heard == ["begin", *batches, epochs[0], *batches, epochs[1], "end"]
    with pytest.raises(Unusable, match="keeps no state of Told"):
        training(keras, tmp_path, arrays, "WithOwnCallback", {"units": 8}).restore(trained.snapshot(), most_epochs=2)


def test_a_metric_that_is_the_accuracy_by_another_name_is_known_as_it(
    keras: Any, tmp_path: Path, arrays: TrainingData
) -> None:
    record = training(keras, tmp_path, arrays, "averaged", {"units": 8}).epoch()
    assert record["val_accuracy"] == record["val_acc"]
    with pytest.raises(ValueError, match="the model has no val_accuracy, by which this study compares"):
        training(keras, tmp_path, arrays, "no_accuracy", {"units": 8}).epoch()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Trained", EXACT["Trained"]),  # logits
        pytest.param("own_step", {"units": 8}, marks=long),  # a class of a user's own around its layers
        pytest.param("sigmoids", {}, marks=long),  # what sums up to anything
        pytest.param("two_classes", {"units": 4}, marks=long),  # one number
        pytest.param("Normalised", {"units": 8, "normalise": True}, marks=long),
    ],
)
def test_what_is_kept_takes_raw_images_and_gives_the_probabilities_of_what_was_trained(
    keras: Any, tmp_path: Path, arrays: TrainingData, name: str, config: dict[str, Any]
) -> None:
    from search.trial import served
    from spaces import _contract

    data = describe("digits")
    if name == "two_classes":
        data, arrays = replace(data, classes=2), replace(arrays, y=np.asarray(arrays.y) % 2)
    trained = training(keras, tmp_path, arrays, name, config, data=data)
    trained.epoch()
    network = trained.best_network()
    _contract.check(network, data)
    assert _contract.foreign(network) == []
    network.save(tmp_path / "model.keras")
    images = arrays.validation_arrays()[0]
    loaded = served.load_file(tmp_path / "model.keras")
    assert loaded.input.dtype == "uint8"
    probabilities = served.probabilities(loaded, images)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    outputs = trained.model.predict(images.astype("float32") / 255, verbose=0)
    best = outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).astype(int)
    assert (probabilities.argmax(axis=1) == best).all()


def test_a_model_whose_images_fit_changes_trains_and_is_not_kept(
    keras: Any, tmp_path: Path, arrays: TrainingData
) -> None:
    from search.trial.raw import NotServable

    trained = training(keras, tmp_path, arrays, "Cropped", {"side": 6, "units": 8})
    assert trained.epoch()["val_accuracy"] >= 0
    with pytest.raises(NotServable, match="cannot be put behind raw images") as raised:
        trained.best_network()
    assert "\n" not in str(raised.value)


@long
def test_images_too_many_to_be_handed_over_at_once_are_read_batch_by_batch_to_the_same_figures(
    keras: Any, tmp_path: Path, arrays: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from search.trial import hypermodel, stream

    config = EXACT["loop"] | {"dropout": False}
    small = training(keras, tmp_path, arrays, "loop", config)
    small.epoch()
    monkeypatch.setattr(stream, "LARGE", 100)
    large = training(keras, tmp_path, arrays, "loop", config)
    large.epoch()
    assert "data_wait" in large.history[0]
    assert told(large) == told(small)
    monkeypatch.setattr(hypermodel, "MOST_BYTES", 10_000)
    training(keras, tmp_path, arrays, "loop", config)
    with pytest.raises(ValueError, match="its fit.. is handed all images at once"):
        training(keras, tmp_path, arrays, "Shuffled", EXACT["Shuffled"])


def test_a_whole_search_over_a_users_model_is_typed_as_for_a_space_of_ours(cli: Any, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    refused = cli("run", f"{STRANGERS}:Trained", **env)
    assert refused.returncode == 2
    assert "Trained brings no images: say which with --dataset" in refused.stderr
    typed = ["units=8", "--dataset", "digits", "--trials", "1", "--epochs", "2", "--train-images", "100"]
    ran = cli("run", f"{STRANGERS}:Trained", *typed, "--study", "s", **env)
    assert ran.returncode == 0, ran.stderr
    assert "sparse labels, loss SparseCategoricalCrossentropy, optimizer Adam, batches of 48" in ran.stderr
    assert "compared by right on validation images" in ran.stderr
    assert "s: 1 complete" in ran.stdout
    shown = json.loads(cli("best", "s", "--json", **env).stdout)
    assert json.dumps(shown).count('"units": 8') == 1


# ---- at length

JAX = """
import sys
sys.path[:0] = sys.argv[1:3]
import pytest
sys.exit(pytest.main(["-n", "0", "-q", "-x", "-m", "long or not long", sys.argv[3], "-k",
                      "equals_training_in_one_go and not own_step"]))
"""


@long
def test_it_is_exact_under_jax_as_well(tmp_path: Path) -> None:
    env = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", JAX, str(root), str(root / "tests"), __file__],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


GUIDES = ("loop", "plain_if", "Shuffled", "Normalised", "Cropped", "Scored", "Compiling", "every_kind", "own_step")


@long
@pytest.mark.parametrize("name", GUIDES)
def test_what_kerastuners_guides_show_runs(cli: Any, name: str) -> None:
    typed = ["--dataset", "digits", "--trials", "2", "--epochs", "2", "--train-images", "100", "--study", "s"]
    ran = cli("run", f"{STRANGERS}:{name}", *typed)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert "s: 2 complete" in ran.stdout
    assert ("its model is not kept" in ran.stderr) == (name == "Cropped"), ran.stderr


@long
def test_what_fails_is_passed_over_and_what_must_not_go_on_ends_the_search(cli: Any) -> None:
    typed = ["--dataset", "digits", "--epochs", "1", "--train-images", "100", "--sampler", "random"]
    ran = cli("run", f"{STRANGERS}:too_large", *typed, "--trials", "4", "--study", "some")
    assert "passed over" in ran.stderr
    assert "ValueError: too large" in ran.stderr
    assert "some: 2 complete" in ran.stdout, ran.stdout
    assert "exhausted" in ran.stdout + ran.stderr
    ended = cli("run", f"{STRANGERS}:ending", *typed, "--trials", "4", "--study", "ended")
    assert "the model's build() ended the search: FatalError: this must not go on" in ended.stdout + ended.stderr, (
        ended.stdout + ended.stderr
    )


@long
def test_a_users_model_is_promoted_predicts_is_trained_again_and_deleted(cli: Any, tmp_path: Path) -> None:
    from PIL import Image

    typed = ["--dataset", "digits", "--trials", "3", "--study", "s", "optimizer=adam"]
    assert cli("run", f"{STRANGERS}:Trained", *typed).returncode == 0
    promoted = cli("promote", "s")
    assert promoted.returncode == 0, promoted.stderr + promoted.stdout
    assert "Trained version 1 is champion" in promoted.stdout
    x, y = load("digits", fetched("digits"), seed=0).validation_arrays()
    for number in range(20):
        Image.fromarray(x[number][:, :, 0]).save(tmp_path / f"{number}.png")
    said = json.loads(cli("predict", "Trained@champion", *(f"{n}.png" for n in range(20)), "--json").stdout)
    right = sum(each["top"][0]["class"] == y[n] for n, each in enumerate(said["images"]))
    assert right > 10
    again = cli("reproduce", "Trained@champion")
    assert "reproduced bit for bit" in again.stdout, again.stdout
    assert "goes on: 3 of 4" in cli("resume", "s", "--trials", "4").stderr
    assert cli("repeat", "s", "--top", "1", "--seeds", "2").returncode == 0
    deleted = cli("delete", "s", "--yes")
    assert "s is deleted: 5 runs" in deleted.stdout, deleted.stdout


@long
def test_a_killed_study_of_a_users_model_goes_on_to_the_same_weights(tmp_path: Path, cli: Any, home: Path) -> None:
    import signal
    import time

    command = [sys.executable, "-m", "search", "run", f"{STRANGERS}:loop", "layers=1", "units_0=8", "dropout=true"]
    typed = ["--dataset", "digits", "--trials", "1", "--epochs", "60", "--pruner", "none", "--keep", "all"]
    events = home / "studies" / "killed" / "trial-0000" / "events.jsonl"
    process = subprocess.Popen([*command, *typed, "--study", "killed"], cwd=tmp_path, env=environment(home))
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and (not events.is_file() or events.read_text().count('"epoch"') < 12):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait(120)
    assert cli("resume", "killed").returncode == 0
    assert cli(*command[3:], *typed, "--study", "whole").returncode == 0
    histories = []
    for study in ("killed", "whole"):
        lines = (home / "studies" / study / "trial-0000" / "events.jsonl").read_text().splitlines()
        epochs = [e for e in map(json.loads, lines) if e["event"] == "epoch"]
        kept = ("loss", "val_loss", "accuracy", "val_accuracy", "learning_rate")
        histories.append([[e["metrics"][name] for name in kept] for e in epochs])
    assert histories[0] == histories[1]
    assert '"attempt": 2' in events.read_text() or events.read_text().count('"attempt"') > 1


@long
def test_the_readmes_kerastuner_model_runs_as_it_is_typed_there(cli: Any, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    text = re.search(r"<!-- kerastuner: my_model.py -->\n```python\n(.*?)```", readme, flags=re.DOTALL)
    block = re.search(r"<!-- kerastuner: commands -->\n\n((?:    .*\n)+)", readme)
    assert text
    assert block
    (tmp_path / "my_model.py").write_text(text[1])
    for line in block[1].splitlines():
        done = cli(*line.split()[3:])
        assert done.returncode == 0, f"{line}: {done.stderr}{done.stdout}"
