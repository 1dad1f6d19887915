"""The DenseNet space is the notebooks' network, and its formulas are Keras' own counts."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import layer_outputs

from spaces import RandomDraws, Replay, find
from spaces.datasets import describe
from spaces.models import densenet

SPACE, DATA = find("densenet_cifar10"), describe("cifar10")
BASELINES = {b.name: b for b in SPACE.baselines}


@pytest.mark.parametrize(("name", "count"), [("small", 978_260), ("large", 3_557_690), ("tiny", 37_006)])
def test_the_baselines_have_the_notebooks_parameters(name, count):
    assert SPACE.params(dict(BASELINES[name].config), DATA) == count


@given(seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_formulas_equal_kerass_counts_for_random_configurations(seed):
    config = SPACE.sample(RandomDraws(seed, {"layers_per_block": "2..5", "growth_rate": "8..20"}))
    model = densenet.build(config, DATA)
    assert model.count_params() == SPACE.params(config, DATA)
    assert layer_outputs(model) == densenet.activations(config, DATA)


@pytest.mark.parametrize(("name", "trainable"), [("small", 970_420), ("large", 3_532_210)])
def test_keras_builds_the_baselines_with_the_notebooks_trainable_parameters(name, trainable):
    model = densenet.build(dict(BASELINES[name].config), DATA)
    assert model.count_params() == SPACE.params(dict(BASELINES[name].config), DATA)
    assert sum(int(w.size) for w in (v.value.numpy() for v in model.trainable_variables)) == trainable


def test_compression_scales_the_growth_convolutions_under_reset_only():
    config = dict(BASELINES["tiny"].config) | {"compression": 0.5}
    assert densenet.shape_of(config).growth == 6
    assert densenet.shape_of(config | {"transition": "theta"}).growth == 12


def test_theta_narrows_to_a_share_of_the_channels():
    config = dict(BASELINES["tiny"].config) | {"compression": 0.5, "transition": "theta"}
    assert densenet.shape_of(config).narrowed(48) == 24


def test_only_stock_layers_take_raw_images_to_float32_probabilities():
    import keras
    import numpy as np

    model = densenet.build(dict(BASELINES["tiny"].config), DATA)
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    assert model.input.dtype == "uint8"
    out = keras.ops.convert_to_numpy(model(np.zeros((2, 32, 32, 3), np.uint8)))
    assert out.dtype == np.float32
    assert np.allclose(out.sum(axis=1), 1, atol=1e-5)


def test_the_notebooks_configurations_are_points_of_the_space():
    for baseline in SPACE.baselines:
        assert SPACE.sample(Replay(baseline.config)) == dict(baseline.config)


def test_drawing_and_counting_import_no_keras():
    code = (
        "import sys; from spaces import find, RandomDraws; from spaces.datasets import describe;"
        "s = find('densenet_cifar10');"
        "s.params(s.sample(RandomDraws(1)), describe('cifar10'));"
        "assert not {'keras', 'tensorflow', 'jax', 'mlflow', 'optuna'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
