"""The spaces over a pretrained network: its weights, its frozen layers, and the notebooks' settings."""

import numpy as np
import pytest

from spaces import _weights, declared, find
from spaces.datasets import describe
from spaces.errors import DatasetUnavailable
from spaces.models import densenet121

SPACE = find("densenet121_transfer_cifar10")
TINY = dict(SPACE.baselines[0].config) | {"weights": "none", "dense_layers": 0, "dropout": 0.0}


@pytest.fixture(scope="module")
def base():
    """A whole DenseNet121 without its top, random."""
    import keras

    keras.utils.set_random_seed(3)
    return keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """No weights in Keras' cache, none given, no network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv(_weights.VARIABLE, raising=False)
    return tmp_path


def test_a_file_of_weights_is_what_the_network_starts_from_and_its_first_layers_stay(base, alone, monkeypatch):
    file = alone / "mine.weights.h5"
    base.save_weights(file)
    monkeypatch.setenv(_weights.VARIABLE, str(file))
    space = find("densenet121_transfer_cifar10")
    assert declared(space)["weights"].choices == ("imagenet", "none", str(file))
    model = space.build(TINY | {"weights": str(file), "frozen_layers": 53}, describe("cifar10"))
    inner = model.get_layer("densenet121")
    assert all(np.array_equal(a, b) for a, b in zip(inner.get_weights(), base.get_weights(), strict=True))
    assert [layer.trainable for layer in inner.layers[:53]] == [False] * 53
    assert all(layer.trainable for layer in inner.layers[53:])
    assert inner.layers[52].name == "pool2_pool", "the second block begins behind it"


def test_the_layer_counts_are_those_of_keras(base):
    assert len(base.layers) - 1 == densenet121.LAYERS, "without the pooling at its end"
    ends = {count: base.layers[count - 1].name for count in densenet121.STAGES if 12 < count < densenet121.LAYERS}
    assert ends == {53: "pool2_pool", 141: "pool3_pool", 313: "pool4_pool"}


def test_imagenets_weights_that_cannot_be_had_are_one_line_that_says_what_to_do(alone, monkeypatch):
    lost = _weights.Weights("DenseNet121", "lost.h5", "http://127.0.0.1:9/lost.h5", "0" * 32)
    said = []
    with pytest.raises(DatasetUnavailable) as raised:
        _weights.ensure(("none", "imagenet"), lost, said.append)
    line = str(raised.value)
    assert "\n" not in line
    for each in (str(alone / "keras" / "models" / "lost.h5"), "SEARCH_WEIGHTS", "weights=none"):
        assert each in line
    assert said == ["fetching the ImageNet weights of DenseNet121 from http://127.0.0.1:9/lost.h5"]
    _weights.ensure(("none",), lost, said.append)
    with pytest.raises(DatasetUnavailable, match=r"SEARCH_WEIGHTS=/no/such\.h5: no such file"):
        _weights.ensure(("/no/such.h5",), lost, said.append)


def test_a_run_without_weights_says_so_before_anything_starts(cli):
    ran = cli("run", "densenet121_transfer_cifar10", "--trials", "1", KERAS_HOME="/nowhere/keras")
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    (line,) = (each for each in ran.stderr.splitlines() if each.startswith("error: "))
    assert "the ImageNet weights of DenseNet121 are not at /nowhere/keras/models/densenet121_weights" in line


def test_the_notebooks_training_set_sizes_are_a_hyperparameter():
    space = find("densenet121_finetune_cifar10")
    sizes = {b.name: space.recipe(dict(b.config)).train_size for b in space.baselines}
    assert sizes == {"swish": None, "few_adamax": 3000, "few_sgd": 3000}
