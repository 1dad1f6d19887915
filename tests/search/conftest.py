"""Two real studies to damage and to delete, one done, one interrupted; and a registry with real models."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import apart, champion, environment

pytest.register_assert_rewrite("damage")

FEW = ("filters=8,16", "conv_layers=1", "--keep", "2", "--max-params", "12000", "--trials", "6", "--epochs", "3")
SLOW = ("filters=32", "conv_layers=2", "batch_size=16", "--epochs", "60", "--pruner", "none", "--trials", "3")


@pytest.fixture(scope="session")
def damageable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untouched home, `pristine`, of the studies `done` and `paused`; `support.afresh` copies it.

    What a mender imports is imported here once, before it is forked off.
    """

    import search.reconcile
    import search.remove  # noqa: F401

    folder = tmp_path_factory.mktemp("damageable")
    begin = [sys.executable, "-m", "search", "run", "cnn_digits", "--slots", "2"]
    env = environment(folder / "home")
    ran = subprocess.run(
        [*begin, *FEW, "--study", "done"], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    with (folder / "paused.log").open("wb") as log:
        process = subprocess.Popen([*begin, *SLOW, "--study", "paused"], cwd=folder, env=env, stdout=log, stderr=log)
    events = folder / "home" / "studies" / "paused" / "trial-0000" / "events.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not events.is_file() or events.read_text().count('"epoch"') < 4):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130, (folder / "paused.log").read_text()
    shutil.copytree(folder / "home", folder / "pristine")
    return folder


PACKAGE = """
import json, sys
from pathlib import Path
import keras
import numpy as np
from tracking import packaging

for folder, metadata in json.loads(sys.argv[1]):
    keras.utils.set_random_seed(1)
    network = keras.Sequential([
        keras.Input((8, 8, metadata.pop("channels")), dtype="uint8"),
        keras.layers.Normalization(mean=120.0, variance=4000.0),
        keras.layers.Conv2D(6, 3, padding="same", activation="relu"), keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5), keras.layers.MaxPooling2D(), keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax", dtype="float32"),
    ])
    images = np.random.default_rng(0).integers(0, 256, (4, *network.input_shape[1:])).astype(np.uint8)
    packaging.save(network, Path(folder), example=images, requirements=packaging.environment_versions(), config={},
                   metadata=metadata)
    np.savez(Path(folder).parent / "expected.npz", images=images, probabilities=network.predict(images, verbose=0))
"""
CLASS_NAMES = ("plane", "[bold]car", "bird", "cat", "deer", "dog", "frog", "a horse", "ship, big", "lorry")


@dataclass(frozen=True)
class Registry:
    """A home with registered models: `net` and `old`, packaged under TensorFlow, and `jax-net`, under JAX.

    `old` is as an older program left it: it notes neither classes nor backend, and takes grey images. `images` and
    `probabilities` are those of `net`; `files` is its folder in the artifact store.
    """

    home: Path
    uri: str
    files: Path
    images: Any
    probabilities: Any


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    import numpy as np

    from tracking import quiet

    quiet.prepare()
    import mlflow.models  # noqa: F401  # once, before commands are forked off

    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder / 'home' / 'mlflow.db'}"
    noted = {"dataset": "cifar10", "class_names": CLASS_NAMES}
    made: dict[str, dict[str, dict[str, Any]]] = {
        "tensorflow": {"net": {"channels": 3, "backend": "tensorflow", **noted}, "old": {"channels": 1}},
        "jax": {"jax-net": {"channels": 3, "backend": "jax", **noted}},
    }
    ids = {}
    for backend, models in made.items():
        asked = [(str(folder / name / "model"), metadata) for name, metadata in models.items()]
        done = subprocess.run(
            [sys.executable, "-c", PACKAGE, json.dumps(asked)],
            env=environment(folder / "home", KERAS_BACKEND=backend, JAX_PLATFORMS="cpu"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        for name in models:
            ids[name] = apart(partial(champion, uri, folder / "home", folder / name / "model", name))
    with np.load(folder / "net" / "expected.npz") as expected:
        files = next(p.parent for p in (folder / "home" / "artifacts").rglob("MLmodel") if ids["net"] in p.parts)
        return Registry(folder / "home", uri, files, expected["images"], expected["probabilities"])
