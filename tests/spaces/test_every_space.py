"""What every space promises, tested once for all of them."""

import json
import os
import subprocess
import sys

import pytest
from support import layer_outputs

from spaces import RandomDraws, Replay, canonical, config_hash, declared, find, names
from spaces.datasets import describe

ALL = names()
HEAVY = tuple(
    name for name in ALL if name.startswith("densenet121")
)  # seconds to build: test_pretrained_spaces has one
TWINS = ("densenet_cifar100",)  # another's network
BUILT = [pytest.param(n, marks=pytest.mark.long) if n in (*HEAVY, *TWINS) else n for n in ALL]


def runnable(config):
    """A configuration without weights that would have to be fetched."""
    return config | ({"weights": "none"} if "weights" in config else {})


def drawn(space, most):
    """Random configurations; of a heavy space only as many as it takes to meet every hyperparameter."""
    met = set()
    for seed in range(most if space.name not in HEAVY else 50):
        config = space.sample(RandomDraws(seed, _small(space)))
        if space.name in HEAVY and set(config) <= met:
            continue
        met |= set(config)
        yield runnable(config)


class Reads(dict):
    """A configuration that remembers which of its keys were read."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.read.add(key)
        return super().get(key, default)


@pytest.mark.parametrize("name", ALL)
def test_baselines_name_exactly_the_sampled_hyperparameters_and_lie_in_range(name):
    space = find(name)
    assert space.baselines
    for baseline in space.baselines:
        assert space.sample(Replay(baseline.config)) == dict(baseline.config)


@pytest.mark.parametrize("name", BUILT)
def test_every_sampled_hyperparameter_is_read(name):
    space = find(name)
    data = describe(space.dataset)
    never_read = set(declared(space))
    for config in map(Reads, drawn(space, 12)):
        space.build(config, data)
        space.recipe(config)
        assert set(config) <= config.read, f"not read: {set(config) - config.read}"
        never_read -= config.read
    assert not never_read


@pytest.mark.parametrize("name", BUILT)
def test_the_parameter_formula_equals_kerass_count(name):
    space = find(name)
    data = describe(space.dataset)
    for config in drawn(space, 5):
        assert space.build(config, data).count_params() == space.params(config, data)
        assert space.multiply_adds(config, data) > 0


@pytest.mark.parametrize("name", [name for name in ALL if name not in HEAVY])  # which have no such formula
def test_the_activation_formula_equals_the_sizes_of_kerass_outputs(name):
    space = find(name)
    data = describe(space.dataset)
    for config in drawn(space, 5):
        assert layer_outputs(space.build(config, data)) == space.activations(config, data)


@pytest.mark.parametrize("name", ALL)
def test_a_space_opens_with_its_command_cost_expected_result_and_source(name):
    text = find(name).path.read_text().split('"""')[1]
    for word in ("Command:", "Cost:", "Expected:", "Source:"):
        assert word in text


@pytest.mark.parametrize("name", ALL)
def test_a_configuration_is_plain_json_with_one_canonical_form(name):
    config = find(name).sample(RandomDraws(3))
    shuffled = dict(reversed(list(config.items())))
    assert json.loads(canonical(config)) == config
    assert canonical(config) == canonical(shuffled)
    assert config_hash(config) == config_hash(shuffled)


# What JAX compiles takes a minute where it is large; in every run it is seen on the smallest. One process trains many:
# most of the time of each would be its start.
QUICK = [n for n in ALL if n not in (*HEAVY, *TWINS)]
SEEN = [(QUICK, "tensorflow"), (["cnn_digits"], "jax")]
LATER = [([n], b) for n in ALL for b in ("tensorflow", "jax") if not any(n in many and b == on for many, on in SEEN)]


@pytest.mark.parametrize(
    ("names", "backend"), [*SEEN, *(pytest.param(*later, marks=pytest.mark.long) for later in LATER)]
)
def test_the_models_build_and_train_one_step_on_each_backend(names, backend, tmp_path):
    code = """
import sys
import keras
import numpy as np
from search.trial.spec import TrialSpec
from search.trial.train import Training
from spaces import find
from spaces.datasets import TrainingData, describe
assert keras.backend.backend() == sys.argv[2]
size = 8  # of the largest a step on a whole batch takes a minute
for name in sys.argv[3:]:
    space = find(name)
    data = describe(space.dataset)
    config = dict(space.baselines[0].config) | {"batch_size": size}
    config |= {"weights": "none"} if "weights" in config else {}
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (size + 8, *data.input_shape), dtype=np.uint8)
    y = (np.arange(size + 8) % data.classes).astype(np.uint8)
    arrays = TrainingData(x=x, y=y, train=np.arange(size), validation=np.arange(size, size + 8), digest="")
    spec = TrialSpec(study="s", number=0, attempt=1, space=name, config=config, config_hash="h", data_folder="",
                     data_seed=0, train_limit=None, validation_limit=None, epochs=1, milestones=(), patience=0, seed=1,
                     metric=space.metric, direction=space.direction, precision="float32", folder=sys.argv[1])
    record = Training(space, spec, data, arrays).epoch()
    names = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds", "images_per_second"}
    assert set(record) == names | {space.metric, space.metric.removeprefix("val_")}, (name, record)
    assert all(np.isfinite(v) for v in record.values()), (name, record)
"""
    env = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), backend, *names],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _small(space):
    return dict(space.cut.narrow) if space.cut else {}
