"""The CNN spaces are the notebooks' networks, layer by layer, and are trained as the notebooks trained them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import layer_outputs

from spaces import RandomDraws, Replay, declared, find
from spaces._recipe import AUGMENTATIONS
from spaces.datasets import DataSpec, describe

NAMES = ("cnn_mnist", "cnn_lab_cifar10", "cnn_fashion_mnist", "cnn_digits")


def baselines(name):
    return {b.name: dict(b.config) for b in find(name).baselines}


def layers(name, config, data=None):
    """The network as a person would write it, without the input and its scaling."""
    space = find(name)
    said = []
    for layer in space.build(config, data or describe(space.dataset)).layers[2:]:
        kind = type(layer).__name__
        if kind == "Conv2D":
            said.append(f"conv {layer.filters} {layer.kernel_size[0]}")
        elif kind == "Dense":
            said.append(f"dense {layer.units}")
        elif kind == "Resizing":
            said.append(f"resize {layer.height}")
        elif kind == "Dropout":
            said.append(f"dropout {layer.rate:g}")
        else:
            said.append({"MaxPooling2D": "pool", "BatchNormalization": "norm", "Flatten": "flatten"}[kind])
    return ", ".join(said)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "network_1",
            "conv 32 3, conv 64 3, pool, dropout 0.25, conv 128 3, pool, flatten, dense 128, dropout 0.5, dense 10",
        ),
        ("network_2", "conv 32 3, conv 64 3, pool, dropout 0.25, flatten, dense 128, dropout 0.5, dense 10"),
        (
            "network_3",
            "conv 128 3, conv 64 5, pool, conv 32 3, norm, pool, flatten, dense 128, dense 32, norm, dense 10",
        ),
        (
            "network_4",
            "conv 64 3, pool, conv 32 5, dropout 0.25, conv 16 3, pool, dropout 0.4, norm, flatten, dense 64, dense 10",
        ),
        ("network_5", "conv 64 3, pool, conv 32 5, pool, dropout 0.4, norm, flatten, dense 64, dense 10"),
    ],
)
def test_the_five_networks_of_the_mnist_table_are_in_the_space(name, text):
    config = baselines("cnn_mnist")[name]
    assert layers("cnn_mnist", config) == text
    recipe = find("cnn_mnist").recipe(config)
    assert recipe.batch_size == 512
    assert (recipe.optimizer, recipe.learning_rate) == (("adam", 0.001) if name == "network_3" else ("adadelta", 1.0))


@pytest.mark.parametrize(("name", "count"), [("conv_2", 25_770), ("conv_2_dense", 108_440), ("conv_4_dense", 31_192)])
def test_the_laborations_networks_have_its_parameters(name, count):
    space = find("cnn_lab_cifar10")
    config = baselines("cnn_lab_cifar10")[name]
    assert space.build(config, describe("cifar10")).count_params() == count == space.params(config, describe("cifar10"))


def test_the_laboration_trains_on_a_fifth_with_pixels_from_minus_one_to_one():
    import keras

    space = find("cnn_lab_cifar10")
    assert space.images == (7_500, 2_500)
    config = baselines("cnn_lab_cifar10")["augmented"]
    assert space.recipe(config).augmentation == "turn_flips"
    turned = AUGMENTATIONS["turn_flips"]
    assert (turned.rotation, turned.flip, turned.upside_down, turned.shift) == (30.0, True, True, 0.0)
    assert space.recipe(baselines("cnn_lab_cifar10")["class_weights"]).balanced
    scaled = keras.Model(*[(m := space.build(config, describe("cifar10"))).input, m.get_layer("signed").output])
    image = np.stack([np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)])
    assert np.allclose(np.asarray(scaled(image))[:, 0, 0, 0], [-1, 1])


def test_adadelta_has_no_learning_rate_to_draw():
    space = find("cnn_mnist")
    assert declared(space)["learning_rate"].conditions == (("optimizer", ("adam", "rmsprop", "sgd")),)
    drawn = [space.sample(RandomDraws(seed, {"optimizer": "adadelta"})) for seed in range(20)]
    assert not any("learning_rate" in config for config in drawn)
    assert {space.recipe(config).learning_rate for config in drawn} == {1.0}


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=6, deadline=None)
def test_the_formulas_equal_kerass_counts_for_random_configurations(name, seed):
    space, data = find(name), describe(find(name).dataset)
    config = space.sample(RandomDraws(seed))
    model = space.build(config, data)
    assert model.count_params() == space.params(config, data)
    assert layer_outputs(model) == space.activations(config, data)


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_a_space_draws_fits_its_images(name):
    space, data = find(name), describe(find(name).dataset)
    from spaces.models import stack

    module = __import__(f"spaces.{name}", fromlist=["network"])
    for seed in range(300):
        assert stack.least_side(module.network(space.sample(RandomDraws(seed))), data) >= 1


def test_the_notebooks_configurations_are_points_of_their_spaces():
    for name in NAMES:
        for baseline in find(name).baselines:
            assert find(name).sample(Replay(baseline.config)) == dict(baseline.config)


def images_of(side, classes):
    """The facts of a dataset of colour images."""
    names = tuple(map(str, range(classes)))
    plain = (1.0, 1.0, 1.0)
    return DataSpec("some", (side, side, 3), classes, names, plain, plain, "", 1, 1, 1)


@pytest.mark.parametrize(("name", "count"), [("notebook", 76_210_032), ("kernel_11", 78_569_328)])
def test_alexnet_has_the_notebooks_parameters(name, count):
    config, data = baselines("alexnet_imagenet")[name], images_of(64, 200)
    assert find("alexnet_imagenet").params(config, data) == count
    assert find("alexnet_imagenet").build(config, data).count_params() == count


def test_alexnets_layers_are_the_notebooks():
    assert layers("alexnet_imagenet", baselines("alexnet_imagenet")["notebook"], images_of(64, 200)) == (
        "resize 224, conv 96 11, pool, conv 256 5, pool, conv 384 3, conv 384 3, conv 256 3, pool, flatten, "
        "dense 4096, dropout 0.4, dense 4096, dropout 0.4, dense 1000, dropout 0.4, dense 200"
    )


def test_the_plain_network_on_imagenet_is_the_notebooks():
    config = baselines("cnn_imagenet32")["notebook"]
    assert layers("cnn_imagenet32", config, images_of(32, 200)) == (
        "conv 64 3, conv 64 3, pool, dropout 0.25, conv 256 3, conv 256 3, pool, dropout 0.24, conv 128 3, "
        "conv 128 3, pool, dropout 0.25, flatten, dense 256, dropout 0.35, dense 512, dropout 0.24, dense 200"
    )
    assert find("cnn_imagenet32").recipe(config).optimizer == "adamax"


@pytest.mark.parametrize(("name", "side"), [("alexnet_imagenet", 64), ("cnn_imagenet32", 32)])
def test_the_formulas_of_the_larger_networks_equal_kerass_counts(name, side):
    space, data = find(name), images_of(side, 200)
    for seed in range(4):
        config = space.sample(RandomDraws(seed, dict(space.cut.narrow)))
        model = space.build(config, data)
        assert model.count_params() == space.params(config, data)
        assert layer_outputs(model) == space.activations(config, data)


def test_the_network_on_cifar100_has_the_parameters_of_the_formula():
    assert find("densenet_cifar100").params(baselines("densenet_cifar100")["notebook"], images_of(32, 100)) == 5_652_005
