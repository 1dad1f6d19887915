"""What a space's network must be: raw uint8 images in, the probabilities of the classes out, nothing unsafe to load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from spaces.datasets import DataSpec

TRIED, TOLERANCE = 4, 0.02  # random images, and how far from 1 their probabilities may sum up to


def check(network: Any, data: DataSpec) -> None:
    """Raises TypeError or ValueError, in words for people, where a network does not take or give what it must."""
    import keras

    if not isinstance(network, keras.Model):
        raise TypeError(f"it returned {network!r:.60}, not a Keras model")
    try:
        inputs, outputs = list(network.inputs), list(network.outputs)
    except (AttributeError, TypeError):
        inputs, outputs = [], []
    if not inputs or not outputs:
        raise TypeError(
            f"it returned a {type(network).__name__} whose inputs are not known; make a keras.Model(inputs, outputs) "
            "or a Sequential that begins with keras.Input(data.input_shape, dtype='uint8')"
        )
    if len(inputs) > 1 or len(outputs) > 1:
        raise ValueError(f"its network has {len(inputs)} inputs and {len(outputs)} outputs; it must have one of each")
    taken, given = tuple(inputs[0].shape)[1:], tuple(outputs[0].shape)[1:]
    if len(taken) != 3 or any(have not in (None, want) for have, want in zip(taken, data.input_shape, strict=True)):
        raise ValueError(f"its network takes images of {taken}, those of {data.name} are {data.input_shape}")
    if given != (data.classes,):
        raise ValueError(
            f"its network gives {given} for each image; it must give the probabilities of the {data.classes} classes "
            f"of {data.name}: end it with keras.layers.Dense(data.classes, activation='softmax')"
        )


def check_as_it_is(model: Any, data: DataSpec, shape: tuple[int, ...]) -> int:
    """How many numbers a stranger's model gives for one image of `shape`: one a class, or one for two classes.

    Raises ValueError, in words for people, where it takes no such image or gives something else.
    """
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) > 1 or len(outputs) > 1:
        raise ValueError(f"its model has {len(inputs)} inputs and {len(outputs)} outputs; it must have one of each")
    if outputs:
        taken, given = tuple(inputs[0].shape)[1:], tuple(outputs[0].shape)[1:]
    else:  # a class of its own: it says so when it is tried
        taken, given = shape, tuple(np.asarray(model(np.zeros((1, *shape), np.float32), training=False)).shape)[1:]
    # Keras itself adds or takes away a last dimension of one.
    if not any(_fits(each, taken) for each in {shape, (*shape, 1), shape[:-1] if shape[-1] == 1 else shape}):
        raise ValueError(f"its model takes {taken}, the images of {data.name} are {shape}")
    if given != (data.classes,) and not (given == (1,) and data.classes == 2):
        raise ValueError(
            f"its model gives {given} for each image; it must give a number for each of the {data.classes} classes of "
            f"{data.name}: end it with keras.layers.Dense({data.classes}, activation='softmax')"
        )
    return int(given[0])


def _fits(shape: tuple[int, ...], taken: tuple[int | None, ...]) -> bool:
    return len(shape) == len(taken) and all(want in (None, have) for have, want in zip(shape, taken, strict=True))


def check_outputs(network: Any, data: DataSpec) -> None:
    """Raises ValueError where what a network that passed `check` gives for a few random images is no probabilities."""
    import keras

    shape = (TRIED, *data.input_shape)
    images = np.random.Generator(np.random.PCG64(0)).integers(0, 256, shape).astype(np.uint8)
    found = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(network(images, training=False), "float32")))
    sums = found.sum(axis=1, dtype=np.float64)
    # Not a number is no fault of the last layer: training says it.
    if (found < 0).any() or (np.abs(sums - 1) > TOLERANCE).any():
        raise ValueError(
            f"its network gives no probabilities: for a random image they are {found.min():.3g} to {found.max():.3g} "
            f"and sum up to {sums[0]:.3g}; end it with activation='softmax'"
        )


def foreign(network: Any) -> list[str]:
    """Layers that are none of Keras' own, or hold code: such a model trains, but nobody can load it safely."""
    import keras

    if not getattr(network, "inputs", None):  # a class of its own, which alone knows how its layers follow
        return [f"{network.name} ({type(network).__name__})"]
    return [
        f"{layer.name} ({type(layer).__name__})"
        for layer in leaves(network)
        if isinstance(layer, keras.layers.Lambda) or type(layer).__module__.partition(".")[0] != "keras"
    ]


def leaves(model: Any) -> Iterator[Any]:
    """The layers of a model but for its inputs; those of models in it are taken one by one."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer
