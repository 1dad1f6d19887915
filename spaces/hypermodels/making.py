"""Builds with a stranger's HyperModel and sees how its model is to be trained; Keras is there where this runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces import _contract
from spaces.datasets import DataSpec
from spaces.hypermodels import compiled, handed
from spaces.hypermodels.stranger import in_words, line_in

Ask = Callable[[Any, bool], Any]  # a hyperparameter of KerasTuner's, and whether it is active, for its value


class Broken(Exception):
    """Raised where a stranger's function fails; `function` is which, `line` that of its file.

    `fatal` says that it raised KerasTuner's FatalError, which is to end a search.
    """

    def __init__(self, function: str, words: str, line: int, *, fatal: bool = False) -> None:
        super().__init__(words)
        self.function, self.line, self.fatal = function, line, fatal


@dataclass(frozen=True, eq=False)
class Images:
    """Images in 0 to 1, float32 (n, height, width, channels), and class numbers (n,), to train and to validate on."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    x_val: npt.NDArray[np.float32]
    y_val: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ready:
    """A model as it was built and compiled, how it is to be trained, how its labels are and how many outputs it has."""

    model: Any
    call: handed.Call
    labels: str
    units: int


def hyperparameters(ask: Ask) -> Any:
    """A keras_tuner.HyperParameters whose active hyperparameters get the value that `ask` says, once each."""
    import keras_tuner

    class Drawn(keras_tuner.HyperParameters):
        def _register(self, hyperparameter: Any, overwrite: bool = False) -> Any:
            new = hyperparameter.name not in self.values
            value = super()._register(hyperparameter, overwrite)
            if not self.is_active(hyperparameter):
                ask(hyperparameter, False)
            elif new and not overwrite:
                value = self.values[hyperparameter.name] = ask(hyperparameter, True)
            return value

    return Drawn()


def replayed(config: Mapping[str, Any]) -> Any:
    """A keras_tuner.HyperParameters with the values of a configuration. Raises ValueError where one is not in it."""

    def known(hyperparameter: Any, active: bool) -> Any:
        if active and hyperparameter.name not in config:
            raise ValueError(
                f"hyperparameter {hyperparameter.name!r} was not drawn when this configuration was; what is drawn must "
                "depend on nothing but the values drawn before"
            )
        return config.get(hyperparameter.name)

    return hyperparameters(known)


def ready(
    hypermodel: Any, hp: Any, data: DataSpec, images: Images, *, path: Path, epochs: int, to_the_end: bool
) -> Ready:
    """Build with `hp`, and see how the model is to be trained.

    `to_the_end` as of `handed.handed`. Raises Broken.
    """
    import keras
    import keras_tuner

    function = "build"
    try:
        hypermodel.declare_hyperparameters(hp)
        model = hypermodel.build(hp)
        if not isinstance(model, keras.Model):
            raise TypeError(f"it returned {model!r:.60}, not a Keras model")
        function = "fit" if handed.has_own_fit(hypermodel) else "build"
        expected = compiled.labels_of(model, _units(model), data.classes)
        y, y_val = (compiled.shaped(each, expected, data.classes) for each in (images.y, images.y_val))
        given = handed.Given(images.x, y, images.x_val, y_val, epochs)
        call = handed.handed(hypermodel, hp, model, given, to_the_end=to_the_end)
        function = "build"
        if not model.compiled:
            raise ValueError("its model is not compiled: call model.compile(optimizer, loss, metrics=['accuracy'])")
        shape = tuple(call.x.shape)[1:]
        _build(model, shape)
        units = _contract.check_as_it_is(model, data, shape)
        labels = compiled.labels_of(model, units, data.classes)
        return Ready(model, _relabelled(call, given, images, labels, data.classes), labels, units)
    except Exception as error:
        fatal = isinstance(error, keras_tuner.errors.FatalError)
        raise Broken(function, in_words(error), line_in(error, path), fatal=fatal) from error


def _relabelled(call: handed.Call, given: handed.Given, images: Images, kind: str, classes: int) -> handed.Call:
    """The call with labels as the loss wants them that is compiled now, where fit() did not put others in place."""
    if call.y is given.y:
        call = replace(call, y=compiled.shaped(images.y, kind, classes))
    x_val, y_val, *weight = call.validation
    if y_val is given.y_val:
        call = replace(call, validation=(x_val, compiled.shaped(images.y_val, kind, classes), *weight))
    return call


def _build(model: Any, shape: tuple[int, ...]) -> None:
    """Make the weights of a model that waits for its first images to do so."""
    import keras

    if model.built:
        return
    if isinstance(model, keras.Sequential):
        model.build((None, *shape))
    else:
        model(np.zeros((1, *shape), np.float32))


def _units(model: Any) -> int | None:
    """How many numbers the model puts out for one image; None where it does not know yet."""
    try:
        shape = model.output_shape
    except (AttributeError, ValueError):
        return None
    return int(shape[-1]) if isinstance(shape, tuple) and shape and isinstance(shape[-1], int) else None
